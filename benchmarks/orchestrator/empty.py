"""What an empty task costs, from a thousand of them to a million, in chains of two.

Run with ``cluster|orchestrator TASKS FOLDER``, it computes them and prints the time and the memory.
"""

import sys
import time
from pathlib import Path
from typing import Any, Final

from batuta.cluster import AbstractCluster
from batuta.datasets import CarsDataset
from batuta.orchestrator import Orchestrator
from benchmarks.orchestrator.support.tiles import nothing
from benchmarks.support.figures import Figure, Target
from benchmarks.support.measure import (
    FOLDER,
    Result,
    Subject,
    best,
    print_result,
    take_turns,
)
from benchmarks.support.processes import Peak, own_bytes

# Workers are not renewed: `renewal` measures that.
CONF: Final = {"mode": "multiprocessing", "nb_workers": 2, "max_tasks_per_worker": 10**9}
WARM_UP_TASKS: Final = 400
TILES_PER_ROW: Final = 100


def declare(cluster: AbstractCluster, chains: int) -> list[Any]:
    """Declare chains of two; return the last delayed object of each."""
    create_task = cluster.create_task
    return [create_task(nothing)(create_task(nothing)()) for _ in range(chains)]


def compute(cluster: AbstractCluster, delayed: list[Any]) -> None:
    """Compute all, through the functions of the cluster."""
    for _ in cluster.future_iterator(cluster.start_tasks(delayed)):
        pass


def measure(orchestrator: Orchestrator, chains: int, *, through_datasets: bool) -> None:
    """Declare and compute chains; print the time and the memory that it took."""
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
    print_result(
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


SIZES = (1_000, 10_000, 100_000, 1_000_000)
TURNS = {1_000: 9, 10_000: 5, 100_000: 3, 1_000_000: 1}
THROUGH_DATASETS = 100_000


def figures(*, quick: bool) -> list[Figure]:
    """Compare sizes with each other: the cost of a task must not grow with their number."""
    sizes = SIZES[:3] if quick else SIZES
    subjects = {
        str(size): Subject("empty", ("cluster", str(size), FOLDER), turns=TURNS[size])
        for size in sizes
    }
    arguments = ("orchestrator", str(THROUGH_DATASETS), FOLDER)
    subjects["datasets"] = Subject("empty", arguments, turns=1 if quick else 3)
    results = take_turns(subjects, max(TURNS.values()))
    costs_us = {size: best(results[str(size)]) / size * 1e6 for size in sizes}
    lines = [_cost(size, costs_us) for size in sizes]
    lines += [_memory(size, results[str(size)]) for size in sizes[-2:]]
    through = best(results["datasets"]) / THROUGH_DATASETS * 1e6
    return [*lines, _through_datasets(through, costs_us[THROUGH_DATASETS])]


def _cost(size: int, costs_us: dict[int, float]) -> Figure:
    least = min(costs_us.values())
    return Figure(
        what=f"an empty task, of {size:,}",
        measured=f"{costs_us[size]:.1f} us",
        against=f"the cheapest of these: {least:.1f} us",
        ratio=costs_us[size] / least,
        target=Target("at most", 1.2),
    )


def _memory(size: int, results: list[Result]) -> Figure:
    declared = best(results, "declared_bytes") / size
    peak = best(results, "peak_bytes") / size
    return Figure(
        what=f"memory per task, of {size:,}",
        measured=f"{declared:.0f} B declared",
        against=f"at most, while they run: {peak:.0f} B",
        ratio=max(declared, peak),
        unit="B",
        target=Target("at most", 1000),
    )


def _through_datasets(own_us: float, cluster_us: float) -> Figure:
    return Figure(
        what=f"an empty task in a CarsDataset, of {THROUGH_DATASETS:,}",
        measured=f"{own_us:.1f} us",
        against=f"by the cluster alone: {cluster_us:.1f} us",
        ratio=own_us / cluster_us,
    )


if __name__ == "__main__":
    through, count, folder = sys.argv[1:]
    with Orchestrator(CONF, Path(folder)) as running:
        compute(running.cluster, declare(running.cluster, WARM_UP_TASKS // 2))
        measure(running, int(count) // 2, through_datasets=through == "orchestrator")
