"""What runs in a worker: clocks, memory, profilers. The only part that `batuta.cluster` imports."""
