"""Calling tasks: plainly, or under a profiler, one at a time."""

import logging
import threading
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Final

from batuta.profiling.capture.contract import Caller, CallLabel, OpenCall, Profiler, RunCall

LOG: Final = logging.getLogger(__name__)


def run_call(open_call: OpenCall) -> Any:
    """Load a call and run it once."""
    function, args, kwargs = open_call()
    return function(*args, **kwargs)


class PlainCaller:
    """Calls tasks, and nothing else."""

    def call(self, task: CallLabel, open_call: OpenCall) -> Any:  # noqa: ARG002 - as a Caller
        """Run a task and return its value."""
        return run_call(open_call)

    def on_idle(self) -> None:
        """Do nothing: there is nothing to deliver."""

    def flush(self) -> None:
        """Do nothing: there is nothing to deliver."""


class NullProfiler:
    """Profiles nothing."""

    def profile(self, task: CallLabel) -> AbstractContextManager[RunCall]:  # noqa: ARG002 - as a Profiler
        """Run the task."""
        return nullcontext(run_call)

    def on_idle(self) -> None:
        """Do nothing: there is nothing to deliver."""

    def flush(self) -> None:
        """Do nothing: there is nothing to deliver."""


class ProfiledCaller:
    """Calls each task once, under a profiler."""

    def __init__(self, profiler: Profiler) -> None:
        self._profiler = profiler

    def call(self, task: CallLabel, open_call: OpenCall) -> Any:
        """Run a task and return its value."""
        value, finished = None, False
        try:
            with self._profiler.profile(task) as run:
                value, finished = run(open_call), True
        except OSError as exc:
            # Of the task itself it is raised; of the profiler, which writes when the task has
            # finished, it must not cost the task's value.
            if not finished:
                raise
            _log_lost_profile(exc)
        return value

    def on_idle(self) -> None:
        """Deliver profiles that have been held for a while."""
        try:
            self._profiler.on_idle()
        except OSError as exc:
            _log_lost_profile(exc)

    def flush(self) -> None:
        """Deliver everything recorded so far."""
        try:
            self._profiler.flush()
        except OSError as exc:
            _log_lost_profile(exc)


def _log_lost_profile(exc: OSError) -> None:
    LOG.error("profiling: cannot write a profile, which is lost: %s", exc)


class SerialCaller:
    """Calls tasks one at a time: a profiler sees everything that its process does.

    A task that calls another through the same caller, as one that computes in mode sequential
    does, is profiled as a whole.

    Parameters
    ----------
    caller : Caller
        Called by one thread at a time, in the process that made it.
    """

    def __init__(self, caller: Caller) -> None:
        self._caller = caller
        # Reentrant, for a task that calls another: its thread has the lock already.
        self._lock = threading.RLock()
        self._running = False
        self._flush_requested = False

    def call(self, task: CallLabel, open_call: OpenCall) -> Any:
        """Run a task, after those that are running."""
        try:
            with self._lock:
                # Whoever holds the lock and finds a task running is called by that task.
                if self._running:
                    return run_call(open_call)
                self._running = True
                try:
                    return self._caller.call(task, open_call)
                finally:
                    self._running = False
        finally:
            self._flush_if_free()

    def on_idle(self) -> None:
        """Deliver profiles that have been held for a while, unless a task is running."""
        if self._lock.acquire(blocking=False):
            try:
                self._caller.on_idle()
            finally:
                self._lock.release()
            self._flush_if_free()

    def flush(self) -> None:
        """Deliver everything recorded so far; while a task runs, as soon as it ends.

        It does not wait for the task: on dask the event loop calls it, which also sends the
        heartbeats of the worker.
        """
        self._flush_requested = True
        self._flush_if_free()

    def _flush_if_free(self) -> None:
        # No request is lost. It is made before its thread tries the lock; if the lock is taken,
        # whoever holds it comes here after releasing it, and finds the request.
        while self._flush_requested and self._lock.acquire(blocking=False):
            try:
                if self._running:  # this thread's own task, which comes here when it ends
                    return
                self._flush_requested = False
                self._caller.flush()
            finally:
                self._lock.release()
