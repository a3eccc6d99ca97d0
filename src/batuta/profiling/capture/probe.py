"""Measures what a task takes, in the process that runs it."""

import contextlib
import time
from collections.abc import Callable
from typing import Final, NamedTuple

from batuta.profiling.capture.memory import Memory, memory_of_this_process
from batuta.profiling.capture.records import Measure

LOOK_AFTER_S: Final = 0.0005
"""Memory is looked at after tasks of at least this long..."""
LOOK_EVERY_S: Final = 0.01
"""... and after shorter ones a hundred times a second: in so little time a process can take some
megabytes at most, and looking would cost as much as the task."""

try:
    import resource
except ImportError:  # Windows

    def _cpu_s() -> float:
        return time.process_time()
else:

    def _cpu_s() -> float:
        """Return the processor time of this process, and of those that it ran to their end."""
        own = resource.getrusage(resource.RUSAGE_SELF)
        ended = resource.getrusage(resource.RUSAGE_CHILDREN)
        return own.ru_utime + own.ru_stime + ended.ru_utime + ended.ru_stime


class Begun(NamedTuple):
    """What was measured when a task began."""

    start_s: float
    clock_s: float
    cpu_s: float
    held_bytes: int


class Probe:
    """Measures the tasks of a process.

    Parameters
    ----------
    private : bool
        Whether what the process shares with others does not count as its memory.
    base_bytes : int
        What it holds before any task, which does not count either.
    alone : bool
        Whether tasks run one at a time. If not, the processor time is that of the task's thread,
        and the peak that of the process so far: nobody can tell whose it is.
    """

    def __init__(self, *, private: bool, base_bytes: int = 0, alone: bool = True) -> None:
        self._base_bytes = base_bytes
        self._alone = alone
        self._cpu_s: Callable[[], float] = _cpu_s if alone else time.thread_time
        self._memory: Memory = memory_of_this_process(private=private)
        self._held_bytes = self._memory.look().now
        if alone:
            self._memory.reset()  # what the process did before it ran tasks is no task's
        self._looked_s = 0.0

    def begin(self) -> Begun:
        """Record that a task begins."""
        return Begun(time.time(), time.perf_counter(), self._cpu_s(), self._held_bytes)

    def end(
        self, name: str, begun: Begun, bytes_in: int | None = None, bytes_out: int | None = None
    ) -> Measure:
        """Measure a task that ends."""
        cpu_s = self._cpu_s() - begun.cpu_s
        now_s = time.perf_counter()
        wall_s = now_s - begun.clock_s
        peak = self._held_bytes
        if wall_s >= LOOK_AFTER_S or now_s - self._looked_s >= LOOK_EVERY_S:
            self._looked_s = now_s
            peak = self._look()
        return Measure(
            name,
            begun.start_s,
            wall_s,
            cpu_s,
            max(0, peak - self._base_bytes),
            self._held_bytes - begun.held_bytes,
            bytes_in,
            bytes_out,
        )

    def _look(self) -> int:
        """Look at the memory; return its peak."""
        # A task may have taken every file that a process can open: its result counts, its memory
        # is not known.
        with contextlib.suppress(OSError):
            self._held_bytes, peak = self._memory.look()
            if self._alone:
                self._memory.reset()
            return peak
        return self._held_bytes
