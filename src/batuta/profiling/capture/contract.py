"""What calls tasks, and looks at them while they run: the seam between profilers and workers.

Workers import it: a profiler is imported only where it is asked for.
"""

import importlib.util
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeAlias

from batuta.errors import ConfigurationError
from batuta.profiling.capture.options import ProfileOptions
from batuta.profiling.capture.records import LeakRow, LoopRow, WorkerId

OpenCall: TypeAlias = Callable[[], tuple[Callable[..., Any], Sequence[Any], Mapping[str, Any]]]
"""Reads the call of a task: each time anew, so that its arguments are as they were declared."""


class CallLabel(NamedTuple):
    """Which attempt at which task is called."""

    number: int
    """Of the task in the run, as in `TaskRow`."""
    name: str
    attempt: int
    """1 for the first."""


class Caller(Protocol):
    """Calls the tasks of one process; several threads may ask it."""

    def call(self, task: CallLabel, opened: OpenCall) -> Any:
        """Run a task and give its value, or raise what it raises, unchanged."""

    def rest(self) -> None:
        """Record that the worker has nothing to do for now.

        What was taken long ago is delivered: it is not lost if the worker is killed later.
        """

    def flush(self) -> None:
        """Deliver all that was taken until now; to be called before the worker ends."""


class ProfileSink(Protocol):
    """Takes what a caller gives to where the profile is kept."""

    def place(self, folder: str, name: str) -> Path | None:
        """Return the path of a file that is kept as it grows, even if the process is killed.

        None where that cannot be: then a `draft` is written, and handed over whole.
        """

    def draft(self, folder: str, name: str) -> Path:
        """Return a path to write a file to before it is handed over, that no other process uses.

        What a killed process leaves there is for the maker of this object to find or remove.
        """

    def file(self, folder: str, name: str, path: Path) -> None:
        """Hand over a finished file; one of that name is replaced.

        Parameters
        ----------
        folder : str
            `layout.CPROFILE_FOLDER` or `layout.MEMRAY_FOLDER`.
        name : str
            Of letters, digits, dots, dashes and underscores.
        path : path
            The file, as `draft` named it: it is moved or removed.
        """

    def loops(self, rows: list[LoopRow]) -> None:
        """Hand over the repetitions of a task."""

    def leaks(self, rows: list[LeakRow]) -> None:
        """Hand over the lines of a task that allocate what is not freed."""


class PlainCaller:
    """Calls tasks, and nothing else."""

    def call(self, task: CallLabel, opened: OpenCall) -> Any:  # noqa: ARG002 - as a Caller is asked
        """Run a task and give its value."""
        function, args, kwargs = opened()
        return function(*args, **kwargs)

    def rest(self) -> None:
        """Nothing was taken."""

    def flush(self) -> None:
        """Nothing was taken."""


def check_available(options: ProfileOptions | None) -> None:
    """Refuse a profiler that is not there.

    Raises
    ------
    ConfigurationError
        If memray is asked for and is not installed, or cannot be.
    """
    if options is None or options.mode != "memray" or importlib.util.find_spec("memray"):
        return
    remedy = "pip install 'batuta[profiling]'"
    if sys.platform == "win32":
        remedy = 'it does not run on Windows; use mode "cars_profiling" or "cprofile"'
    raise ConfigurationError(f"profiling.mode: memray is not installed: {remedy}")


def make_caller(options: ProfileOptions | None, worker: WorkerId, deliver: ProfileSink) -> Caller:
    """Make what calls the tasks of a process.

    Parameters
    ----------
    options : ProfileOptions or None
        How tasks are profiled; None where they are not.
    worker : WorkerId
        This process.
    deliver : ProfileSink
        Takes what is found.

    Raises
    ------
    ConfigurationError
        As `check_available`.
    """
    if options is None or (options.mode == "cars_profiling" and options.loops == 1):
        return PlainCaller()
    check_available(options)
    from batuta.profiling.capture import profiler  # noqa: PLC0415 - only where it is asked for

    return profiler.make_looking_caller(options, worker, deliver)
