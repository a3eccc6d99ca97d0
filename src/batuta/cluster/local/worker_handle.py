"""Worker processes, as the main process sees them.

Workers share nothing with each other: a worker that dies costs the job that it runs and no other,
and its heartbeat shows which job that is.
"""

import contextlib
import inspect
import os
import queue
import signal
import socket
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import psutil

from batuta.cluster import preload
from batuta.cluster.environment import check_start
from batuta.cluster.errors import ClusterError, WorkerLostError
from batuta.cluster.execution import worker_id
from batuta.cluster.family_process import FAMILY_PROCESSES
from batuta.cluster.graph import Job
from batuta.cluster.local.forkserver import start_forkserver
from batuta.cluster.local.framing import Reader, framed
from batuta.cluster.local.heartbeat import IDLE, Heartbeat, HeartbeatState, heartbeat_path
from batuta.cluster.local.process_tree import private_bytes_below
from batuta.cluster.local.program_copy import ProgramCopy
from batuta.cluster.local.worker_main import JobRequest, WorkerSetup, serve
from batuta.cluster.resources import MB
from batuta.cluster.store import StoredResult
from batuta.datasets.loaded_libraries import PANDAS, XARRAY
from batuta.process_family import KILL_FAMILY
from batuta.profiling.capture.options import ProfileOptions

PRELOADED: Final = ("batuta.cluster.local.worker_main", "batuta.cluster.local.forkserver_warm")
"""What every worker needs."""

_FOR_TILES: Final = {
    XARRAY: ("batuta.datasets.for_programs", "batuta.cluster.local.forkserver_warm_tiles"),
    PANDAS: (PANDAS,),
}
"""What workers need besides, by the library of its tiles that a program has imported."""


_SUPERVISOR_END_S: Final = 2.0
"""How long a supervisor may take to end after its worker."""


@dataclass(frozen=True, kw_only=True)
class PoolSettings:
    """How workers are started."""

    start_method: str
    folder: str
    handover_folder: str
    log_folder: str | None
    log_level: int
    profile: ProfileOptions | None = None
    profile_folder: str = ""
    environment: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    """Variables that they have: those of this process when the cluster is made."""
    preload: tuple[str, ...] = PRELOADED
    """Modules that the forkserver imports once, so that a new worker starts at once. Python has
    one forkserver for each process: the first cluster that starts workers decides."""
    copy: ProgramCopy | None = None
    """Forks them, where they are forked."""


_SHELLS: Final = frozenset({"IPython", "ipykernel"})


def modules_for_tiles() -> tuple[str, ...]:
    """Return the names of the modules that workers import for the tiles of this program."""
    return tuple(
        name for library, names in _FOR_TILES.items() if library in sys.modules for name in names
    )


def modules_for(functions: Iterable[Callable[..., Any]]) -> tuple[str, ...]:
    """Return the names of the modules that a worker imports to run `functions`."""
    modules = dict.fromkeys(
        (
            *preload.modules(),
            *PRELOADED,
            *modules_for_tiles(),
            # A function, or an object that is called.
            *(type(each).__module__ for each in functions),
            *(getattr(each, "__module__", "") for each in functions),
        )
    )
    # A worker runs the imports of the main script too.
    for value in vars(sys.modules["__main__"]).values():
        modules[value.__name__ if inspect.ismodule(value) else getattr(value, "__module__", "")] = (
            None
        )
    return tuple(name for name in modules if isinstance(name, str) and _is_useful(name))


def _is_useful(module: str) -> bool:
    """Return whether a worker may need a module; not that of the shell that runs a notebook."""
    return module not in {"", "__main__"} and module.partition(".")[0] not in _SHELLS


def _new_process(settings: PoolSettings, name: str, *arguments: Any) -> Any:
    """Return a process that will serve; it is not started yet."""
    if settings.start_method != "fork":
        check_start()
    if settings.start_method == "forkserver":
        start_forkserver(settings.preload, {}, needed=modules_for_tiles())
    if settings.copy is not None:
        process = settings.copy.process(serve, *arguments, name=name)
        process.daemon = True
        return process
    kind = FAMILY_PROCESSES[settings.start_method]
    return kind(target=serve, args=arguments, name=name, daemon=True)


@dataclass(slots=True, eq=False)
class Assignment:
    """A job that was sent to a worker."""

    number: int
    """Of the request."""
    job: Job
    calls: list[StoredResult]
    """The stored calls of its steps, to be discarded when it ends."""
    sent_bytes: int = 0


