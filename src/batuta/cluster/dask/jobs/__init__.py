"""dask workers in a batch system's jobs: submitted, scaled, and cancelled whatever happens."""
