"""The contract between the workers, which run tasks, and the profilers around those tasks.

Protocols and plain values only: every worker imports this module. `factory` makes the objects, and
imports a profiler when one is asked for.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeAlias

from batuta.profiling.capture.records import LeakRow, LoopRow

OpenCall: TypeAlias = Callable[[], tuple[Callable[..., Any], Sequence[Any], Mapping[str, Any]]]
"""Loads the call of a task: function, positional and keyword arguments.

Each time anew, so that a task that runs again finds its arguments as they were declared.
"""

RunCall: TypeAlias = Callable[[OpenCall], Any]
"""Loads a call, runs it once under a profiler, and returns its value."""


class CallLabel(NamedTuple):
    """Which attempt at which task is called."""

    number: int
    """Of the task in the run, as in `TaskRow`."""
    name: str
    attempt: int
    """1 for the first."""


class Caller(Protocol):
    """Calls the tasks of one process; its methods may be called from several threads."""

    def call(self, task: CallLabel, open_call: OpenCall) -> Any:
        """Run a task and return its value, or raise what it raises, unchanged."""

    def on_idle(self) -> None:
        """Record that the worker has nothing to do for now.

        Profiles that have been held for a while are delivered: they are not lost if the worker is
        killed later.
        """

    def flush(self) -> None:
        """Deliver everything recorded so far; to be called before the worker ends."""


class Profiler(Protocol):
    """Profiles tasks; called by one thread at a time, in the process that made it."""

    def profile(self, task: CallLabel) -> AbstractContextManager[RunCall]:
        """Profile an attempt at a task.

        The context yields what runs the call, any number of times.
        """

    def on_idle(self) -> None:
        """Deliver profiles that have been held for a while."""

    def flush(self) -> None:
        """Deliver everything recorded so far."""


class ProfileSink(Protocol):
    """Carries what profilers record in a worker to the profile of the run."""

    def live_path(self, folder: str, name: str) -> Path | None:
        """Return the final path of a file that is useful while it grows, if it can be used.

        Such a file survives the death of its process. None where the sink cannot offer that: the
        file is then written to `draft_path`, and delivered when it is complete.
        """

    def draft_path(self, folder: str, name: str) -> Path:
        """Return a path, used by no other process, to write a file to before it is delivered.

        Whoever made the sink finds or removes the drafts of killed processes.
        """

    def deliver_file(self, folder: str, name: str, draft: Path) -> None:
        """Deliver a complete file; it replaces one of the same name.

        Parameters
        ----------
        folder : str
            `layout.CPROFILE_FOLDER` or `layout.MEMRAY_FOLDER`.
        name : str
            Of letters, digits, dots, dashes and underscores.
        draft : path
            The file, at the path that `draft_path` returned: it is moved or removed.
        """

    def deliver_loops(self, rows: list[LoopRow]) -> None:
        """Deliver the repetitions of a task."""

    def deliver_leaks(self, rows: list[LeakRow]) -> None:
        """Deliver the lines of a task that allocate what is never freed."""
