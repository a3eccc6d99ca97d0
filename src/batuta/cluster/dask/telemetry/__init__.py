"""What dask workers report besides results: logs, memory, task metrics, profiler files."""
