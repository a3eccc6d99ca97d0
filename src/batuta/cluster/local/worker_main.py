"""The process of a local worker: receives jobs, runs them, returns where their results are."""

import contextlib
import importlib
import logging
import os
import signal
import socket
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any, Final, NamedTuple

import psutil

from batuta.cluster.execution import (
    LOG_FORMAT,
    Instruments,
    Step,
    StepRunner,
    collect_repeats,
    this_worker,
)
from batuta.cluster.local.framing import Reader, framed
from batuta.cluster.local.heartbeat import IDLE, Heartbeat
from batuta.cluster.local.process_tree import private_bytes_of
from batuta.cluster.remote_error import RemoteError
from batuta.cluster.store import TRAFFIC, StoredResult, put
from batuta.errors import describe_error
from batuta.process_family import FAMILY_VARIABLE
from batuta.profiling.capture.factory import make_caller
from batuta.profiling.capture.options import ProfileOptions
from batuta.profiling.capture.probe import Probe
from batuta.profiling.capture.records import Measure, Repeats
from batuta.profiling.capture.sink import FolderSink

_MEMORY_CHECK_S: Final = 0.01


@dataclass(frozen=True, kw_only=True)
class WorkerSetup:
    """What a worker needs to start."""

    folder: str
    """Where it writes results."""
    handover_folder: str
    """Where it writes those that the main process alone will read: in memory."""
    heartbeat_path: str
    """File in which it writes what it runs."""
    environment: Mapping[str, str]
    """Variables of the program: the process that the worker is forked from may have had others."""
    imports: tuple[str, ...]
    """Modules to import before anything else."""
    log_folder: str | None
    log_level: int
    profile: ProfileOptions | None
    """How tasks are profiled, beyond what is always measured."""
    profile_folder: str
    """Where profilers write their files."""


class Destination(IntEnum):
    """Who reads an output of a job, and so where it is written."""

    NOBODY = 0
    """Nobody: it is dropped."""
    TASKS = 1
    """Other tasks, perhaps long after: the folder of results."""
    MAIN_PROCESS = 2
    """The main process alone, and soon: memory."""


class JobRequest(NamedTuple):
    """Asks a worker to run the steps of a job and store the outputs of the last one."""

    number: int
    """Of the request: each worker counts its own."""
    steps: tuple[Step, ...]
    destinations: tuple[Destination, ...]
    """Of each output of the last step."""
    tile: str
    """The tile that the job computes, to be named in the log."""
    last: bool
    """Whether the worker ends after it."""


class Ready(NamedTuple):
    """The worker has started, or could not: then `problem` is why."""

    problem: str | None
    pid: int
    base_bytes: int = 0
    """Its memory before it has run anything."""


class JobUsage(NamedTuple):
    """The memory and the time that a job used."""

    held_bytes: int
    """Memory of the worker after the job, beyond what it held when it started."""
    duration_s: float
    measures: tuple[Measure, ...]
    """Of the steps that began; where one raised, that is the last."""
    repeats: Repeats


class JobDone(NamedTuple):
    """The job ran: where its outputs are, None for those that nobody reads."""

    number: int
    outputs: tuple[StoredResult | None, ...]
    usage: JobUsage


class JobFailed(NamedTuple):
    """A step of the job raised."""

    number: int
    error: RemoteError
    usage: JobUsage


def serve(link: socket.socket, setup: WorkerSetup) -> None:
    """Run the jobs that come through `link` until it closes: the whole life of a worker."""
    # The main process decides: Ctrl-C in a terminal reaches all of its processes.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        worker = _start(setup)
    except Exception as exc:  # noqa: BLE001 - sent to the main process, which decides
        link.sendall(framed(Ready(describe_error(exc), os.getpid())))
        return
    link.sendall(framed(Ready(None, os.getpid(), worker.base_bytes)))
    # The main process has died, or has closed its end to let this worker finish.
    with contextlib.suppress(EOFError, BrokenPipeError):
        worker.serve(link)
    worker.flush_profiles()


def _start(setup: WorkerSetup) -> "LocalWorker":
    _take_environment(setup.environment)
    for module in setup.imports:
        importlib.import_module(module)
    return LocalWorker(setup)


def _take_environment(wanted: Mapping[str, str]) -> None:
    """Replace the environment of this process by that of the program.

    The mark of its own family stays.
    """
    own = {FAMILY_VARIABLE}
    for name in os.environ.keys() - wanted.keys() - own:
        del os.environ[name]
    for name in wanted.keys() - own:
        if os.environ.get(name) != wanted[name]:
            os.environ[name] = wanted[name]