class WorkerHandle:
    """One worker process.

    It is started and reaped in the thread of `ProcessSpawner`, and used in that of the scheduler in
    between. The two hand it over through queues and never use it at the same time: it has no lock.

    Parameters
    ----------
    settings : PoolSettings
        How it is started.
    name : str
        Unique among the workers of a cluster.
    """

    def __init__(self, settings: PoolSettings, name: str) -> None:
        self.settings = settings
        self.name = name
        self.job_count = 0
        """How many jobs it was assigned, those withdrawn excluded."""
        self.worked_s = 0.0
        """How long the jobs took that it has run."""
        self.leaving = False
        """Whether it ends after the jobs that it was assigned."""
        self.assigned: deque[Assignment] = deque()
        """The jobs whose outcome it has not sent, in the order in which it runs them."""
        self.kill_reason: ClusterError | None = None
        """Why it was killed, if it exceeded a limit."""
        self.killed_number = -1
        """The request that it ran when that was found."""
        self.ready = False
        """Whether it may have run tasks."""
        self.base_bytes = 0
        """Its memory when it started: modules, and what it shares with the process it came from."""
        self.peak_bytes = 0
        """The most memory that it was found to hold during the job that it runs."""
        self.exit_code: int | None = None
        self.family_ends = False
        """Whether its supervisor was told to end all that it started."""
        self.last_state = HeartbeatState(-1, IDLE, 0.0)
        """What it ran when it died."""
        self.problem: BaseException | None = None
        """Why it could not be started."""
        self.who = worker_id(0)
        """Its name in profiles."""
        self.heartbeat: Heartbeat | None = None
        self.process: psutil.Process | None = None
        """Its supervisor, which outlives it and ends what it started: see `FamilyProcess`."""
        self.link: socket.socket | None = None
        self.sentinel = -1
        self._last_progress = (-1, IDLE)
        """The request and the step at the last call of `made_progress`."""
        self._reported_number = -1
        """Of the last request that `begun_job` has told of."""
        self._next_number = 0
        self._withdrawn_end = 0
        self._withdrawn_bytes = 0
        """Of requests withdrawn, which stay in its socket until it has read past them."""
        self._reader: Reader | None = None
        self._outbox: list[bytes] = []
        self._child: Any = None

    # Called in the thread of the spawner

    def start(self) -> None:
        """Start the process."""
        self.heartbeat = Heartbeat.create(heartbeat_path(self.settings.folder, self.name))
        ours, theirs = socket.socketpair()
        setup = WorkerSetup(
            folder=self.settings.folder,
            handover_folder=self.settings.handover_folder,
            heartbeat_path=self.heartbeat.path,
            environment=self.settings.environment,
            imports=preload.modules(),
            log_folder=self.settings.log_folder,
            log_level=self.settings.log_level,
            profile=self.settings.profile,
            profile_folder=self.settings.profile_folder,
        )
        # Our copy of the worker's end is closed at once: as long as any process holds it open, the
        # death of the worker does not close the link.
        with theirs:
            self.link, self._reader = ours, Reader(ours)
            child = _new_process(self.settings, f"batuta-{self.name}", theirs, setup)
            child.start()
        self._child = child
        self.sentinel = child.sentinel
        try:
            self.process = psutil.Process(child.pid)
        except psutil.Error:
            child.kill()  # who cannot be found cannot be watched
            raise

    def reap(self) -> None:
        """Wait for the end of the process, killed if it has not ended, and free what it used.

        Harmless when done before.
        """
        child, self._child = self._child, None
        if child is not None:
            if child.exitcode is None and not self.family_ends:
                # The worker has ended, and its supervisor does so just now. Whether somebody killed
                # that, and left a family to be found, cannot be told once we kill it too.
                child.join(_SUPERVISOR_END_S)
            if child.exitcode is None:
                self.kill()
            child.family_ends = self.family_ends
            child.join()
            self.exit_code = child.exitcode
            child.close()
        if self.link is not None:
            self.link.close()
        heartbeat, self.heartbeat = self.heartbeat, None
        if heartbeat is not None:
            # After the end of the process: what it wrote last is final.
            self.last_state = heartbeat.read()
            heartbeat.close()

    # Called in the thread of the scheduler

    def socket(self) -> socket.socket:
        """Return our end of the link."""
        if self.link is None:
            raise ClusterError("the worker has not started")
        return self.link

    @property
    def unread_bytes(self) -> int:
        """At most how many bytes of requests wait in its socket."""
        return self._withdrawn_bytes + sum(each.sent_bytes for each in self.assigned)

    def assign(self, job: Job, request: JobRequest, calls: list[StoredResult]) -> None:
        """Assign a job; `flush` sends it."""
        message = framed(request)
        self.assigned.append(Assignment(request.number, job, calls, len(message)))
        self.job_count += 1
        self.leaving = request.last
        self._outbox.append(message)

    def next_number(self) -> int:
        """Return the number of the next request."""
        self._next_number += 1
        return self._next_number - 1

    def flush(self) -> None:
        """Send the jobs that were assigned."""
        message = b"".join(self._outbox)
        self._outbox.clear()
        # If the worker has died, its link is at its end: what was assigned is found lost there.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.socket().sendall(message)

    def receive(self) -> list[Any]:
        """Return the messages that have arrived.

        Raises
        ------
        EOFError
            If no more will come.
        BlockingIOError
            If none has arrived.
        """
        return list(self._reader.messages(wait=False))  # type: ignore[union-attr]  # it has started

    def pop_assignment(self, number: int) -> Assignment | None:
        """Remove and return the assignment whose outcome was received."""
        if number >= self._withdrawn_end:
            # It was sent after those withdrawn, so the worker has read past them.
            self._withdrawn_bytes = 0
        if self.assigned and self.assigned[0].number == number:
            return self.assigned.popleft()
        return None

    def withdraw(self) -> list[Assignment]:
        """Withdraw the jobs that it has not begun; none if it is about to begin one.

        They stay in its socket, and it skips them: `Heartbeat.begin` returns False for each.
        """
        if len(self.assigned) < 2 or self.leaving:
            return []
        first = self.heartbeat.withdraw(self._next_number)  # type: ignore[union-attr]
        withdrawn: list[Assignment] = []
        while first is not None and self.assigned and self.assigned[-1].number >= first:
            withdrawn.append(self.assigned.pop())
            self._withdrawn_bytes += withdrawn[-1].sent_bytes
            self._withdrawn_end = self._next_number
        self.job_count -= len(withdrawn)
        return withdrawn

    def heartbeat_state(self) -> HeartbeatState:
        """Return what it runs."""
        return self.heartbeat.read()  # type: ignore[union-attr]  # it has started

    def made_progress(self) -> bool:
        """Whether it runs another step than at the last call."""
        before = self._last_progress
        self._last_progress = self.heartbeat_state()[:2]
        return self._last_progress != before

    def begun_job(self) -> Job | None:
        """Return the job that `made_progress` has found it to run, once for each job."""
        number = self._last_progress[0]
        if number == self._reported_number or not self.assigned:
            return None
        if self.assigned[0].number != number:
            return None
        self._reported_number = number
        return self.assigned[0].job

    def read_held_bytes(self) -> int:
        """Return the private memory of its processes beyond `base_bytes`; 0 if it has ended."""
        try:
            total = 0 if self.process is None else private_bytes_below(self.process.pid)
        except psutil.Error:
            return 0
        return max(0, total - self.base_bytes)

    def has_exited(self) -> bool:
        """Whether it and its family have ended, though another process may hold its link open."""
        if self.process is None:
            return False
        try:
            return self.process.status() in {psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD}
        except psutil.NoSuchProcess:
            return True

    def kill_for(self, reason: ClusterError, number: int) -> None:
        """Kill it because of request `number`, which exceeds a limit."""
        self.kill_reason = reason
        self.killed_number = number
        self.kill()

    def was_killed_for_another(self, number: int) -> bool:
        """Whether it was killed, but for another request than this one.

        It may have ended the request that exceeded the limit and begun the next one before the
        kill reached it: the next one is not to blame, and runs again.
        """
        return self.kill_reason is not None and number != self.killed_number

    def loss_of(self, number: int) -> ClusterError:
        """Return why a request has no outcome, once reaped: our reason before the exit code."""
        if self.kill_reason is not None and self.killed_number == number:
            return self.kill_reason
        if self.exit_code is not None and self.exit_code < 0:
            held = f", holding {self.peak_bytes / MB:.0f} MB" if self.peak_bytes else ""
            return WorkerLostError(
                f"its worker was ended by signal {-self.exit_code} while it ran{held}"
            )
        return WorkerLostError(f"its worker ended with code {self.exit_code} while it ran")

    def kill(self) -> None:
        """Kill it at once; its supervisor then kills what its task started.

        Before it is ready its supervisor may not supervise yet, and there is nothing to end: then
        that is killed, and the worker with it.
        """
        if self.process is not None:
            with contextlib.suppress(psutil.Error):  # it has ended
                self.family_ends = self.ready
                self.process.send_signal(KILL_FAMILY if self.ready else signal.SIGKILL)


