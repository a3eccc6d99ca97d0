"""Renewing a worker: how long it is missing, and what starting the next one costs.

Run with ``MAX_TASKS_PER_WORKER TASKS FOLDER``, it runs tasks under forkserver, and prints the gaps
between the last task of a worker and the first of its successor, and the processor time of all
processes.
"""

import os
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

from batuta.cluster import AbstractCluster
from batuta.orchestrator import Orchestrator
from benchmarks.orchestrator.support.tiles import spin
from benchmarks.support.figures import Figure, Target
from benchmarks.support.measure import FOLDER, Subject, best, print_result, take_turns
from benchmarks.support.processes import processor_s

TASK_S = 0.02


class Ran(NamedTuple):
    """A task: the process that ran it, when it started and when it ended, in s."""

    process: int
    started: float
    ended: float


def timed_spin() -> Ran:
    """Compute for a while; return when and where."""
    started = time.monotonic()
    spin(TASK_S)
    return Ran(os.getpid(), started, time.monotonic())


def gaps_s(tasks: list[Ran]) -> list[float]:
    """Return the time between the end of each worker and the start of its successor.

    The first worker to start is the successor of the first to end, and so on.
    """
    lives: dict[int, list[Ran]] = defaultdict(list)
    for task in tasks:
        lives[task.process].append(task)
    starts = sorted(min(task.started for task in life) for life in lives.values())
    ends = sorted(max(task.ended for task in life) for life in lives.values())
    workers = 2  # the first ones succeed nobody
    return [start - end for start, end in zip(starts[workers:], ends, strict=False)]


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
    print_result(
        time_s=middle, worst_s=gaps[-1] if gaps else 0.0, renewals=len(gaps), processor_s=used
    )


def _run(cluster: AbstractCluster, tasks: int) -> list[Ran]:
    delayed = [cluster.create_task(timed_spin)() for _ in range(tasks)]
    return list(cluster.future_iterator(cluster.start_tasks(delayed)))


DEFAULT_MAX_TASKS = 10
NEVER = 10**9


def figures(*, quick: bool) -> list[Figure]:
    """Measure the default renewal, and compare its processor time with that of no renewal."""
    tasks = 200 if quick else 400
    subjects = {
        str(max_tasks): Subject("renewal", (str(max_tasks), str(tasks), FOLDER))
        for max_tasks in (DEFAULT_MAX_TASKS, NEVER)
    }
    results = take_turns(subjects, 2 if quick else 5)
    renewing, never = results[str(DEFAULT_MAX_TASKS)], results[str(NEVER)]
    extra_s = best(renewing, "processor_s") - best(never, "processor_s")
    gap_s, worst_s = best(renewing), best(renewing, "worst_s")
    return [
        Figure(
            what="renewing a worker, its place empty (median)",
            measured=f"{gap_s * 1e3:.1f} ms",
            against=f"worst of a run: {worst_s * 1e3:.1f} ms",
            ratio=gap_s * 1e3,
            unit="ms",
            target=Target("at most", 50),
        ),
        Figure(
            what="renewing a worker, processor time",
            measured=f"{extra_s / renewing[0]['renewals'] * 1e3:.1f} ms",
        ),
    ]


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
