"""Empty tasks in chains of two: ``cluster|orchestrator TASKS FOLDER``."""

import sys
import time
from pathlib import Path
from typing import Any, Final

from batuta.cluster import AbstractCluster
from batuta.datasets import CarsDataset
from batuta.orchestrator import Orchestrator
from benchmarks.orchestrator.measure import tell
from benchmarks.orchestrator.memory import Peak, own_bytes
from benchmarks.orchestrator.tiles import nothing

# Workers are not renewed: that has a figure of its own.
CONF: Final = {"mode": "multiprocessing", "nb_workers": 2, "max_tasks_per_worker": 10**9}
WARM_UP_TASKS: Final = 400
TILES_PER_ROW: Final = 100


def declare(cluster: AbstractCluster, chains: int) -> list[Any]:
    """Declare chains of two; give the last task of each."""
    create_task = cluster.create_task
    return [create_task(nothing)(create_task(nothing)()) for _ in range(chains)]


def compute(cluster: AbstractCluster, delayed: list[Any]) -> None:
    """Compute all, through the functions of the cluster."""
    for _ in cluster.future_iterator(cluster.start_tasks(delayed)):
        pass


def measured(orchestrator: Orchestrator, chains: int, *, through_datasets: bool) -> None:
    """Declare and compute, and tell the time and the memory that it took."""
    cluster = orchestrator.cluster
    before = own_bytes()
    begun = time.perf_counter()
    delayed = declare(cluster, chains)
    dataset = _dataset(delayed) if through_datasets else None
    declared_s = time.perf_counter() - begun
    declared = own_bytes()
    with Peak(whole_tree=False) as peak:
        if dataset is None:
            compute(cluster, delayed)
        else:
            del delayed
            orchestrator.add_to_compute_lists(dataset)
            orchestrator.breakpoint()
        time_s = time.perf_counter() - begun
    tell(
        time_s=time_s,
        declared_s=declared_s,
        declared_bytes=declared - before,
        peak_bytes=peak.bytes - before,
    )


def _dataset(delayed: list[Any]) -> CarsDataset:
    dataset = CarsDataset("dict", name="nothing")
    dataset.create_grid(TILES_PER_ROW, -(-len(delayed) // TILES_PER_ROW), 1, 1)
    for index, each in enumerate(delayed):
        dataset[divmod(index, TILES_PER_ROW)] = each
    return dataset


if __name__ == "__main__":
    through, count, folder = sys.argv[1:]
    with Orchestrator(CONF, Path(folder)) as running:
        compute(running.cluster, declare(running.cluster, WARM_UP_TASKS // 2))
        measured(running, int(count) // 2, through_datasets=through == "orchestrator")
