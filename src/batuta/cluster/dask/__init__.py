"""Tasks on dask: on this machine, in the jobs of PBS or Slurm, or on a cluster that is there.

The engine is `distributed`, and `dask-jobqueue` submits the jobs: nothing here schedules tasks on
workers, moves data, or talks to a batch system in their place. What is here decides what to hand
them and when, and tells what becomes of it.
"""
