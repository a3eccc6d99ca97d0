"""The rows of a profile: what is recorded of each task that ran.

Workers and the main process import it: nothing heavy is imported here.
"""

from enum import StrEnum
from typing import NamedTuple


class TaskOutcome(StrEnum):
    """How one attempt at a task ended."""

    DONE = "done"
    FAILED = "failed"
    """It raised."""
    LOST = "lost"
    """Its worker ended while it ran: killed for its time or memory, or by itself."""


class Measure(NamedTuple):
    """What a worker measures of one task."""

    name: str
    start_s: float
    """Unix time at which it started, by the clock of its machine."""
    wall_s: float
    cpu_s: float
    """Of all threads of the worker, and of child processes that the task waited for."""
    peak_bytes: int
    """The highest memory of the worker during the task, counted as for `max_ram_per_worker`."""
    growth_bytes: int
    """The memory of the worker after the task, less that before it."""
    bytes_in: int | None
    """Of its call and of the results that it uses, as stored; None where nothing is stored."""
    bytes_out: int | None


class WorkerId(NamedTuple):
    """A process that runs tasks."""

    name: str
    """Unique in the run: `process 4711`, or the name that dask gives it."""
    host: str
    pid: int


class TaskRow(NamedTuple):
    """One attempt at a task: a row of a profile, in the order of its columns."""

    task: int
    """Its number in the run, in the order of declaration; the same for each attempt."""
    attempt: int
    """1 for the first."""
    outcome: TaskOutcome
    error: str | None
    """Why it is not done, in one line."""
    worker: WorkerId
    waiting_s: float | None
    """From the moment when it could run to its start; None where that is not known."""
    after: tuple[int, ...]
    """Numbers of the tasks whose results it uses."""
    measure: Measure


class LoopRow(NamedTuple):
    """One repetition of a task under loop_testing; the last, whose result is kept, has no row."""

    task: int
    name: str
    worker: str
    loop: int
    """1 for the first."""
    wall_s: float
    held_bytes: int
    """The private memory of its worker once its result is dropped."""


class LeakRow(NamedTuple):
    """A line of a repeated task that allocates what is never freed, according to memray."""

    task: int
    name: str
    worker: str
    file: str
    line: int
    function: str
    bytes_per_loop: int


class Repeats(NamedTuple):
    """The measurements of repeated tasks."""

    loops: tuple[LoopRow, ...] = ()
    leaks: tuple[LeakRow, ...] = ()