class LocalWorker:
    """A worker process that has started.

    Parameters
    ----------
    setup : WorkerSetup
        Its modules are imported.
    """

    def __init__(self, setup: WorkerSetup) -> None:
        self._setup = setup
        self._process = psutil.Process()
        self._runner: StepRunner | None = None
        """Of the job that runs."""
        if setup.log_folder is None:
            # On the screen, the main process tells of what fails: a line for each tile.
            logging.getLogger(StepRunner.__module__).disabled = True
        else:
            path = Path(setup.log_folder) / f"worker_{os.getpid()}.log"
            _log_to(path, setup.log_level, self._tile)
        self.base_bytes = private_bytes_of(self._process)
        self._held_bytes = 0
        self._held_read_s = 0.0
        self._heartbeat = Heartbeat(setup.heartbeat_path)
        self._sink = FolderSink(Path(setup.profile_folder), may_be_killed=True)
        self._instruments = Instruments(
            caller=make_caller(setup.profile, this_worker(), self._sink),
            probe=Probe(private=True, base_bytes=self.base_bytes),
            repeated=setup.profile is not None and setup.profile.loops > 1,
        )

    def _tile(self) -> str:
        return "" if self._runner is None else self._runner.tile

    def flush_profiles(self) -> None:
        """Write what profilers hold."""
        self._instruments.caller.flush()

    def serve(self, link: socket.socket) -> None:
        """Run jobs until the last one.

        Raises
        ------
        EOFError, BrokenPipeError
            When the main process has closed `link`, or died.
        """
        own_pid = os.getpid()
        reader = Reader(link)
        requests: deque[JobRequest] = deque()
        while True:
            if not requests:
                self._instruments.caller.on_idle()
            while not requests:
                requests.extend(reader.messages())
            request = requests.popleft()
            if not self._heartbeat.begin(request.number):
                continue  # withdrawn meanwhile: it runs in another worker
            outcome = self.run_job(request)
            if os.getpid() != own_pid:
                os._exit(0)  # the task forked, and its child returned here
            if request.last:
                # Before the outcome is sent: from then on the main process may kill this worker.
                self.flush_profiles()
            # Idle only once the outcome is sent: until then the time limit applies, and a worker
            # that dies loses the job in its last step.
            link.sendall(framed(outcome))
            self._heartbeat.record_step(request.number, IDLE)
            if request.last:
                return

    def run_job(self, request: JobRequest) -> JobDone | JobFailed:
        """Run the steps of a job, one after the other; what they raise is returned."""
        start_s = time.monotonic()
        with StepRunner(request.steps, self._instruments, TRAFFIC, request.tile) as runner:
            self._runner = runner

            def before_step(rank: int, _: Step) -> None:
                if rank:  # `Heartbeat.begin` has recorded the first
                    self._heartbeat.record_step(request.number, rank)

            try:
                runner.run(before_step)
                stored = tuple(
                    self._store(value, destination) if destination else None
                    for value, destination in zip(runner.results, request.destinations, strict=True)
                )
                return JobDone(request.number, stored, self._usage(start_s, runner))
            except BaseException as exc:  # noqa: BLE001 - logged and returned
                error = runner.describe_failure(exc)
                return JobFailed(request.number, error, self._usage(start_s, runner))
            finally:
                self._runner = None

    def _store(self, value: Any, destination: Destination) -> StoredResult:
        if destination is Destination.MAIN_PROCESS:
            return put(value, self._setup.folder, handover_folder=self._setup.handover_folder)
        return put(value, self._setup.folder)

    def _usage(self, start_s: float, runner: StepRunner) -> JobUsage:
        measures = runner.finish()  # first: what follows is not the task's
        duration_s = time.monotonic() - start_s
        return JobUsage(self._read_held_bytes(), duration_s, measures, collect_repeats(self._sink))

    def _read_held_bytes(self) -> int:
        """Measure the memory of this process, at most a hundred times a second."""
        now_s = time.monotonic()
        if now_s - self._held_read_s > _MEMORY_CHECK_S:
            self._held_read_s = now_s
            self._held_bytes = max(0, private_bytes_of(self._process) - self.base_bytes)
        return self._held_bytes


def _log_to(path: Path, level: int, tile: Callable[[], str]) -> None:
    handler = logging.FileHandler(path, encoding="utf-8", delay=True, errors="backslashreplace")
    handler.setFormatter(_TileFormatter(tile))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    logging.captureWarnings(capture=True)


class _TileFormatter(logging.Formatter):
    """Puts the tile that the worker computes before each message.

    The tile of the process, not of the thread: threads that a task has started log too.
    """

    def __init__(self, tile: Callable[[], str]) -> None:
        super().__init__(LOG_FORMAT)
        self._tile = tile

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - as logging calls it
        if tile := self._tile():
            record.message = f"{tile}: {record.message}"
        return super().formatMessage(record)
