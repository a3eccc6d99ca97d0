"""What is known of one task that ran: the columns of a profile.

Read by workers and by the main process: nothing heavy is imported here.
"""

from enum import StrEnum
from typing import NamedTuple


class TaskOutcome(StrEnum):
    """How one attempt at a task ended."""

    DONE = "done"
    FAILED = "failed"
    """It raised."""
    LOST = "lost"
    """Its worker ended, or was ended, while it ran: for its time, its memory, or by itself."""


class Measure(NamedTuple):
    """What a worker measures of one task."""

    name: str
    start_s: float
    """Unix time at which it began, by the clock of its machine."""
    wall_s: float
    cpu_s: float
    """Of all threads of the worker, and of the programs that the task ran to their end."""
    peak_bytes: int
    """The most that the worker held while it ran, counted as `max_ram_per_worker` counts."""
    growth_bytes: int
    """What the worker holds after it, less what it held before."""
    bytes_in: int | None
    """Its call, and the results that it took, as they were stored; None where nothing is."""
    bytes_out: int | None


class WorkerId(NamedTuple):
    """A process that runs tasks."""

    name: str
    """One name for each process of the run: `process 4711`, or what dask calls it."""
    host: str
    pid: int


class TaskRow(NamedTuple):
    """One attempt at a task: a row of a profile, in the order of its columns."""

    task: int
    """Its number in the run, the same for each attempt; in the order of declaration."""
    attempt: int
    """1 for the first."""
    outcome: TaskOutcome
    error: str | None
    """Why it is not done, in one line."""
    worker: WorkerId
    waiting_s: float | None
    """Between the moment when it could run and its begin; None where that is not known."""
    after: tuple[int, ...]
    """Numbers of the tasks whose results it takes."""
    measure: Measure


class LoopRow(NamedTuple):
    """One repetition of a task, under loop_testing; not the last, whose result is kept."""

    task: int
    name: str
    worker: str
    loop: int
    """1 for the first."""
    wall_s: float
    held_bytes: int
    """What its worker holds once its result is dropped."""


class LeakRow(NamedTuple):
    """A line of a repeated task that allocates what is never freed, as memray sees it."""

    task: int
    name: str
    worker: str
    file: str
    line: int
    function: str
    bytes_per_loop: int


class Repeats(NamedTuple):
    """What repeating tasks has shown."""

    loops: tuple[LoopRow, ...] = ()
    leaks: tuple[LeakRow, ...] = ()
