"""Tasks of 50 ms of processor time that hold the interpreter: ``WHO TASKS FOLDER``."""

import multiprocessing
import multiprocessing.synchronize
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from batuta.cluster import AbstractCluster
from batuta.orchestrator import Orchestrator
from benchmarks.orchestrator.measure import tell
from benchmarks.orchestrator.tiles import spin

TASK_S: Final = 0.05
WARM_UP_TASKS: Final = 20


def plain(tasks: int, folder: Path) -> float:  # noqa: ARG001 - called as the other side is
    """Have two processes do half each: as busy as this machine's cores get."""
    ready = multiprocessing.Barrier(3)
    halves = [multiprocessing.Process(target=_spin, args=(tasks // 2, ready)) for _ in range(2)]
    for half in halves:
        half.start()
    ready.wait()
    begun = time.perf_counter()
    for half in halves:
        half.join()
    return time.perf_counter() - begun


def _spin(tasks: int, ready: multiprocessing.synchronize.Barrier) -> None:
    ready.wait()
    for _ in range(tasks):
        spin(TASK_S)


def with_batuta(tasks: int, folder: Path) -> float:
    """Have a cluster do it, with the default configuration."""
    with Orchestrator({"mode": "multiprocessing", "nb_workers": 2}, folder) as orchestrator:
        _compute(orchestrator.cluster, WARM_UP_TASKS, 0.001)
        begun = time.perf_counter()
        _compute(orchestrator.cluster, tasks, TASK_S)
        return time.perf_counter() - begun


def _compute(cluster: AbstractCluster, tasks: int, task_s: float) -> None:
    delayed = [cluster.create_task(spin)(task_s) for _ in range(tasks)]
    for _ in cluster.future_iterator(cluster.start_tasks(delayed)):
        pass


SIDES: Final[dict[str, Callable[[int, Path], float]]] = {"plain": plain, "batuta": with_batuta}


if __name__ == "__main__":
    who, count, folder = sys.argv[1:]
    started = time.perf_counter()
    running_s = SIDES[who](int(count), Path(folder))
    tell(time_s=time.perf_counter() - started, running_s=running_s)
