"""What measuring a task costs, part by part, in processor time: ``TIMES FOLDER``.

Each part is done many times in one process, and the quickest of some rounds counts: so even a busy
machine tells microseconds apart.
"""

import pickle
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from unittest.mock import patch

import psutil
import pyarrow.parquet  # noqa: F401 - imports are measured elsewhere

from batuta.cluster.execution import this_worker
from batuta.cluster.graph import ExecutionPlan, make_plan
from batuta.cluster.local.framing import framed
from batuta.cluster.local.worker_main import JobDone, JobUsage
from batuta.cluster.task_metrics import TaskMetrics
from batuta.cluster.tasks import Delayed, Task
from batuta.orchestrator.run_profile import BasicSink
from batuta.profiling.capture import probe as probing
from batuta.profiling.capture.probe import Probe
from batuta.profiling.capture.records import Measure, Repeats
from batuta.profiling.files.run_info import RunInfo, RunState
from batuta.profiling.files.writer import ProfileWriter
from benchmarks.orchestrator.measure import tell
from benchmarks.orchestrator.tiles import nothing

ROUNDS: Final = 7
STEPS: Final = 2
"""Tasks of a job."""
_LENGTH_BYTES: Final = 8
"""That come before a message."""


def each_s(action: Callable[[], object], times: int) -> float:
    """Give the processor time of one of many."""
    rounds = []
    for _ in range(ROUNDS):
        begun = time.thread_time()
        for _ in range(times):
            action()
        rounds.append((time.thread_time() - begun) / times)
    return min(rounds)


# In the worker


def short_task_s(times: int) -> float:
    """Give what measuring costs where memory is not looked at."""
    probe = Probe(private=True)
    with patch.object(probing, "READ_EVERY_S", float("inf")):
        return each_s(lambda: probe.end("task", probe.begin(), 1, 2), times)


def looked_at_s(times: int) -> float:
    """Give what it costs where memory is."""
    probe = Probe(private=True)
    with patch.object(probing, "READ_AFTER_S", 0.0):
        return each_s(lambda: probe.end("task", probe.begin(), 1, 2), times)


def clock_s(times: int) -> float:
    """Give what the least costs that one can do: to look at the clock twice."""
    return each_s(lambda: (time.perf_counter(), time.perf_counter()), times)


def psutil_s(times: int) -> float:
    """Give what psutil costs before and after a task, for its time and its memory, no peak."""
    process = psutil.Process()

    def measure() -> None:
        for _ in range(2):
            time.perf_counter()
            process.cpu_times()
            process.memory_info()

    return each_s(measure, times)


# From the worker to the main process


def message_s(times: int) -> float:
    """Give what carrying the measures of a task adds to the message that its job is done."""
    probe = Probe(private=True)
    measures = tuple(probe.end("task", probe.begin(), 1, 2) for _ in range(STEPS))

    def carried_s(carried: tuple[Measure, ...]) -> float:
        done = JobDone(1, (None,), JobUsage(0, 0.001, carried, Repeats()))
        return each_s(lambda: pickle.loads(framed(done)[_LENGTH_BYTES:]), times)  # noqa: S301 - ours

    return (carried_s(measures) - carried_s(())) / STEPS


# In the main process


@dataclass(frozen=True)
class Kept:
    """What the rows of a task cost in the main process, in s."""

    summed_up: float
    written: float


def kept_s(times: int, folder: Path) -> Kept:
    """Give what the main process does for a task that was measured."""
    return Kept(
        summed_up=min(_summed_up_s(times) for _ in range(ROUNDS)),
        written=min(_written_s(times, folder / str(turn)) for turn in range(ROUNDS)),
    )


def _summed_up_s(times: int) -> float:
    measured = TaskMetrics()
    measured.sink = BasicSink()
    return _taken_s(measured, _plan(times), lambda: None)


def _written_s(times: int, folder: Path) -> float:
    folder.mkdir()
    info = RunInfo(
        state=RunState.RUNNING,
        version="",
        mode="multiprocessing",
        config={},
        host="",
        cores=2,
        ram_bytes=0,
        started_s=time.time(),
    )
    measured = TaskMetrics()
    writer = measured.sink = ProfileWriter(folder, info)
    return _taken_s(measured, _plan(times), lambda: writer.close(info))


def _plan(times: int) -> ExecutionPlan:
    def chain() -> Delayed:
        first = Task(nothing, (), {}, 1)
        return Task(nothing, (first.outputs[0],), {}, 1).outputs[0]

    plan = make_plan([chain() for _ in range(times // STEPS)], fuse=True)
    for job in plan.jobs:
        job.ready_s = time.time()
    return plan


def _taken_s(task_metrics: TaskMetrics, plan: ExecutionPlan, close: Callable[[], None]) -> float:
    """Have the jobs of a plan end; threads that write count too."""
    probe, worker = Probe(private=True), this_worker()
    measures = [probe.end("task", probe.begin(), 1, 2) for _ in range(STEPS)]
    begun = time.process_time()
    task_metrics.number_tasks(plan)
    for job in plan.jobs:
        task_metrics.record_job(job, measures, worker)
    close()
    return (time.process_time() - begun) / (len(plan.jobs) * STEPS)


if __name__ == "__main__":
    count, where = int(sys.argv[1]), Path(sys.argv[2])
    in_main = kept_s(count, where)
    tell(
        short_s=short_task_s(count),
        looked_s=looked_at_s(count),
        clock_s=clock_s(count),
        psutil_s=psutil_s(count),
        message_s=message_s(count),
        summed_up_s=in_main.summed_up,
        written_s=in_main.written,
    )
