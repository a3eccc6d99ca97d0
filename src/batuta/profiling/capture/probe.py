"""Measures what a task takes, in the process that runs it."""

import contextlib
import time
from collections.abc import Callable
from typing import Final, NamedTuple

from batuta.profiling.capture.memory import MemoryReader, memory_reader
from batuta.profiling.capture.records import Measure

READ_AFTER_S: Final = 0.0005
"""Memory is read after tasks of at least this long..."""
READ_EVERY_S: Final = 0.01
"""... and after shorter ones a hundred times a second: in so little time a process allocates a few
megabytes at most, and reading would cost as much as the task."""

try:
    import resource
except ImportError:  # Windows

    def _cpu_s() -> float:
        return time.process_time()
else:

    def _cpu_s() -> float:
        """Return the processor time of this process, and of child processes it waited for."""
        own = resource.getrusage(resource.RUSAGE_SELF)
        children = resource.getrusage(resource.RUSAGE_CHILDREN)
        return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime


class ProbeStart(NamedTuple):
    """What was measured when a task started."""

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
        What it uses before any task, which does not count either.
    alone : bool
        Whether tasks run one at a time. If not, the processor time is that of the task's thread,
        and the peak is that of the process since it started: it cannot be attributed to a task.
    """

    def __init__(self, *, private: bool, base_bytes: int = 0, alone: bool = True) -> None:
        self._base_bytes = base_bytes
        self._alone = alone
        self._cpu_s: Callable[[], float] = _cpu_s if alone else time.thread_time
        self._memory: MemoryReader = memory_reader(private=private)
        self._held_bytes = self._memory.read().current_bytes
        if alone:
            self._memory.reset_peak()  # what the process did before its first task is no task's
        self._read_s = 0.0

    def begin(self) -> ProbeStart:
        """Record that a task starts."""
        return ProbeStart(time.time(), time.perf_counter(), self._cpu_s(), self._held_bytes)

    def end(
        self,
        name: str,
        start: ProbeStart,
        bytes_in: int | None = None,
        bytes_out: int | None = None,
    ) -> Measure:
        """Measure a task that ends."""
        cpu_s = self._cpu_s() - start.cpu_s
        now_s = time.perf_counter()
        wall_s = now_s - start.clock_s
        peak_bytes = self._held_bytes
        if wall_s >= READ_AFTER_S or now_s - self._read_s >= READ_EVERY_S:
            self._read_s = now_s
            peak_bytes = self._read_peak()
        return Measure(
            name,
            start.start_s,
            wall_s,
            cpu_s,
            max(0, peak_bytes - self._base_bytes),
            self._held_bytes - start.held_bytes,
            bytes_in,
            bytes_out,
        )

    def _read_peak(self) -> int:
        """Read the memory; return the peak since it was last read."""
        # A task may have used up every file that a process can open: its result counts, its memory
        # is not known.
        with contextlib.suppress(OSError):
            self._held_bytes, peak_bytes = self._memory.read()
            if self._alone:
                self._memory.reset_peak()
            return peak_bytes
        return self._held_bytes
