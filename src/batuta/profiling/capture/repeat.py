"""Runs each task several times, and looks at what its worker holds after each."""

import ctypes
import functools
import gc
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from batuta.profiling.capture.contract import Caller, CallLabel, OpenCall, ProfileSink
from batuta.profiling.capture.memory import Memory, memory_of_this_process
from batuta.profiling.capture.options import ProfileOptions
from batuta.profiling.capture.profiler import Lens, Look, make_lens
from batuta.profiling.capture.records import LoopRow, WorkerId


class Repetitions:
    """The repetitions of one attempt at a task.

    Parameters
    ----------
    task : CallLabel
        The attempt.
    opened : OpenCall
        Gives fresh arguments to each repetition.
    worker : str
        Name of this process.
    """

    def __init__(self, task: CallLabel, opened: OpenCall, worker: str) -> None:
        self.task = task
        self.rows: list[LoopRow] = []
        """Of those that came to their end, and whose values were dropped."""
        self._opened = opened
        self._worker = worker
        self._began_s = 0.0

    def run(self, look: Look) -> Any:
        """Run the task once more and give its value."""
        return look(self._open)

    def run_and_drop(self, look: Look, times: int) -> None:
        """Run the task some times more, drop its values and look at what is held after each."""
        number, name, _ = self.task
        for _ in range(times):
            wall_s = self._timed(look)
            loop = len(self.rows) + 1
            self.rows.append(LoopRow(number, name, self._worker, loop, wall_s, held_bytes()))

    def _timed(self, look: Look) -> float:
        self.run(look)
        return time.perf_counter() - self._began_s

    def _open(self) -> tuple[Any, Any, Any]:
        call = self._opened()
        self._began_s = time.perf_counter()
        return call


class LoopCaller:
    """Runs each task several times, each on fresh arguments; the last gives the result.

    Parameters
    ----------
    times : int
        How many.
    lens : Lens
        Looks at each repetition.
    worker : WorkerId
        This process.
    deliver : ProfileSink
        Takes the rows.
    """

    def __init__(self, times: int, lens: Lens, worker: WorkerId, deliver: ProfileSink) -> None:
        self._times = times
        self._lens = lens
        self._worker = worker.name
        self._deliver = deliver

    def call(self, task: CallLabel, opened: OpenCall) -> Any:
        """Run a task, and give its last value or raise what a repetition raises."""
        repetitions = Repetitions(task, opened, self._worker)
        try:
            with older_objects_left_alone(), self._lens.on(task) as look:
                repetitions.run_and_drop(look, self._times - 1)
                return repetitions.run(look)
        finally:
            self._deliver.loops(repetitions.rows)

    def rest(self) -> None:
        """Deliver what the lens took long ago."""
        self._lens.rest()

    def flush(self) -> None:
        """Deliver what the lens took."""
        self._lens.flush()


def make_loop_caller(options: ProfileOptions, worker: WorkerId, deliver: ProfileSink) -> Caller:
    """Make what runs each task several times."""
    if options.mode == "memray":
        from batuta.profiling.capture.leaks import LeakCaller  # noqa: PLC0415 - only where asked for

        return LeakCaller(options.loops, worker, deliver)
    return LoopCaller(options.loops, make_lens(options, worker, deliver), worker, deliver)


@contextmanager
def older_objects_left_alone() -> Iterator[None]:
    """Have garbage looked for among new objects alone: all those of a program take long to search.

    Where a program leaves objects alone already, it goes on with that.
    """
    if gc.get_freeze_count():
        yield
        return
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def held_bytes() -> int:
    """Measure the private memory of this process, garbage collected and free blocks given back.

    The C library keeps what is freed for what will be allocated next: where it can be asked to
    give it back (glibc, `malloc_trim`), it is, so that only what is held counts.
    """
    gc.collect()
    _give_back()
    return _memory().look().now


@functools.cache
def _memory() -> Memory:
    return memory_of_this_process(private=True)


def _give_back() -> None:
    for trim in _trims():
        trim(0)


@functools.cache
def _trims() -> Iterable[Callable[[int], int]]:
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    return () if trim is None else (trim,)
