"""Repeats each task and measures what its worker holds after each repetition."""

import ctypes
import functools
import gc
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from batuta.profiling.capture.contract import (
    CallLabel,
    OpenCall,
    Profiler,
    ProfileSink,
    RunCall,
)
from batuta.profiling.capture.memory import MemoryReader, memory_reader
from batuta.profiling.capture.records import LoopRow, WorkerId


class Repetitions:
    """The repetitions of one attempt at a task.

    Parameters
    ----------
    task : CallLabel
        The attempt.
    open_call : OpenCall
        Loads fresh arguments for each repetition.
    worker : str
        Name of this process.
    """

    def __init__(self, task: CallLabel, open_call: OpenCall, worker: str) -> None:
        self.task = task
        self.rows: list[LoopRow] = []
        """Of the repetitions that ended, and whose values were dropped."""
        self._open_call = open_call
        self._worker = worker
        self._started_s = 0.0

    def run(self, run: RunCall) -> Any:
        """Run the task once more and return its value."""
        return run(self.load_call)

    def run_and_drop(self, run: RunCall, times: int) -> None:
        """Run the task several times more, drop its values, and measure what is held after each."""
        number, name, _ = self.task
        for _ in range(times):
            self.run(run)
            wall_s = time.perf_counter() - self._started_s
            loop = len(self.rows) + 1
            self.rows.append(LoopRow(number, name, self._worker, loop, wall_s, held_bytes()))

    def load_call(self) -> tuple[Any, Any, Any]:
        """Load the call; the time that this takes is not the task's."""
        call = self._open_call()
        self._started_s = time.perf_counter()
        return call


class RepeatingCaller:
    """Runs each task several times, each on fresh arguments; the last run gives the result.

    Parameters
    ----------
    times : int
        How many.
    profiler : Profiler
        Profiles each repetition.
    worker : WorkerId
        This process.
    sink : ProfileSink
        Where the rows are delivered.
    """

    def __init__(self, times: int, profiler: Profiler, worker: WorkerId, sink: ProfileSink) -> None:
        self._times = times
        self._profiler = profiler
        self._worker = worker.name
        self._sink = sink

    def call(self, task: CallLabel, open_call: OpenCall) -> Any:
        """Run a task, and return its last value or raise what a repetition raises."""
        repetitions = Repetitions(task, open_call, self._worker)
        try:
            with existing_objects_frozen(), self._profiler.profile(task) as run:
                repetitions.run_and_drop(run, self._times - 1)
                return repetitions.run(run)
        finally:
            self._sink.deliver_loops(repetitions.rows)

    def on_idle(self) -> None:
        """Deliver profiles that have been held for a while."""
        self._profiler.on_idle()

    def flush(self) -> None:
        """Deliver everything recorded so far."""
        self._profiler.flush()


@contextmanager
def existing_objects_frozen() -> Iterator[None]:
    """Restrict garbage collection to objects that are made from now on.

    Each repetition ends with a full collection, and traversing all objects of a program, its
    modules included, takes long.
    """
    # Where the program has frozen objects itself, unfreezing would release those too.
    if gc.get_freeze_count():
        yield
        return
    gc.collect()  # or the garbage of before would be frozen with the rest, and kept
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def held_bytes() -> int:
    """Measure the private memory of this process, without garbage and free blocks.

    The C library keeps what is freed for later allocations: where it can be asked to return it to
    the system (glibc, `malloc_trim`), it is, so that only what is in use counts.
    """
    gc.collect()
    for trim in _trim_functions():
        trim(0)
    return _memory().read().current_bytes


@functools.cache
def _memory() -> MemoryReader:
    return memory_reader(private=True)


@functools.cache
def _trim_functions() -> Iterable[Callable[[int], int]]:
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    return () if trim is None else (trim,)
