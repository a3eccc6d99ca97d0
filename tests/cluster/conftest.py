from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from batuta.cluster import AbstractCluster, check_configuration, create_cluster
from batuta.cluster.dask.local import FORKSERVER_MODULES
from batuta.cluster.dask.settings import worker_environment
from batuta.cluster.local.cluster import MultiprocessingCluster
from batuta.cluster.local.forkserver import start_forkserver

MakeCluster = Callable[..., Any]


@pytest.fixture(scope="session", autouse=True)
def warm_forkserver() -> None:
    """Preload what tests call in workers: the first cluster of a process decides."""
    modules = ("tests.orchestrator.map_program", "pytest", *FORKSERVER_MODULES)
    start_forkserver(modules, worker_environment())


@pytest.fixture
def make_cluster(tmp_path: Path) -> Iterator[MakeCluster]:
    """Make multiprocessing clusters from some of their keys, and clean them up."""
    made: list[AbstractCluster] = []

    def make(**keys: Any) -> AbstractCluster:
        conf = {"mode": "multiprocessing", "max_tasks_per_worker": 1000, **keys}
        cluster = create_cluster(check_configuration(conf), tmp_path)
        made.append(cluster)
        return cluster

    yield make
    for cluster in made:
        cluster.cleanup()


@pytest.fixture
def cluster(make_cluster: MakeCluster) -> MultiprocessingCluster:
    found: MultiprocessingCluster = make_cluster()
    return found


def compute(cluster: Any, delayed: list[Any]) -> list[Any]:
    """Compute delayed objects; what failed is the exception itself."""
    outcomes: dict[int, Any] = {}
    futures = cluster.start_tasks(delayed)
    for future in cluster.as_completed(futures):
        try:
            outcomes[id(future)] = future.result()
        except Exception as exc:  # noqa: BLE001 - given back to be looked at
            outcomes[id(future)] = exc
    return [outcomes[id(future)] for future in futures]
