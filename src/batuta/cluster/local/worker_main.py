"""What runs in a worker process."""

import contextlib
import copy
import functools
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
from batuta.cluster.local.framing import Reader, framed
from batuta.cluster.local.heartbeat import RESTING, Pulse
from batuta.cluster.local.process_tree import kill_children, kill_family, private_ram_of
from batuta.cluster.remote_error import Raised
from batuta.cluster.store import TRAFFIC, Stored, fetch, put
from batuta.errors import describe_error
from batuta.profiling.capture.contract import Caller, CallLabel
from batuta.profiling.capture.factory import make_caller
from batuta.profiling.capture.options import ProfileOptions
from batuta.profiling.capture.probe import Probe, ProbeStart
from batuta.profiling.capture.records import Measure, Repeats, WorkerId
from batuta.profiling.capture.sink import FolderSink

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
    profile: ProfileOptions | None
    """How tasks are profiled, beyond what is always measured."""
    profile_folder: str
    """Where profilers leave their files."""


class Step(NamedTuple):
    """One task of a job, ready to run."""

    call: Stored
    """The function, its arguments and its keyword arguments."""
    name: str
    nout: int
    label: CallLabel


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


class Account(NamedTuple):
    """What a job took."""

    ram_bytes: int
    """That the worker holds after it, beyond what it held at first."""
    took_s: float
    measures: tuple[Measure, ...]
    """Of its steps; where one raised, that is the last."""
    repeats: Repeats


class JobDone(NamedTuple):
    """The job ran; where its outputs are, None for those that nobody wants."""

    number: int
    outputs: tuple[Stored | None, ...]
    account: Account


class JobFailed(NamedTuple):
    """A step of the job raised."""

    number: int
    raised: Raised
    account: Account


@dataclass(slots=True)
class _Running:
    """What this process is doing."""

    results: Sequence[Any] = ()
    """Of the step before, for the one that runs now."""
    tile: str = ""
    base_ram_bytes: int = 0
    ram_bytes: int = 0
    ram_looked_at: float = 0.0
    repeated: bool = False
    """Whether each step runs several times."""


_RUNNING: Final = _Running()


class LocalResult:
    """Stands, when pickled, for a result of the step before in the same job."""

    def __init__(self, index: int) -> None:
        self.index = index

    def __reduce__(self) -> tuple[Callable[[int], Any], tuple[int]]:
        return _local_result, (self.index,)


def _local_result(index: int) -> Any:
    value = _RUNNING.results[index]
    # The next repetition is to find it as this one does.
    return copy.deepcopy(value) if _RUNNING.repeated else value


def serve(link: socket.socket, setup: WorkerSetup) -> None:
    """Run what comes through `link` until told to end; the whole life of a worker."""
    # The main process decides: Ctrl-C in a terminal reaches all of its processes.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        worker = _start(setup)
    except Exception as exc:  # noqa: BLE001 - told to the main process, which decides
        link.sendall(framed(Ready(describe_error(exc))))
        return
    link.sendall(framed(Ready(None, _RUNNING.base_ram_bytes)))
    with contextlib.suppress(EOFError, BrokenPipeError):  # the main process is gone, or lets go
        _work(link, worker)
    worker.caller.flush()
    kill_children()


def _work(link: socket.socket, worker: "Equipment") -> None:
    own_pid = os.getpid()
    reader = Reader(link)
    orders: deque[JobOrder] = deque()
    while True:
        if not orders:
            worker.caller.on_idle()
        while not orders:
            orders.extend(reader.messages())
        order = orders.popleft()
        if not worker.pulse.begin(order.number):
            continue
        outcome = run_job(order, worker)
        if os.getpid() != own_pid:
            os._exit(0)  # the task forked, and its child came back here
        if order.last:
            worker.caller.flush()  # whoever has said the last word is not waited for
        link.sendall(framed(outcome))
        worker.pulse.step(order.number, RESTING)
        if order.last:
            return


@dataclass(frozen=True)
class Equipment:
    """What a worker works with."""

    setup: WorkerSetup
    pulse: Pulse
    probe: Probe
    delivery: FolderSink
    caller: Caller


