"""Tasks on dask: on this machine, in batch jobs of PBS or Slurm, or on an existing dask cluster.

`distributed` places tasks on workers and moves data, and `dask-jobqueue` submits batch jobs:
nothing here does that in their place. What is here decides what to submit and when, and what to do
about workers and batch jobs that are lost.
"""
