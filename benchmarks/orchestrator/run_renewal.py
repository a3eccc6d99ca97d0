"""Renewing a worker: ``MAX_TASKS_PER_WORKER TASKS FOLDER``, under forkserver.

Tells the gaps between the last task of a worker and the first of the one in its place, and the
processor time of all processes.
"""

import contextlib
import os
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

import psutil

from batuta.cluster import AbstractCluster
from batuta.orchestrator import Orchestrator
from benchmarks.orchestrator.measure import tell
from benchmarks.orchestrator.tiles import spin

TASK_S = 0.02


class Ran(NamedTuple):
    """A task: the process that ran it, when it started and when it ended, in s."""

    process: int
    started: float
    ended: float


def timed_spin() -> Ran:
    """Compute for a while, and tell when and where."""
    started = time.monotonic()
    spin(TASK_S)
    return Ran(os.getpid(), started, time.monotonic())


def gaps_s(tasks: list[Ran]) -> list[float]:
    """Give the time that passed between each worker that ended and the one that came for it.

    Workers that start take the places of those that ended in the order of both.
    """
    lives: dict[int, list[Ran]] = defaultdict(list)
    for task in tasks:
        lives[task.process].append(task)
    starts = sorted(min(task.started for task in life) for life in lives.values())
    ends = sorted(max(task.ended for task in life) for life in lives.values())
    places = 2  # of workers: the first ones took nobody's
    return [start - end for start, end in zip(starts[places:], ends, strict=False)]


def processor_s() -> float:
    """Give the processor time of this process and of all that it started, ended ones included."""
    while True:
        processes = [psutil.Process(), *psutil.Process().children(recursive=True)]
        with contextlib.suppress(
            psutil.NoSuchProcess
        ):  # one ended meanwhile: its time is another's
            return float(sum(sum(process.cpu_times()[:4]) for process in processes))


def main(max_tasks: int, tasks: int, folder: Path) -> None:
    """Run the tasks one after the other on two workers."""
    conf = {"mode": "multiprocessing", "nb_workers": 2, "max_tasks_per_worker": max_tasks}
    with Orchestrator(conf, folder) as orchestrator:
        cluster = orchestrator.cluster
        _run(cluster, 20)
        before = processor_s()
        ran = _run(cluster, tasks)
        used = processor_s() - before
    gaps = sorted(gaps_s(ran))
    middle = gaps[len(gaps) // 2] if gaps else 0.0
    tell(time_s=middle, worst_s=gaps[-1] if gaps else 0.0, renewals=len(gaps), processor_s=used)


def _run(cluster: AbstractCluster, tasks: int) -> list[Ran]:
    delayed = [cluster.create_task(timed_spin)() for _ in range(tasks)]
    return list(cluster.future_iterator(cluster.start_tasks(delayed)))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
