"""Where the processor's time goes, function by function: cProfile around tasks.

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

from batuta.profiling.capture.contract import CallLabel, OpenCall, ProfileSink
from batuta.profiling.capture.gaps import Unseen
from batuta.profiling.capture.layout import CPROFILE_FOLDER
from batuta.profiling.capture.options import Scope
from batuta.profiling.capture.profiler import Look, process_stem, run, task_stem
from batuta.profiling.capture.records import WorkerId

DELIVER_EVERY_S: Final = 2.0
"""At most: what a worker that is killed lacks. A profile of thousands of functions takes some tens
of ms to write."""
_IN_USE: Final = "Another profiling tool is already active"
"""What Python 3.12 and later say to a task that profiles itself."""
_KNOWN_BY_THREAD: Final = sys.version_info < (3, 12)
"""Whether `sys.getprofile` tells who profiles."""


class SummedProfile(cProfile.Profile):
    """Sums up the code of one place, of which there may be many copies.

    Functions of a main script travel to workers of dask by their content: each task has its own
    copy of their code, and before Python 3.13 the last copy alone would count.
    """

    def snapshot_stats(self) -> None:
        """Make the statistics that are dumped, in the form of `pstats`."""
        entries: Any = self.getstats()
        stats: dict[Any, Any] = {}
        for entry in entries:
            place = cProfile.label(entry.code)
            primitive, calls, own_s, total_s, callers = stats.get(place, (0, 0, 0.0, 0.0, {}))
            primitive += entry.callcount - entry.reccallcount
            calls += entry.callcount
            own_s += entry.inlinetime
            stats[place] = (primitive, calls, own_s, total_s + entry.totaltime, callers)
        for entry in entries:
            for called in entry.calls or ():
                found = stats.get(cProfile.label(called.code))
                if found is not None:
                    _add_caller(found[4], cProfile.label(entry.code), called)
        self.stats = stats


def _add_caller(callers: dict[Any, Any], place: Any, called: Any) -> None:
    calls, primitive, own_s, total_s = callers.get(place, (0, 0, 0.0, 0.0))
    callers[place] = (
        calls + called.callcount,
        primitive + called.callcount - called.reccallcount,
        own_s + called.inlinetime,
        total_s + called.totaltime,
    )


class CProfileLens:
    """Profiles tasks with cProfile.

    A task that profiles itself has the profiler for itself: what was not seen for that is said in
    a text beside the profiles.

    Parameters
    ----------
    scope : {"worker", "task"}
        Whether there is one profile for the process, or one for each attempt at a task.
    worker : WorkerId
        This process.
    deliver : ProfileSink
        Takes the profiles.
    """

    def __init__(self, scope: Scope, worker: WorkerId, deliver: ProfileSink) -> None:
        self._deliver = deliver
        self._stem = process_stem(worker)
        self._of_process = SummedProfile() if scope == "worker" else None
        self._pid = os.getpid()
        self._seen = False
        """Whether something was added since the last delivery."""
        self._delivered_s = time.monotonic()
        self._unseen = Unseen(CPROFILE_FOLDER, self._stem, deliver)
        self._profile_themselves: set[str] = set()

    @contextmanager
    def on(self, task: CallLabel) -> Iterator[Look]:
        """Look at a task."""
        profile = self._of_process or SummedProfile()
        try:
            yield lambda opened: self._look(profile, task, opened)
        finally:
            if self._of_process is None:
                self._hand_over(profile, task_stem(task))

    def _look(self, profile: cProfile.Profile, task: CallLabel, opened: OpenCall) -> Any:
        function, args, kwargs = opened()
        if task.name in self._profile_themselves or not self._began(profile, task):
            return function(*args, **kwargs)
        try:
            return function(*args, **kwargs)
        except ValueError as exc:
            if _IN_USE not in str(exc):
                raise
            self._profile_themselves.add(task.name)
        finally:
            active: object = sys.getprofile()
            replaced = _KNOWN_BY_THREAD and active is not profile
            profile.disable()
            self._seen = True
            if replaced:
                self._unseen.add(f"{task.name} profiles itself: in part")
        self._unseen.add(f"{task.name} profiles itself: run again without")
        return run(opened)

    def _began(self, profile: cProfile.Profile, task: CallLabel) -> bool:
        """Begin, unless someone else profiles this thread."""
        try:
            if sys.getprofile() is None:
                profile.enable()
                return True
        except ValueError as exc:
            if _IN_USE not in str(exc):
                raise
        self._unseen.add(f"{task.name} ran under another profiler: not at all")
        return False

    def rest(self) -> None:
        """Deliver the profile of the process, unless that was done a moment ago."""
        if time.monotonic() - self._delivered_s > DELIVER_EVERY_S:
            self.flush()

    def flush(self) -> None:
        """Deliver the profile of the process, and what was not seen."""
        if self._of_process is not None:
            self._hand_over(self._of_process, self._stem)
        self._unseen.tell()

    def _hand_over(self, profile: cProfile.Profile, stem: str) -> None:
        if not self._seen or os.getpid() != self._pid:  # the task forked, and its child is here
            return
        self._seen = False
        self._delivered_s = time.monotonic()
        path = self._deliver.draft(CPROFILE_FOLDER, f"{stem}.prof")
        profile.dump_stats(path)
        self._deliver.file(CPROFILE_FOLDER, f"{stem}.prof", path)
