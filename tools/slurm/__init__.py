"""A real Slurm on one machine, for tests and for developers.

Several nodes, two partitions and PBS's commands, in one private folder. Nothing outside that
folder is written, and nothing of it stays when it stops. See ``python -m tools.slurm --help``.
"""

from tools.slurm.errors import SlurmError
from tools.slurm.local import INSTALL, LocalSlurm, missing_programs
from tools.slurm.queue import Job, SlurmQueue
from tools.slurm.shape import ClusterShape

__all__ = [
    "INSTALL",
    "ClusterShape",
    "Job",
    "LocalSlurm",
    "SlurmError",
    "SlurmQueue",
    "missing_programs",
]
