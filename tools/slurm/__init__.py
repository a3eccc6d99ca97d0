"""A real Slurm on one machine, for tests and for developers.

Several nodes, two partitions and the commands of PBS, in one private folder. It writes nothing
outside that folder, and removes it when it stops. See ``python -m tools.slurm --help``.
"""

from tools.slurm.errors import SlurmError
from tools.slurm.local import INSTALL, LocalSlurm, missing_programs
from tools.slurm.queue import BatchJob, SlurmQueue
from tools.slurm.shape import ClusterShape

__all__ = [
    "INSTALL",
    "BatchJob",
    "ClusterShape",
    "LocalSlurm",
    "SlurmError",
    "SlurmQueue",
    "missing_programs",
]
