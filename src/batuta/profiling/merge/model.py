"""What cprofile, memray and loop_testing found in a run, as plain values to be shown."""

from dataclasses import dataclass

from batuta.profiling.capture.attribution import Line


@dataclass(frozen=True)
class FunctionTime:
    """What calls of a function took, in all profiles."""

    function: str
    file: str
    line: int
    calls: int
    own_s: float
    """Without what it called."""
    total_s: float
    """With what it called; of a recursive function, its outermost calls."""


@dataclass(frozen=True)
class Times:
    """Where the time of the tasks of one name went, or of all."""

    task: str | None
    """None is all tasks."""
    profiles: int
    total_s: float
    by_total: tuple[FunctionTime, ...]
    """Those with most time, what they called included."""
    by_own: tuple[FunctionTime, ...]
    """Those with most time of their own."""


@dataclass(frozen=True)
class LineBytes:
    """What a line of source held."""

    line: Line
    held_bytes: int
    allocations: int


@dataclass(frozen=True)
class Peak:
    """What a worker, or a task, held when it held most; as memray counts it, from its start."""

    name: str
    """Of the file, without its ending."""
    peak_bytes: int
    lines: tuple[LineBytes, ...]
    """That held most of it, most first."""


@dataclass(frozen=True)
class Leak:
    """A line that allocates in each repetition of a task what is never freed."""

    task: str
    line: Line
    bytes_per_loop: int
    """The median of its tasks."""
    tasks: int
    """In how many tasks of that name it was seen."""


@dataclass(frozen=True)
class ModeReport:
    """What profilers found in a run; empty where they were not asked for."""

    times: tuple[Times, ...] = ()
    """Of all tasks first; then by task name, where each task has a profile. The most first."""
    peaks: tuple[Peak, ...] = ()
    """Of each file of memray, the highest first."""
    lines: tuple[LineBytes, ...] = ()
    """The most that each line held at any of these peaks, most first."""
    leaks: tuple[Leak, ...] = ()
    """The most first."""
    notes: tuple[str, ...] = ()
    """What could not be read or seen, one line each."""
