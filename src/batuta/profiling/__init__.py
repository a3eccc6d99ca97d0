"""The time and memory of tasks: measured in workers, written to files, analysed and reported."""
