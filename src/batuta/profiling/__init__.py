"""What time and memory tasks take (seed 002): measured in workers, kept, summed up, shown."""
