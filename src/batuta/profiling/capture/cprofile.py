"""Where the processor time goes, function by function: cProfile around tasks.

On Python 3.11 it sees the thread of the task alone; from 3.12 on, Python's own profiler sees all
threads of the process.
"""

import cProfile
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from batuta.profiling.capture.contract import CallLabel, OpenCall, ProfileSink, RunCall
from batuta.profiling.capture.gaps import CoverageGaps
from batuta.profiling.capture.layout import CPROFILE_FOLDER, process_stem, task_stem
from batuta.profiling.capture.options import Scope
from batuta.profiling.capture.profiler import run_call
from batuta.profiling.capture.records import WorkerId

DELIVER_EVERY_S: Final = 2.0
"""What the profile of a killed worker lacks at most. Writing a profile of thousands of functions
takes some tens of ms."""
_IN_USE: Final = "Another profiling tool is already active"
"""What Python 3.12 and later say to the second profiler of a process."""
_PROFILER_PER_THREAD: Final = sys.version_info < (3, 12)
"""Whether cProfile is the profiler of its thread, which `sys.getprofile` returns; later Pythons
use `sys.monitoring`, and `sys.getprofile` does not know of it."""


class SummedProfile(cProfile.Profile):
    """Adds up the copies of the code of one function.

    Functions of a main script travel to dask workers by value: each task has its own copy of their
    code, and before Python 3.13 only the last copy would count.
    """

    def snapshot_stats(self) -> None:
        """Make the statistics that are dumped, in the form of `pstats`."""
        entries: Any = self.getstats()
        stats: dict[Any, Any] = {}
        for entry in entries:
            function = cProfile.label(entry.code)
            primitive, calls, own_s, total_s, callers = stats.get(function, (0, 0, 0.0, 0.0, {}))
            primitive += entry.callcount - entry.reccallcount
            calls += entry.callcount
            own_s += entry.inlinetime
            stats[function] = (primitive, calls, own_s, total_s + entry.totaltime, callers)
        for entry in entries:
            for callee in entry.calls or ():
                callee_stats = stats.get(cProfile.label(callee.code))
                if callee_stats is not None:
                    _add_caller(callee_stats[4], cProfile.label(entry.code), callee)
        self.stats = stats


def _add_caller(callers: dict[Any, Any], caller: Any, callee: Any) -> None:
    calls, primitive, own_s, total_s = callers.get(caller, (0, 0, 0.0, 0.0))
    callers[caller] = (
        calls + callee.callcount,
        primitive + callee.callcount - callee.reccallcount,
        own_s + callee.inlinetime,
        total_s + callee.totaltime,
    )


class CProfileProfiler:
    """Profiles tasks with cProfile.

    A task that uses a profiler itself keeps it; what is not profiled for that reason is named in
    a text beside the profiles.

    Parameters
    ----------
    scope : {"worker", "task"}
        Whether there is one profile for the process, or one for each attempt at a task.
    worker : WorkerId
        This process.
    sink : ProfileSink
        Where profiles are delivered.
    """

    def __init__(self, scope: Scope, worker: WorkerId, sink: ProfileSink) -> None:
        self._sink = sink
        self._stem = process_stem(worker)
        self._process_profile = SummedProfile() if scope == "worker" else None
        self._pid = os.getpid()
        self._undelivered = False
        """Whether calls were profiled since the last delivery."""
        self._delivered_s = time.monotonic()
        self._gaps = CoverageGaps(CPROFILE_FOLDER, self._stem, sink)
        self._self_profiling: set[str] = set()
        """Names of the tasks that were refused a profiler of their own because of ours."""

    @contextmanager
    def profile(self, task: CallLabel) -> Iterator[RunCall]:
        """Profile an attempt at a task."""
        profile = self._process_profile or SummedProfile()
        try:
            yield lambda open_call: self._run(profile, task, open_call)
        finally:
            if self._process_profile is None:
                self._deliver(profile, task_stem(task))

    def _run(self, profile: cProfile.Profile, task: CallLabel, open_call: OpenCall) -> Any:
        function, args, kwargs = open_call()
        if task.name in self._self_profiling or not self._enable(profile, task):
            return function(*args, **kwargs)
        try:
            return function(*args, **kwargs)
        except ValueError as exc:
            if _IN_USE not in str(exc):
                raise
            self._self_profiling.add(task.name)
        finally:
            # A profiler that the task started has taken the place of ours in this thread; ask
            # before ours is disabled, which leaves none.
            active: object = sys.getprofile()
            replaced = _PROFILER_PER_THREAD and active is not profile
            profile.disable()
            self._undelivered = True
            if replaced:
                self._gaps.add(f"{task.name} profiles itself: in part")
        # The task was refused its own profiler: run it again without ours, on fresh arguments.
        self._gaps.add(f"{task.name} profiles itself: run again without")
        return run_call(open_call)

    def _enable(self, profile: cProfile.Profile, task: CallLabel) -> bool:
        """Start profiling, unless another profiler is active in this thread."""
        try:
            if sys.getprofile() is None:
                profile.enable()
                return True
        except ValueError as exc:
            if _IN_USE not in str(exc):
                raise
        self._gaps.add(f"{task.name} ran under another profiler: not at all")
        return False

    def on_idle(self) -> None:
        """Deliver the profile of the process, unless that was done a moment ago."""
        if time.monotonic() - self._delivered_s > DELIVER_EVERY_S:
            self.flush()

    def flush(self) -> None:
        """Deliver the profile of the process, and the text of what was not profiled."""
        if self._process_profile is not None:
            self._deliver(self._process_profile, self._stem)
        self._gaps.deliver()

    def _deliver(self, profile: cProfile.Profile, stem: str) -> None:
        # A task that forks returns in its child as well: the profile is the parent's to deliver.
        if not self._undelivered or os.getpid() != self._pid:
            return
        self._undelivered = False
        self._delivered_s = time.monotonic()
        draft = self._sink.draft_path(CPROFILE_FOLDER, f"{stem}.prof")
        profile.dump_stats(draft)
        self._sink.deliver_file(CPROFILE_FOLDER, f"{stem}.prof", draft)
