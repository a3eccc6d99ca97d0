"""What the benchmarks share: the tasks, how they are run and measured, and the table."""
