"""From jobs to dask tasks and back: serialization, submission, scheduling, lost workers."""
