"""Who allocates the memory, line by line: memray around tasks.

A file has all allocations of its process, of all threads, from the moment when tracking starts. It
is written as they are made, so that a worker that is killed for its memory leaves them.
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
from batuta.profiling.capture.contract import CallLabel, OpenCall, ProfileSink, RunCall
from batuta.profiling.capture.gaps import CoverageGaps
from batuta.profiling.capture.layout import ARROW_POOL, MEMRAY_FOLDER, process_stem, task_stem
from batuta.profiling.capture.options import Scope
from batuta.profiling.capture.profiler import run_call
from batuta.profiling.capture.records import WorkerId

_IN_USE: Final = "No more than one Tracker"
"""What memray says to the second tracker of a process."""


class MemrayFailedError(BatutaError):
    """memray could not start: it reads the stacks of all running threads, which fails at times."""


def start_tracking(path: Path, *, exact: bool = False, compress: bool = False) -> Tracker:
    """Start writing the allocations of this process to a new file.

    Parameters
    ----------
    path : path
        Of the file.
    exact : bool
        Whether Python's own small objects are told apart, instead of the blocks that they are in;
        the file is then aggregated, and written at the end.
    compress : bool
        Whether the file is compressed at the end.

    Raises
    ------
    MemrayFailedError
        If memray could not start; a later task may succeed.
    BatutaError
        If memray tracks this process already, or another profiler is active.
    """
    if sys.getprofile() is not None:  # memray would replace it, and could not restore it
        raise BatutaError(
            "profiling: another profiler is active in this process; memray cannot run beside"
            " cProfile"
        )
    tracker = Tracker(
        destination=FileDestination(path, overwrite=True, compress_on_exit=compress),
        trace_python_allocators=exact,
        file_format=FileFormat.AGGREGATED_ALLOCATIONS if exact else FileFormat.ALL_ALLOCATIONS,
    )
    try:
        tracker.__enter__()
    except (RuntimeError, SystemError, AssertionError) as exc:
        del tracker  # closes its file
        path.unlink(missing_ok=True)
        if _IN_USE not in str(exc):
            _undo_partial_start()
            raise MemrayFailedError(f"memray could not start: {exc}") from exc
        raise BatutaError(
            "profiling: memray tracks this process already: do not use `profiling` under"
            " `memray run`, nor with a memray.Tracker of the program"
        ) from None
    return tracker


def _undo_partial_start() -> None:
    """Remove what memray patched into threads before it failed, or it could never start again."""
    for name in ("_name", "_ident"):
        if name in vars(threading.Thread):
            delattr(threading.Thread, name)
    threading.setprofile(None)


class _OpenFile(NamedTuple):
    """A file that memray is writing."""

    tracker: Tracker
    name: str
    path: Path
    live: bool
    """Whether it has its final path already."""


class MemrayProfiler:
    """Tracks the allocations of tasks with memray.

    A task that has a tracker of its own runs again without ours: a process can have only one.

    Parameters
    ----------
    scope : {"worker", "task"}
        Whether there is one file for the process, or one for each attempt at a task. The file of a
        process grows until it must be delivered.
    worker : WorkerId
        This process.
    sink : ProfileSink
        Where files are delivered.
    """

    def __init__(self, scope: Scope, worker: WorkerId, sink: ProfileSink) -> None:
        self._sink = sink
        self._file_per_task = scope == "task"
        self._stem = process_stem(worker)
        self._files = 0
        self._open: _OpenFile | None = None
        self._pid = os.getpid()
        self._self_tracking: set[str] = set()
        """Names of the tasks that were refused a tracker of their own because of ours."""
        self._gaps = CoverageGaps(MEMRAY_FOLDER, self._stem, sink)
        os.environ.setdefault(ARROW_POOL, "system")

    @contextmanager
    def profile(self, task: CallLabel) -> Iterator[RunCall]:
        """Profile an attempt at a task."""
        try:
            yield lambda open_call: self._run(task, open_call)
        finally:
            if self._file_per_task:
                self._close()

    def _run(self, task: CallLabel, open_call: OpenCall) -> Any:
        if task.name in self._self_tracking:
            self._close()
            return run_call(open_call)
        if self._open is None:
            try:
                self._open = self._start(task)
            except MemrayFailedError as exc:
                self._gaps.add(f"{task.name} was not profiled: {exc}")
                return run_call(open_call)
        try:
            return run_call(open_call)
        except RuntimeError as exc:
            if _IN_USE not in str(exc):
                raise
            self._self_tracking.add(task.name)
        # Now known to need the only tracker: run again without ours, on fresh arguments.
        return self._run(task, open_call)

    def _start(self, task: CallLabel) -> _OpenFile:
        self._files += 1
        stem = task_stem(task) if self._file_per_task else f"{self._stem}-{self._files}"
        name = f"{stem}.bin"
        live_path = self._sink.live_path(MEMRAY_FOLDER, name)
        path = live_path or self._sink.draft_path(MEMRAY_FOLDER, name)
        # A file that is sent elsewhere is compressed; one that may end at any moment cannot be.
        tracker = start_tracking(path, compress=live_path is None)
        return _OpenFile(tracker, name, path, live=live_path is not None)

    def on_idle(self) -> None:
        """Keep the file open: that of a process that may be killed has its final path already."""
        self._gaps.deliver()

    def flush(self) -> None:
        """Deliver everything recorded so far; a file that has its final path stays open."""
        if self._open is not None and not self._open.live:
            self._close()
        self._gaps.deliver()

    def _close(self) -> None:
        # A task that forks returns in its child as well, which shares the open file of its parent:
        # closing the tracker there would write an end into the file of a process that goes on.
        if self._open is None or os.getpid() != self._pid:
            return
        finished, self._open = self._open, None
        finished.tracker.__exit__(None, None, None)
        if not finished.live:
            self._sink.deliver_file(MEMRAY_FOLDER, finished.name, finished.path)
