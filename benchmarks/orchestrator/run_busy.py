"""Tasks of 50 ms of processor time that hold the interpreter: ``WHO TASKS FOLDER``."""

import multiprocessing
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from batuta.orchestrator import Orchestrator
from benchmarks.orchestrator.measure import tell
from benchmarks.orchestrator.tiles import spin

TASK_S: Final = 0.05


def plain(tasks: int, folder: Path) -> None:  # noqa: ARG001 - called as the other side is
    """Have two processes do half each: as busy as this machine's cores get."""
    halves = [multiprocessing.Process(target=_spin, args=(tasks // 2,)) for _ in range(2)]
    for half in halves:
        half.start()
    for half in halves:
        half.join()


def _spin(tasks: int) -> None:
    for _ in range(tasks):
        spin(TASK_S)


def with_batuta(tasks: int, folder: Path) -> None:
    """Have a cluster do it, with the default configuration."""
    with Orchestrator({"mode": "multiprocessing", "nb_workers": 2}, folder) as orchestrator:
        cluster = orchestrator.cluster
        futures = cluster.start_tasks([cluster.create_task(spin)(TASK_S) for _ in range(tasks)])
        for future in cluster.future_iterator(futures):
            future.result()


SIDES: Final[dict[str, Callable[[int, Path], None]]] = {"plain": plain, "batuta": with_batuta}


if __name__ == "__main__":
    who, count, folder = sys.argv[1:]
    begun = time.perf_counter()
    SIDES[who](int(count), Path(folder))
    tell(time_s=time.perf_counter() - begun)
