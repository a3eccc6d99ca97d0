"""Tasks to be profiled, and a runner that calls them as a worker does."""

import cProfile
import inspect
import os
import pickle
import pstats
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import memray
import numpy as np

from batuta.profiling.capture.contract import Caller, CallLabel
from batuta.profiling.capture.factory import make_caller
from batuta.profiling.capture.options import ProfileOptions
from batuta.profiling.capture.records import WorkerId
from batuta.profiling.capture.sink import FolderSink

WORKER: Final = WorkerId("process 4711", "here", 4711)
LEAK_BYTES: Final = 100_000

_KEPT: Final[list[Any]] = []
_LAST: Final[list[Any]] = [None]


def work(size: int) -> int:
    return sum(inner(each) for each in range(size))


def inner(value: int) -> int:
    return value * value


def leaks(size: int) -> Any:
    _KEPT.append(b"x" * LEAK_BYTES)  # the leak
    return np.zeros(size) + 1


def leaks_in_a_library(size: int) -> None:
    _KEPT.append(np.ones(LEAK_BYTES // 8))  # the leak


def leaks_small_objects(size: int) -> None:
    _KEPT.extend(str(each) for each in range(10_000_000, 10_002_000))  # the leak


def keeps_its_argument(values: Any) -> None:
    _KEPT.append(values)


def replaces_what_it_keeps(size: int) -> None:
    _LAST[0] = np.ones(size)


def keeps_nothing(size: int) -> Any:
    values = np.ones(size) * 2
    return [str(each) for each in values[:1000]]


def grows_its_argument(values: list[int]) -> int:
    values.append(1)
    return len(values)


def allocates(megabytes: int) -> int:
    return len(bytes(megabytes * 1_000_000))  # the allocation


def kills_itself(megabytes: int) -> None:
    held = bytes(megabytes * 1_000_000)
    os.kill(os.getpid(), signal.SIGKILL)
    del held


def raises(size: int) -> None:
    work(size)
    raise ValueError("as it does")


def exits(size: int) -> None:
    work(size)
    sys.exit(7)


def profiles_itself(size: int) -> int:
    own = cProfile.Profile()
    own.enable()
    try:
        return work(size)
    finally:
        own.disable()


def is_refused_by_a_profiler(size: int) -> str:
    """Raise what Python 3.12 and later raise for a second profiler."""
    if sys.getprofile() is not None:
        raise ValueError("Another profiling tool is already active")
    return "ran"


def tracks_itself(folder: str, megabytes: int) -> int:
    path = Path(folder, "own.bin")
    path.unlink(missing_ok=True)
    with memray.Tracker(path):
        allocates(megabytes)
    return path.stat().st_size


def forks(size: int) -> int:
    work(size)
    return os.fork()


def line_of(task: Callable[..., Any], comment: str) -> int:
    """Return the number of the line of a task that ends with a comment."""
    lines, first = inspect.getsourcelines(task)
    return next(first + rank for rank, line in enumerate(lines) if line.endswith(f"# {comment}\n"))


class TaskRunner:
    """Runs tasks in this process, profiled as those of a worker are."""

    def __init__(
        self, folder: Path, options: ProfileOptions | None, *, may_be_killed: bool = False
    ) -> None:
        self.sink = FolderSink(folder, may_be_killed=may_be_killed)
        self.caller: Caller = make_caller(options, WORKER, self.sink)
        self._number = 0

    def run(self, task: Callable[..., Any], *args: Any) -> Any:
        """Run a task; its call is read from a pickle each time."""
        body = pickle.dumps((task, args, {}))
        label = CallLabel(self._number, task.__name__, 1)
        self._number += 1
        return self.caller.call(label, lambda: pickle.loads(body))  # noqa: S301 - from above


def calls_of(path: Path, function: str) -> int:
    """Return how many calls of a function a profile has."""
    found = pstats.Stats(str(path)).stats  # type: ignore[attr-defined]  # it is there
    return sum(calls for (_, _, name), (_, calls, *_) in found.items() if name == function)
