"""How busy two cores are with tasks of 50 ms that hold the interpreter lock.

Run with ``batuta|plain TASKS FOLDER``, it computes the tasks and prints the time.
"""

import multiprocessing
import multiprocessing.synchronize
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from batuta.cluster import AbstractCluster
from batuta.orchestrator import Orchestrator
from benchmarks.orchestrator.support.tiles import spin
from benchmarks.support.figures import Figure, Target
from benchmarks.support.measure import (
    FOLDER,
    Result,
    Subject,
    best,
    print_result,
    take_turns,
)

TASK_S: Final = 0.05
WARM_UP_TASKS: Final = 20


def plain(tasks: int, folder: Path) -> float:  # noqa: ARG001 - called as the other side is
    """Run half of them in each of two processes: the cores get no busier on this machine."""
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
    """Run them on a cluster, with the default configuration."""
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


CORES = 2


def figures(*, quick: bool) -> list[Figure]:
    """Compare the time that tasks take with the time that two cores have.

    The tasks count processor time: what else takes the cores, the main process of Batuta
    included, does not count.
    """
    tasks = 200 if quick else 400
    subjects = {side: Subject("busy", (side, str(tasks), FOLDER)) for side in ("batuta", "plain")}
    results = take_turns(subjects, 2 if quick else 5)
    return [
        _line("running", tasks, results, "running_s", Target("at least", 95)),
        _line(f"in all, {tasks} tasks", tasks, results, "time_s", None),
    ]


def _line(
    part: str, tasks: int, results: dict[str, list[Result]], key: str, target: Target | None
) -> Figure:
    percent = {
        side: 100 * tasks * TASK_S / (CORES * best(each, key)) for side, each in results.items()
    }
    return Figure(
        what=f"cores busy with tasks of 50 ms, {part}",
        measured=f"{percent['batuta']:.1f} %",
        against=f"two plain processes: {percent['plain']:.1f} %",
        ratio=percent["batuta"],
        unit="%",
        target=target,
    )


if __name__ == "__main__":
    who, count, folder = sys.argv[1:]
    started = time.perf_counter()
    running_s = SIDES[who](int(count), Path(folder))
    print_result(time_s=time.perf_counter() - started, running_s=running_s)
