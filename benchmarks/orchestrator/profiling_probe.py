"""What measuring one task costs, part by part, in processor time.

Run with ``TIMES FOLDER``, it does each part so many times in one process, and prints the quickest
of some rounds: even a busy machine then tells microseconds apart.
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
from benchmarks.orchestrator.support.tiles import nothing
from benchmarks.support.figures import MEASURING_LIMIT, Figure, Target
from benchmarks.support.measure import FOLDER, Subject, best, print_result, take_turns

ROUNDS: Final = 7
STEPS: Final = 2
"""Tasks of a job."""
_LENGTH_BYTES: Final = 8
"""That come before a message."""


def each_s(action: Callable[[], object], times: int) -> float:
    """Return the processor time of one call of many."""
    rounds = []
    for _ in range(ROUNDS):
        begun = time.thread_time()
        for _ in range(times):
            action()
        rounds.append((time.thread_time() - begun) / times)
    return min(rounds)


# In the worker


def short_task_s(times: int) -> float:
    """Return what measuring costs where memory is not read."""
    probe = Probe(private=True)
    with patch.object(probing, "READ_EVERY_S", float("inf")):
        return each_s(lambda: probe.end("task", probe.begin(), 1, 2), times)


def with_memory_s(times: int) -> float:
    """Return what measuring costs where memory is read."""
    probe = Probe(private=True)
    with patch.object(probing, "READ_AFTER_S", 0.0):
        return each_s(lambda: probe.end("task", probe.begin(), 1, 2), times)


def clock_s(times: int) -> float:
    """Return the cost of the least that one can do: reading the clock twice."""
    return each_s(lambda: (time.perf_counter(), time.perf_counter()), times)


def psutil_s(times: int) -> float:
    """Return what psutil costs before and after a task, for its time and memory, without peak."""
    process = psutil.Process()

    def measure() -> None:
        for _ in range(2):
            time.perf_counter()
            process.cpu_times()
            process.memory_info()

    return each_s(measure, times)


# From the worker to the main process


def message_s(times: int) -> float:
    """Return what the measures of a task add to the message that its job is done."""
    probe = Probe(private=True)
    measures = tuple(probe.end("task", probe.begin(), 1, 2) for _ in range(STEPS))

    def message_with_s(carried: tuple[Measure, ...]) -> float:
        done = JobDone(1, (None,), JobUsage(0, 0.001, carried, Repeats()))
        return each_s(lambda: pickle.loads(framed(done)[_LENGTH_BYTES:]), times)  # noqa: S301 - ours

    return (message_with_s(measures) - message_with_s(())) / STEPS


# In the main process


@dataclass(frozen=True)
class RecordingCost:
    """What the rows of a task cost in the main process, in s."""

    summed_up: float
    written: float


def recording_cost(times: int, folder: Path) -> RecordingCost:
    """Return what the main process does for a task that was measured."""
    return RecordingCost(
        summed_up=min(_summed_up_s(times) for _ in range(ROUNDS)),
        written=min(_written_s(times, folder / str(turn)) for turn in range(ROUNDS)),
    )


def _summed_up_s(times: int) -> float:
    measured = TaskMetrics()
    measured.sink = BasicSink()
    return _recorded_s(measured, _plan(times), lambda: None)


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
    return _recorded_s(measured, _plan(times), lambda: writer.close(info))


def _plan(times: int) -> ExecutionPlan:
    def chain() -> Delayed:
        first = Task(nothing, (), {}, 1)
        return Task(nothing, (first.outputs[0],), {}, 1).outputs[0]

    plan = make_plan([chain() for _ in range(times // STEPS)], fuse=True)
    for job in plan.jobs:
        job.ready_s = time.time()
    return plan


def _recorded_s(task_metrics: TaskMetrics, plan: ExecutionPlan, close: Callable[[], None]) -> float:
    """Record that the jobs of a plan ended; threads that write count too."""
    probe, worker = Probe(private=True), this_worker()
    measures = [probe.end("task", probe.begin(), 1, 2) for _ in range(STEPS)]
    begun = time.process_time()
    task_metrics.number_tasks(plan)
    for job in plan.jobs:
        task_metrics.record_job(job, measures, worker)
    close()
    return (time.process_time() - begun) / (len(plan.jobs) * STEPS)


def figures(*, quick: bool) -> list[Figure]:
    """Compare with the clock alone, and with what others measure tasks with."""
    times = 5_000 if quick else 20_000
    subject = Subject("profiling_probe", (str(times), FOLDER))
    results = take_turns({"parts": subject}, 2 if quick else 5)["parts"]
    us = {key: best(results, key) * 1e6 for key in results[0]}
    clock = f"the clock, twice: {us['clock_s']:.1f} us"
    reference = f"psutil, twice: {us['psutil_s']:.1f} us"
    in_all = {
        "the default": us["looked_s"] + us["message_s"] + us["summed_up_s"],
        "cars_profiling": us["looked_s"] + us["message_s"] + us["written_s"],
    }
    return [
        _part("measuring a task too short to look at memory", us["short_s"], clock),
        _part("measuring a task, with its memory", us["looked_s"], reference),
        _part("carrying its measures to the main process", us["message_s"]),
        _part("summing them up there (the default)", us["summed_up_s"]),
        _part("or writing them (cars_profiling)", us["written_s"]),
        *(
            _part(f"a task measured, all of these: {mode}", cost, reference, MEASURING_LIMIT)
            for mode, cost in in_all.items()
        ),
    ]


def _part(what: str, cost_us: float, against: str = "", target: Target | None = None) -> Figure:
    return Figure(
        what=what,
        measured=f"{cost_us:.1f} us",
        against=against,
        ratio=cost_us,
        unit="us",
        target=target,
    )


if __name__ == "__main__":
    count, where = int(sys.argv[1]), Path(sys.argv[2])
    in_main = recording_cost(count, where)
    print_result(
        short_s=short_task_s(count),
        looked_s=with_memory_s(count),
        clock_s=clock_s(count),
        psutil_s=psutil_s(count),
        message_s=message_s(count),
        summed_up_s=in_main.summed_up,
        written_s=in_main.written,
    )