@dataclass(frozen=True)
class _Request:
    """What the spawner is asked to do with a worker, and whom to call when it is done."""

    action: Callable[[], None]
    worker: WorkerHandle
    on_done: Callable[[WorkerHandle], None]


@dataclass
class ProcessSpawner:
    """Starts and reaps worker processes in a thread of its own.

    Both take milliseconds, in which the scheduler sends jobs to the other workers.
    """

    _requests: queue.SimpleQueue[_Request | None] = field(default_factory=queue.SimpleQueue)
    _thread: threading.Thread | None = None

    def start(self, worker: WorkerHandle, on_done: Callable[[WorkerHandle], None]) -> None:
        """Start a worker; then call `on_done`, in the thread of the spawner."""
        self._submit(_Request(worker.start, worker, on_done))

    def reap(self, worker: WorkerHandle, on_done: Callable[[WorkerHandle], None]) -> None:
        """Reap a worker; then call `on_done`, in the thread of the spawner."""
        self._submit(_Request(worker.reap, worker, on_done))

    def close(self) -> None:
        """Return when all requests are done."""
        if self._thread is not None:
            self._requests.put(None)
            self._thread.join()

    def _submit(self, request: _Request) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="batuta-spawner", daemon=True)
            self._thread.start()
        self._requests.put(request)

    def _run(self) -> None:
        for request in iter(self._requests.get, None):
            try:
                request.action()
            except Exception as exc:  # noqa: BLE001 - kept for `on_done`, which decides
                request.worker.problem = exc
            request.on_done(request.worker)