def _start(setup: WorkerSetup) -> Equipment:
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    for module in setup.imports:
        importlib.import_module(module)
    if setup.log_folder is not None:
        _log_to(Path(setup.log_folder) / f"worker_{os.getpid()}.log", setup.log_level)
    _RUNNING.base_ram_bytes = private_ram_of(psutil.Process())
    _RUNNING.repeated = setup.profile is not None and setup.profile.loops > 1
    delivery = FolderSink(Path(setup.profile_folder), may_be_killed=True)
    return Equipment(
        setup,
        Pulse(setup.pulse),
        Probe(private=True, base_bytes=_RUNNING.base_ram_bytes),
        delivery,
        make_caller(setup.profile, this_worker(), delivery),
    )


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
    handler = logging.FileHandler(path, encoding="utf-8", delay=True, errors="backslashreplace")
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


def run_job(order: JobOrder, worker: Equipment) -> JobDone | JobFailed:
    """Run the steps of a job, one after the other; what they raise is returned."""
    began = time.monotonic()
    measures = _Measures(worker.probe)
    _RUNNING.tile = order.tile
    try:
        for index, step in enumerate(order.steps):
            if index:
                measures.end()
                worker.pulse.step(order.number, index)
            measures.begin(step.name)
            opened = functools.partial(fetch, step.call)
            _RUNNING.results = outputs_of(worker.caller.call(step.label, opened), step.nout)
        stored = tuple(
            _put(value, keep, worker.setup) if keep else None
            for value, keep in zip(_RUNNING.results, order.keep, strict=True)
        )
        return JobDone(order.number, stored, _account(began, measures, worker))
    except BaseException as exc:
        LOG.warning("task %s failed", measures.name, exc_info=True)
        raised = Raised.by(measures.name, exc)
        return JobFailed(order.number, raised, _account(began, measures, worker))
    finally:
        _RUNNING.results = ()
        _RUNNING.tile = ""


def _account(began: float, measures: "_Measures", worker: Equipment) -> Account:
    measured = measures.all()  # first: what follows is not the task's
    took_s = time.monotonic() - began
    return Account(_own_ram_bytes(), took_s, measured, repeats_of(worker.delivery))


def repeats_of(delivery: FolderSink) -> Repeats:
    """Take what repeating tasks has shown since the last time."""
    return Repeats(tuple(delivery.collect_loops()), tuple(delivery.collect_leaks()))


class _Measures:
    """Measures the steps of a job, one after the other."""

    def __init__(self, probe: Probe) -> None:
        self.name = ""
        """Of the step that runs."""
        self._probe = probe
        self._ended: list[Measure] = []
        self._begun: ProbeStart | None = None
        self._read = self._written = 0

    def begin(self, name: str) -> None:
        """Record that a step begins."""
        self.name = name
        self._read, self._written = TRAFFIC.read, TRAFFIC.written
        self._begun = self._probe.begin()

    def end(self) -> None:
        """Record that it ends; harmless when it has ended."""
        if self._begun is not None:
            read, written = TRAFFIC.read - self._read, TRAFFIC.written - self._written
            self._ended.append(self._probe.end(self.name, self._begun, read, written))
            self._begun = None

    def all(self) -> tuple[Measure, ...]:
        """Return what was measured of all steps, the one that runs included."""
        self.end()
        return tuple(self._ended)


def this_worker() -> WorkerId:
    """Name this process."""
    return worker_id(os.getpid())


def worker_id(pid: int) -> WorkerId:
    """Name a worker of this machine."""
    return WorkerId(f"process {pid}", socket.gethostname(), pid)


def _put(value: Any, keep: Keep, setup: WorkerSetup) -> Stored:
    if keep is Keep.HANDED:
        return put(value, setup.folder, hand_folder=setup.hand_folder)
    return put(value, setup.folder)


def outputs_of(value: Any, nout: int) -> Sequence[Any]:
    """Return the `nout` results in what a task returned."""
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
