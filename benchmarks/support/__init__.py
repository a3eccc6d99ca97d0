"""What all benchmarks share: figures and their table, subjects that take turns, processes."""
