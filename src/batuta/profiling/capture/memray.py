"""Who allocates the memory, line by line: memray around tasks.

A file has all the allocations of its process, threads included, from the moment when it is begun.
It is written as they are made, so that a worker that is killed for its memory leaves them.
"""

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

from memray import FileDestination, FileFormat, Tracker

from batuta.errors import BatutaError
from batuta.profiling.capture.contract import CallLabel, OpenCall, ProfileSink
from batuta.profiling.capture.gaps import Unseen
from batuta.profiling.capture.layout import ARROW_POOL, MEMRAY_FOLDER
from batuta.profiling.capture.options import Scope
from batuta.profiling.capture.profiler import Look, process_stem, run, task_stem
from batuta.profiling.capture.records import WorkerId

_IN_USE: Final = "No more than one Tracker"
"""What memray says to a second one of a process."""


def begin_tracking(path: Path, *, exact: bool = False, small: bool = False) -> Tracker:
    """Have memray write the allocations of this process to a new file.

    Parameters
    ----------
    path : path
        Of the file.
    exact : bool
        Whether Python's own small objects are told apart, instead of the blocks that they are in;
        the file is then summed up, and written at the end.
    small : bool
        Whether the file is compressed at the end.

    Raises
    ------
    BatutaError
        If memray tracks this process already, or another profiler is active.
    """
    if sys.getprofile() is not None:  # memray takes its place, and cannot put it back
        raise BatutaError(
            "profiling: another profiler is active in this process: no profiling under cProfile"
        )
    tracker = Tracker(
        destination=FileDestination(path, overwrite=True, compress_on_exit=small),
        trace_python_allocators=exact,
        file_format=FileFormat.AGGREGATED_ALLOCATIONS if exact else FileFormat.ALL_ALLOCATIONS,
    )
    try:
        tracker.__enter__()
    except (RuntimeError, SystemError, AssertionError) as exc:
        del tracker  # it ends its file
        path.unlink(missing_ok=True)
        if _IN_USE not in str(exc):
            _undo_half_begun()
            raise MemrayFailedError(f"memray could not begin: {exc}") from exc
        raise BatutaError(
            "profiling: memray tracks this process already: no profiling under `memray run` and"
            " `batuta profile memory-all`, and none of its trackers in the program"
        ) from None
    return tracker


class MemrayFailedError(BatutaError):
    """memray could not begin: it looks at what all threads do, and sometimes stumbles over one."""


def _undo_half_begun() -> None:
    """Take back what memray did to threads before it failed; or it could never begin again."""
    for name in ("_name", "_ident"):
        if name in vars(threading.Thread):
            delattr(threading.Thread, name)
    threading.setprofile(None)


class _Tracked(NamedTuple):
    """A file that is being written."""

    tracker: Tracker
    name: str
    path: Path
    in_place: bool


class MemrayLens:
    """Tracks tasks with memray.

    A task that has a tracker of its own runs again without ours: a process can have one only.

    Parameters
    ----------
    scope : {"worker", "task"}
        Whether there is one file for the process, or one for each attempt at a task. That of a
        process goes on until what was taken must be sent.
    worker : WorkerId
        This process.
    deliver : ProfileSink
        Takes the files.
    """

    def __init__(self, scope: Scope, worker: WorkerId, deliver: ProfileSink) -> None:
        self._deliver = deliver
        self._by_task = scope == "task"
        self._stem = process_stem(worker)
        self._files = 0
        self._open: _Tracked | None = None
        self._pid = os.getpid()
        self._track_themselves: set[str] = set()
        self._unseen = Unseen(MEMRAY_FOLDER, self._stem, deliver)
        os.environ.setdefault(ARROW_POOL, "system")

    @contextmanager
    def on(self, task: CallLabel) -> Iterator[Look]:
        """Look at a task."""
        try:
            yield lambda opened: self._look(task, opened)
        finally:
            if self._by_task:
                self._close()

    def _look(self, task: CallLabel, opened: OpenCall) -> Any:
        if task.name in self._track_themselves:
            self._close()
            return run(opened)
        if self._open is None:
            try:
                self._open = self._begin(task)
            except MemrayFailedError as exc:
                self._unseen.add(f"{task.name} was not seen: {exc}")
                return run(opened)
        try:
            return run(opened)
        except RuntimeError as exc:
            if _IN_USE not in str(exc):
                raise
            self._track_themselves.add(task.name)
        return self._look(task, opened)

    def _begin(self, task: CallLabel) -> _Tracked:
        self._files += 1
        stem = task_stem(task) if self._by_task else f"{self._stem}-{self._files}"
        name = f"{stem}.bin"
        place = self._deliver.place(MEMRAY_FOLDER, name)
        path = place or self._deliver.draft(MEMRAY_FOLDER, name)
        tracker = begin_tracking(path, small=place is None)
        return _Tracked(tracker, name, path, in_place=place is not None)

    def rest(self) -> None:
        """Go on: a process that may be killed has its file where it belongs."""
        self._unseen.tell()

    def flush(self) -> None:
        """Deliver what was taken; a file that is where it belongs goes on."""
        if self._open is not None and not self._open.in_place:
            self._close()
        self._unseen.tell()

    def _close(self) -> None:
        if self._open is None or os.getpid() != self._pid:  # the task forked, its child is here
            return
        tracked, self._open = self._open, None
        tracked.tracker.__exit__(None, None, None)
        if not tracked.in_place:
            self._deliver.file(MEMRAY_FOLDER, tracked.name, tracked.path)
