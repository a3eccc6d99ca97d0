"""Where tasks run: the contract of a cluster, and the modes that keep to it."""

from batuta.cluster.contract import AbstractCluster, Future
from batuta.cluster.errors import (
    ClusterBrokenError,
    ClusterError,
    ClusterStalledError,
    NoSpaceError,
    TaskFailedError,
    TaskTimeoutError,
    UnpicklableError,
    WorkerLostError,
    WorkerMemoryError,
)
from batuta.cluster.factory import check_configuration, create_cluster
from batuta.cluster.modes import available_modes

__all__ = [
    "AbstractCluster",
    "ClusterBrokenError",
    "ClusterError",
    "ClusterStalledError",
    "Future",
    "NoSpaceError",
    "TaskFailedError",
    "TaskTimeoutError",
    "UnpicklableError",
    "WorkerLostError",
    "WorkerMemoryError",
    "available_modes",
    "check_configuration",
    "create_cluster",
]
