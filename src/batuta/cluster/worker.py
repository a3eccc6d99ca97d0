"""What runs in a worker process."""

import contextlib
import importlib
import logging
import multiprocessing
import os
import signal
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any, Final, NamedTuple

import psutil

from batuta.cluster.errors import ClusterError
from batuta.cluster.families import kill_children, kill_family, private_ram_of
from batuta.cluster.frames import Reader, framed
from batuta.cluster.pulse import RESTING, Pulse
from batuta.cluster.raised import Raised, describe
from batuta.cluster.store import Stored, fetch, put

LOG: Final = logging.getLogger(__name__)

LOG_FORMAT: Final = (
    "%(asctime)s %(levelname)s [process %(process)d, thread %(thread)d] %(name)s: %(message)s"
)

_ORPHAN_CHECK_S: Final = 1.0
_RAM_CHECK_S: Final = 0.01


@dataclass(frozen=True, kw_only=True)
class WorkerSetup:
    """What a worker is told when it starts."""

    folder: str
    """Where it writes results."""
    hand_folder: str
    """Where it writes those that the main process alone will read: in memory."""
    pulse: str
    """File in which it tells what it does."""
    imports: tuple[str, ...]
    """Modules to import before anything else."""
    log_folder: str | None
    log_level: int


class Step(NamedTuple):
    """One task of a job, ready to run."""

    call: Stored
    """The function, its arguments and its keyword arguments."""
    name: str
    nout: int


class Keep(IntEnum):
    """What becomes of an output."""

    NO = 0
    STORED = 1
    """Other tasks will read it."""
    HANDED = 2
    """The main process alone will."""


class JobOrder(NamedTuple):
    """What a worker is asked: run the steps, store these outputs of the last one."""

    number: int
    steps: tuple[Step, ...]
    keep: tuple["Keep", ...]
    tile: str
    """The tile that it works for, to be named in the log."""
    last: bool
    """Whether the worker ends after it."""


class Ready(NamedTuple):
    """The worker has started, or could not: then it says why."""

    problem: str | None
    ram_bytes: int = 0
    """What it holds before it has done anything."""


class JobDone(NamedTuple):
    """The job ran; where its outputs are, None for those that nobody wants."""

    number: int
    outputs: tuple[Stored | None, ...]
    ram_bytes: int
    took_s: float


class JobFailed(NamedTuple):
    """A step of the job raised."""

    number: int
    raised: Raised
    ram_bytes: int
    took_s: float


@dataclass(slots=True)
class _Running:
    """What this process is doing."""

    results: Sequence[Any] = ()
    """Of the step before, for the one that runs now."""
    tile: str = ""
    base_ram_bytes: int = 0
    ram_bytes: int = 0
    ram_looked_at: float = 0.0


_RUNNING: Final = _Running()


class LocalResult:
    """Stands, when pickled, for a result of the step before in the same job."""

    def __init__(self, index: int) -> None:
        self.index = index

    def __reduce__(self) -> tuple[Callable[[int], Any], tuple[int]]:
        return _local_result, (self.index,)


def _local_result(index: int) -> Any:
    return _RUNNING.results[index]


def serve(link: socket.socket, setup: WorkerSetup) -> None:
    """Run what comes through `link` until told to end; the whole life of a worker."""
    # The main process decides: Ctrl-C in a terminal reaches all of its processes.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        pulse = _start(setup)
    except Exception as error:  # noqa: BLE001 - told to the main process, which decides
        link.sendall(framed(Ready(describe(error))))
        return
    link.sendall(framed(Ready(None, _RUNNING.base_ram_bytes)))
    with contextlib.suppress(EOFError, BrokenPipeError):  # the main process is gone, or lets go
        _work(link, pulse, setup)
    kill_children()


def _work(link: socket.socket, pulse: Pulse, setup: WorkerSetup) -> None:
    own_pid = os.getpid()
    reader = Reader(link)
    orders: deque[JobOrder] = deque()
    while True:
        while not orders:
            orders.extend(reader.messages())
        order = orders.popleft()
        if not pulse.begin(order.number):
            continue
        outcome = run_job(order, pulse, setup)
        if os.getpid() != own_pid:
            os._exit(0)  # the task forked, and its child came back here
        link.sendall(framed(outcome))
        pulse.step(order.number, RESTING)
        if order.last:
            return


def _start(setup: WorkerSetup) -> Pulse:
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    for module in setup.imports:
        importlib.import_module(module)
    if setup.log_folder is not None:
        _log_to(Path(setup.log_folder) / f"worker_{os.getpid()}.log", setup.log_level)
    _RUNNING.base_ram_bytes = private_ram_of(psutil.Process())
    return Pulse(setup.pulse)


def _end_with(parent: int) -> None:
    """End at once when the main process is gone, even in the middle of a task.

    Under fork, its siblings hold what would tell that it died: the parent's id tells. Under
    forkserver, the parent is the forkserver, which lives as long as its children.
    """
    main = multiprocessing.parent_process()
    while main is not None and main.is_alive() and os.getppid() == parent:
        main.join(_ORPHAN_CHECK_S)
    kill_family(psutil.Process())


def _log_to(path: Path, level: int) -> None:
    handler = logging.FileHandler(path, encoding="utf-8", delay=True)
    handler.setFormatter(_TileFormatter(LOG_FORMAT))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    logging.captureWarnings(capture=True)


class _TileFormatter(logging.Formatter):
    """Puts the tile that is worked for before each message."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - as logging calls it
        if _RUNNING.tile:
            record.message = f"{_RUNNING.tile}: {record.message}"
        return super().formatMessage(record)


def run_job(order: JobOrder, pulse: Pulse, setup: WorkerSetup) -> JobDone | JobFailed:
    """Run the steps of a job, one after the other; what they raise is returned."""
    began = time.monotonic()
    name = ""
    _RUNNING.tile = order.tile
    try:
        for index, step in enumerate(order.steps):
            name = step.name
            if index:
                pulse.step(order.number, index)
            _RUNNING.results = outputs_of(_call(step), step.nout)
        stored = tuple(
            _put(value, keep, setup) if keep else None
            for value, keep in zip(_RUNNING.results, order.keep, strict=True)
        )
        return JobDone(order.number, stored, _own_ram_bytes(), time.monotonic() - began)
    except BaseException as error:
        LOG.warning("task %s failed", name, exc_info=True)
        raised = Raised.by(name, error)
        return JobFailed(order.number, raised, _own_ram_bytes(), time.monotonic() - began)
    finally:
        _RUNNING.results = ()
        _RUNNING.tile = ""


def _put(value: Any, keep: Keep, setup: WorkerSetup) -> Stored:
    if keep is Keep.HANDED:
        return put(value, setup.folder, hand_folder=setup.hand_folder)
    return put(value, setup.folder)


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


def _own_ram_bytes() -> int:
    """Measure the memory of this process, at most a hundred times a second."""
    now = time.monotonic()
    if now - _RUNNING.ram_looked_at > _RAM_CHECK_S:
        _RUNNING.ram_looked_at = now
        held = private_ram_of(psutil.Process())
        _RUNNING.ram_bytes = max(0, held - _RUNNING.base_ram_bytes)
    return _RUNNING.ram_bytes
