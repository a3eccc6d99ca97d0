"""Calls tasks while a profiler looks at them, one at a time."""

import logging
import os
import re
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Final, Protocol, TypeAlias

from batuta.profiling.capture.contract import Caller, CallLabel, OpenCall, ProfileSink
from batuta.profiling.capture.options import ProfileOptions
from batuta.profiling.capture.records import WorkerId

Look: TypeAlias = Callable[[OpenCall], Any]
"""Runs a call once while it is looked at, and gives its value."""

_UNSAFE: Final = re.compile(r"[^A-Za-z0-9._-]+")
_NAME_MAX: Final = 80

LOG: Final = logging.getLogger(__name__)


class Lens(Protocol):
    """A profiler."""

    def on(self, task: CallLabel) -> AbstractContextManager[Look]:
        """Look at a task, which may run several times."""

    def rest(self) -> None:
        """Deliver what was taken long ago."""

    def flush(self) -> None:
        """Deliver what was taken until now."""


class NoLens:
    """Looks at nothing."""

    def on(self, task: CallLabel) -> AbstractContextManager[Look]:  # noqa: ARG002 - as a Lens is asked
        """Run the task."""
        return nullcontext(run)

    def rest(self) -> None:
        """Nothing was taken."""

    def flush(self) -> None:
        """Nothing was taken."""


def run(opened: OpenCall) -> Any:
    """Run a call once."""
    function, args, kwargs = opened()
    return function(*args, **kwargs)


class LookingCaller:
    """Calls tasks one at a time, for a profiler sees all that its process does.

    A task that calls another through it, as one that computes in mode sequential inside, is
    looked at as a whole.

    Parameters
    ----------
    caller : Caller
        Asked by one thread at a time, in the process that made it.
    """

    def __init__(self, caller: Caller) -> None:
        self._caller = caller
        self._turn = threading.RLock()
        self._inside = False
        self._to_flush = False

    def call(self, task: CallLabel, opened: OpenCall) -> Any:
        """Run a task, after those that run now."""
        with self._turn:
            if self._inside:
                return run(opened)
            self._inside = True
            try:
                return self._caller.call(task, opened)
            finally:
                self._inside = False
                if self._to_flush:
                    self._to_flush = False
                    self._caller.flush()

    def rest(self) -> None:
        """Deliver what was taken long ago, unless a task runs."""
        if self._turn.acquire(blocking=False):
            try:
                self._caller.rest()
            finally:
                self._turn.release()

    def flush(self) -> None:
        """Deliver what was taken; while a task runs, as soon as it ends."""
        if not self._turn.acquire(blocking=False):
            self._to_flush = True
            return
        try:
            self._caller.flush()
        finally:
            self._turn.release()


class LensCaller:
    """Calls each task once, looked at by a lens."""

    def __init__(self, lens: Lens) -> None:
        self._lens = lens

    def call(self, task: CallLabel, opened: OpenCall) -> Any:
        """Run a task and give its value."""
        value, ended = None, False
        try:
            with self._lens.on(task) as look:
                value, ended = look(opened), True
        except OSError as exc:
            if not ended:
                raise
            _tell_unwritten(exc)
        return value

    def rest(self) -> None:
        """Deliver what the lens took long ago."""
        try:
            self._lens.rest()
        except OSError as exc:
            _tell_unwritten(exc)

    def flush(self) -> None:
        """Deliver what the lens took."""
        try:
            self._lens.flush()
        except OSError as exc:
            _tell_unwritten(exc)


def _tell_unwritten(error: OSError) -> None:
    """Tell that a profile is lost: the results of tasks count more."""
    LOG.error("what a profiler found cannot be written: %s", error)


def make_looking_caller(options: ProfileOptions, worker: WorkerId, deliver: ProfileSink) -> Caller:
    """Make what `make_caller` gives where there is something to look at."""
    if options.loops > 1:
        from batuta.profiling.capture.repeat import make_loop_caller  # noqa: PLC0415 - only where asked for

        return LookingCaller(make_loop_caller(options, worker, deliver))
    return LookingCaller(LensCaller(make_lens(options, worker, deliver)))


def make_lens(options: ProfileOptions, worker: WorkerId, deliver: ProfileSink) -> Lens:
    """Make the profiler that is asked for."""
    if options.mode == "cprofile":
        from batuta.profiling.capture.cprofile import CProfileLens  # noqa: PLC0415 - only where asked for

        return CProfileLens(options.scope, worker, deliver)
    if options.mode == "memray":
        from batuta.profiling.capture.memray import MemrayLens  # noqa: PLC0415 - only where asked for

        return MemrayLens(options.scope, worker, deliver)
    return NoLens()


def safe(name: str) -> str:
    """Return a name for a file: letters, digits, dots, dashes and underscores."""
    return _UNSAFE.sub("-", name).strip("-.")[:_NAME_MAX] or "unnamed"


def process_stem(worker: WorkerId) -> str:
    """Name the files of a process; another one with the same id has other names."""
    return f"{safe(worker.name)}-{os.urandom(3).hex()}"


def task_stem(task: CallLabel) -> str:
    """Name the files of an attempt at a task."""
    return f"{task.number:06d}-{safe(task.name)}-{task.attempt}"
