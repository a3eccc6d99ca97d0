"""What runs in a worker process."""

import contextlib
import logging
import mmap
import multiprocessing
import os
import pickle
import struct
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

import psutil

from batuta.cluster.errors import ClusterError
from batuta.cluster.store import Stored, fetch, put

PULSE: Final = struct.Struct("<qd")
"""Step of the job that runs (-1 between jobs), and when it began (`time.monotonic`, s)."""

LOG_FORMAT: Final = (
    "%(asctime)s %(levelname)s [process %(process)d, thread %(thread)d] %(name)s: %(message)s"
)

_ORPHAN_CHECK_S: Final = 1.0


@dataclass(frozen=True)
class WorkerSetup:
    """What a worker is told when it starts."""

    folder: str
    """Where it writes results."""
    pulse: str
    """File in which it tells which step it runs, and since when."""
    log_folder: str | None
    log_level: int


class Step(NamedTuple):
    """One task of a job, ready to run."""

    call: Stored
    """The function, its arguments and its keyword arguments."""
    task_id: int
    name: str
    nout: int


class JobOrder(NamedTuple):
    """What a worker is asked: run the steps, store these outputs of the last one."""

    steps: tuple[Step, ...]
    keep: tuple[bool, ...]


class JobDone(NamedTuple):
    """The job ran; where its outputs are, None for those that nobody wants."""

    outputs: tuple[Stored | None, ...]
    ram_bytes: int


class JobFailed(NamedTuple):
    """A step of the job raised."""

    function: str
    reason: str
    error: bytes | None
    """The exception pickled, if it can be."""
    trace: str
    ram_bytes: int


@dataclass(slots=True)
class _Running:
    """What this process is doing."""

    pulse: mmap.mmap | None = None
    process: psutil.Process | None = None
    results: dict[tuple[int, int], Any] = field(default_factory=dict)
    """Of the step before, for the one that runs now."""


_RUNNING: Final = _Running()


class LocalResult:
    """Stands, when pickled, for a result of the step before in the same job."""

    def __init__(self, task_id: int, index: int) -> None:
        self.task_id = task_id
        self.index = index

    def __reduce__(self) -> tuple[Callable[[int, int], Any], tuple[int, int]]:
        return _local_result, (self.task_id, self.index)


def _local_result(task_id: int, index: int) -> Any:
    return _RUNNING.results[task_id, index]


def start_worker(setup: WorkerSetup) -> None:
    """Prepare this process to run jobs; called once, when it starts."""
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    with Path(setup.pulse).open("r+b") as stream:
        _RUNNING.pulse = mmap.mmap(stream.fileno(), PULSE.size)
    _RUNNING.process = psutil.Process()
    if setup.log_folder is not None:
        _log_to(Path(setup.log_folder) / f"worker_{os.getpid()}.log", setup.log_level)


def _end_with(parent: int) -> None:
    """End at once when the main process is gone, even in the middle of a task.

    Under fork, its siblings hold what would tell that it died: the parent's id tells. Under
    forkserver, the parent is the forkserver, which lives as long as its children.
    """
    main = multiprocessing.parent_process()
    while main is not None and main.is_alive() and os.getppid() == parent:
        main.join(_ORPHAN_CHECK_S)
    kill_family(psutil.Process())


def kill_family(process: psutil.Process) -> None:
    """Kill a process at once, after those that it started."""
    with contextlib.suppress(psutil.NoSuchProcess):
        for child in process.children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()
        process.kill()


def _log_to(path: Path, level: int) -> None:
    handler = logging.FileHandler(path, encoding="utf-8", delay=True)
    handler.setFormatter(logging.Formatter(LOG_FORMAT))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    logging.captureWarnings(capture=True)


def introduce() -> int:
    """Tell the process id: the worker is ready."""
    return os.getpid()


def run_job(order: JobOrder, folder: str) -> JobDone | JobFailed:
    """Run the steps of a job, one after the other; what they raise is returned."""
    name = ""
    try:
        for index, step in enumerate(order.steps):
            name = step.name
            _beat(index)
            values = outputs_of(_call(step), step.nout)
            _RUNNING.results = {(step.task_id, rank): each for rank, each in enumerate(values)}
            del values
        stored = tuple(
            put(value, folder) if keep else None
            for value, keep in zip(_RUNNING.results.values(), order.keep, strict=True)
        )
        return JobDone(stored, _own_ram_bytes())
    except (Exception, SystemExit) as error:  # noqa: BLE001 - what a task raises is a result
        return _failure(name, error)
    finally:
        _RUNNING.results = {}
        _beat(-1)


def _call(step: Step) -> Any:
    function, args, kwargs = fetch(step.call)
    return function(*args, **kwargs)


def outputs_of(value: Any, nout: int) -> Sequence[Any]:
    """Give the `nout` results in what a task returned."""
    if nout == 1:
        return (value,)
    if not isinstance(value, (tuple, list)) or len(value) != nout:
        given = len(value) if isinstance(value, (tuple, list)) else f"a {type(value).__name__}"
        raise ClusterError(f"a tuple of {nout} results expected (nout={nout}), {given} returned")
    return value


def _beat(step: int) -> None:
    if _RUNNING.pulse is not None:
        PULSE.pack_into(_RUNNING.pulse, 0, step, time.monotonic())


def _failure(function: str, error: BaseException) -> JobFailed:
    return JobFailed(
        function=function,
        reason=describe(error),
        error=_pickled(error),
        trace="".join(traceback.format_exception(error)),
        ram_bytes=_own_ram_bytes(),
    )


def describe(error: BaseException) -> str:
    """Say in one line what an exception is."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _pickled(error: BaseException) -> bytes | None:
    """Pickle an exception, if it comes back whole: many cannot."""
    try:
        body = pickle.dumps(error)
        pickle.loads(body)  # noqa: S301 - pickled on the line above
    except Exception:  # noqa: BLE001 - a class of the user's may raise anything here
        return None
    return body


def _own_ram_bytes() -> int:
    return 0 if _RUNNING.process is None else private_ram_of(_RUNNING.process)


def private_ram_of(process: psutil.Process) -> int:
    """Memory of `process` that it shares with no other, in bytes."""
    info = process.memory_info()
    return int(info.rss - getattr(info, "shared", 0))
