"""What cprofile, memray and loop_testing found in a run, as plain values for reports."""

from dataclasses import dataclass

from batuta.profiling.capture.attribution import Line


@dataclass(frozen=True)
class FunctionTime:
    """The time of the calls of a function, in all profiles."""

    function: str
    file: str
    line: int
    calls: int
    own_s: float
    """Without what it called."""
    total_s: float
    """With what it called; of a recursive function, its outermost calls."""


@dataclass(frozen=True)
class TaskTimes:
    """Where the time of all tasks went, or of those of one name."""

    task: str | None
    """Name of the tasks; None for all."""
    profiles: int
    total_s: float
    by_total: tuple[FunctionTime, ...]
    """The functions with most time, including what they called."""
    by_own: tuple[FunctionTime, ...]
    """The functions with most time of their own."""


@dataclass(frozen=True)
class LineMemory:
    """The memory that a line of source held."""

    line: Line
    held_bytes: int
    allocations: int


@dataclass(frozen=True)
class MemoryPeak:
    """The memory of a worker, or of a task, at its peak; as memray counts it, from its start."""

    name: str
    """Of the file, without its suffix."""
    peak_bytes: int
    lines: tuple[LineMemory, ...]
    """Those that held most of it, the largest first."""


@dataclass(frozen=True)
class Leak:
    """A line that allocates memory in each repetition of a task, and never frees it."""

    task: str
    line: Line
    bytes_per_loop: int
    """The median of its tasks."""
    tasks: int
    """The number of tasks of that name in which it was found."""


@dataclass(frozen=True)
class ProfilerReport:
    """What profilers found in a run; empty where none was asked for."""

    times: tuple[TaskTimes, ...] = ()
    """Of all tasks first; then by task name, where each task has a profile, the longest first."""
    peaks: tuple[MemoryPeak, ...] = ()
    """Of each file of memray, the highest first."""
    lines: tuple[LineMemory, ...] = ()
    """The most that each line held at any of these peaks, the largest first."""
    leaks: tuple[Leak, ...] = ()
    """The largest first."""
    notes: tuple[str, ...] = ()
    """What could not be read or profiled, one line each."""
