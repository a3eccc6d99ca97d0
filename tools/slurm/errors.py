"""The error of a local Slurm."""


class SlurmError(Exception):
    """A local Slurm cannot do what was asked; the message says why, in a few lines."""
