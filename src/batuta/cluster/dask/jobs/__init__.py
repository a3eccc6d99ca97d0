"""dask workers in batch jobs: submitted, replaced when they end, and cancelled whatever happens."""
