"""Worker processes, seen from the main process.

Nothing is shared between workers: whatever happens to one costs its own job only, and which job a
worker runs is always known.
"""

import contextlib
import importlib
import inspect
import json
import multiprocessing
import os
import queue
import socket
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from multiprocessing import forkserver, spawn
from typing import Any, Final

import psutil

from batuta.cluster import preload
from batuta.cluster.errors import ClusterError
from batuta.cluster.graph import Job
from batuta.cluster.local.framing import Reader, framed
from batuta.cluster.local.heartbeat import RESTING, Doing, Pulse, pulse_path
from batuta.cluster.local.process_tree import kill_family, private_ram_of_family
from batuta.cluster.local.worker_main import JobOrder, WorkerSetup, serve, worker_id
from batuta.cluster.store import Stored
from batuta.profiling.capture.options import ProfileOptions

PRELOADED: Final = (
    "batuta.cluster.local.worker_main",
    "batuta.datasets",
    "batuta.cluster.local.forkserver_warm",
)
"""What every worker needs, with numpy, pandas, xarray and rasterio behind it."""


@dataclass(frozen=True, kw_only=True)
class PoolSettings:
    """How workers are made."""

    start_method: str
    folder: str
    hand_folder: str
    log_folder: str | None
    log_level: int
    profile: ProfileOptions | None = None
    profile_folder: str = ""
    preload: tuple[str, ...] = PRELOADED
    """Modules that the forkserver imports once, so that a new worker starts at once. Python has
    one forkserver for each process: the first cluster that starts workers decides."""


def modules_for(functions: Iterable[Callable[..., Any]]) -> tuple[str, ...]:
    """Name the modules that a worker imports to run `functions`."""
    modules = dict.fromkeys(
        (
            *preload.modules(),
            *PRELOADED,
            *(getattr(each, "__module__", "") for each in functions),
        )
    )
    # A worker runs the imports of the main script too.
    for value in vars(sys.modules["__main__"]).values():
        modules[value.__name__ if inspect.ismodule(value) else getattr(value, "__module__", "")] = (
            None
        )
    return tuple(name for name in modules if isinstance(name, str) and name not in {"", "__main__"})


_FORKSERVER_START: Final = threading.Lock()


def _context(settings: PoolSettings) -> Any:
    context = multiprocessing.get_context(settings.start_method)
    if settings.start_method == "forkserver":
        first, last = "batuta.cluster.local.forkserver_path", "batuta.cluster.local.forkserver_main"
        context.set_forkserver_preload([first, *settings.preload, last])
        _run_forkserver()
    elif settings.start_method == "fork":
        _import_all(settings.preload)
    return context


def _import_all(modules: Iterable[str]) -> None:
    """Import here what workers need: forked amid an import, they would wait for ever."""
    for name in modules:
        with contextlib.suppress(ImportError):  # whoever needs it will tell
            importlib.import_module(name)


def _run_forkserver() -> None:
    """Have the forkserver run; it learns of the main process from its environment."""
    told = spawn.get_preparation_data("forkserver")
    wanted = ("sys_path", "init_main_from_path", "init_main_from_name")
    message = json.dumps({key: told[key] for key in wanted if key in told})
    with _FORKSERVER_START:  # two clusters may start at once
        os.environ[preload.FORKSERVER_VARIABLE] = message
        try:
            forkserver.ensure_running()
        finally:
            del os.environ[preload.FORKSERVER_VARIABLE]


@dataclass(slots=True, eq=False)
class Assignment:
    """A job that was sent to a worker."""

    number: int
    job: Job
    calls: list[Stored]
    """The calls of its steps, kept until it ends."""
    sent_bytes: int = 0


class Worker:
    """One worker process.

    Parameters
    ----------
    settings : PoolSettings
        How it is made.
    name : str
        Different for each worker of a cluster.
    """

    def __init__(self, settings: PoolSettings, name: str) -> None:
        self.settings = settings
        self.name = name
        self.given = 0
        """How many jobs it was given and has kept."""
        self.leaving = False
        """Whether it ends after what it was given."""
        self.assigned: deque[Assignment] = deque()
        """What it was given and has not answered, in order."""
        self.verdict: ClusterError | None = None
        """Why it was killed, when we did it."""
        self.condemned = -1
        """The order that it was killed for."""
        self.base_ram_bytes = 0
        """What it held when it started: what it shares with those it was made from."""
        self.peak_ram_bytes = 0
        """The most memory it was seen to hold while it ran what it runs."""
        self.exit_code: int | None = None
        self.last_doing = Doing(-1, RESTING, 0.0)
        """What it did when it died."""
        self.problem: BaseException | None = None
        """What kept its process from being made."""
        self.who = worker_id(0)
        """Its process, by its name in profiles."""
        self.pulse: Pulse | None = None
        self.process: psutil.Process | None = None
        self.link: socket.socket | None = None
        self.sentinel = -1
        self._seen = (-1, RESTING)
        """The order and the step that it was last seen to do."""
        self._next_number = 0
        self._taken_back_until = 0
        self._taken_back_bytes = 0
        """Of orders taken back, which wait in its socket until it reads past them."""
        self._reader: Reader | None = None
        self._outbox: list[bytes] = []
        self._child: Any = None

    # Called in the thread of the personnel

    def start(self) -> None:
        """Make its process."""
        self.pulse = Pulse.create(pulse_path(self.settings.folder, self.name))
        ours, theirs = socket.socketpair()
        setup = WorkerSetup(
            folder=self.settings.folder,
            hand_folder=self.settings.hand_folder,
            pulse=self.pulse.path,
            imports=preload.modules(),
            log_folder=self.settings.log_folder,
            log_level=self.settings.log_level,
            profile=self.settings.profile,
            profile_folder=self.settings.profile_folder,
        )
        with theirs:
            self.link, self._reader = ours, Reader(ours)
            child = _context(self.settings).Process(
                target=serve, args=(theirs, setup), name=f"batuta-{self.name}", daemon=True
            )
            child.start()
        self._child = child
        self.sentinel = child.sentinel
        self.process = psutil.Process(child.pid)
        self.who = worker_id(child.pid)

    def bury(self) -> None:
        """End its process if it has not ended; free what it held. Once is enough."""
        child, self._child = self._child, None
        if child is not None:
            if child.exitcode is None:
                self.kill()
            child.join()
            self.exit_code = child.exitcode
            child.close()
        if self.link is not None:
            self.link.close()
        pulse, self.pulse = self.pulse, None
        if pulse is not None:
            self.last_doing = pulse.doing()
            pulse.remove()

    # Called in the thread of the scheduler

    def socket(self) -> socket.socket:
        """Return our end of what links it to us."""
        if self.link is None:
            raise ClusterError("the worker has not started")
        return self.link

    @property
    def waiting_bytes(self) -> int:
        """Bytes of the orders that it may not have read yet."""
        return self._taken_back_bytes + sum(each.sent_bytes for each in self.assigned)

    def assign(self, job: Job, order: JobOrder, calls: list[Stored]) -> None:
        """Return it a job, sent by `flush`."""
        message = framed(order)
        self.assigned.append(Assignment(order.number, job, calls, len(message)))
        self.given += 1
        self.leaving = order.last
        self._outbox.append(message)

    def next_number(self) -> int:
        """Number the next order."""
        self._next_number += 1
        return self._next_number - 1

    def flush(self) -> None:
        """Send what it was given."""
        message = b"".join(self._outbox)
        self._outbox.clear()
        # Of a worker that died, the silence will tell.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.socket().sendall(message)

    def messages(self) -> list[Any]:
        """Return what it said.

        Raises
        ------
        EOFError
            If it will say nothing more.
        BlockingIOError
            If it said nothing.
        """
        return list(self._reader.messages(wait=False))  # type: ignore[union-attr]  # it has started

    def answered(self, number: int) -> Assignment | None:
        """Take the assignment that it answers."""
        if number >= self._taken_back_until:
            self._taken_back_bytes = 0
        if self.assigned and self.assigned[0].number == number:
            return self.assigned.popleft()
        return None

    def take_back(self) -> list[Assignment]:
        """Take back what it was given and has not begun; nothing if it is choosing just now."""
        if len(self.assigned) < 2 or self.leaving:
            return []
        first = self.pulse.take_back(self._next_number)  # type: ignore[union-attr]
        taken: list[Assignment] = []
        while first is not None and self.assigned and self.assigned[-1].number >= first:
            taken.append(self.assigned.pop())
            self._taken_back_bytes += taken[-1].sent_bytes
            self._taken_back_until = self._next_number
        self.given -= len(taken)
        return taken

    def doing(self) -> Doing:
        """Tell what it does."""
        return self.pulse.doing()  # type: ignore[union-attr]  # it has started

    def moved_on(self) -> bool:
        """Whether it does something else than at the last look."""
        before = self._seen
        self._seen = self.doing()[:2]
        return self._seen != before

    def ram_bytes(self) -> int:
        """Memory that it and what it started took and share with no other; 0 when it is gone."""
        try:
            held = 0 if self.process is None else private_ram_of_family(self.process)
        except psutil.Error:
            return 0
        return max(0, held - self.base_ram_bytes)

    def gone(self) -> bool:
        """Whether its process has ended, though what it started may hold its link open."""
        if self.process is None:
            return False
        try:
            return self.process.status() in {psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD}
        except psutil.NoSuchProcess:
            return True

    def condemn(self, verdict: ClusterError, number: int) -> None:
        """Kill it for what it does: order `number`."""
        self.verdict = verdict
        self.condemned = number
        self.kill()

    def spared(self, number: int) -> bool:
        """Whether it died for another order than this one, which it had just ended."""
        return self.verdict is not None and number != self.condemned

    def kill(self) -> None:
        """Kill its process at once, and those that its task started."""
        if self.process is not None:
            kill_family(self.process)


@dataclass(frozen=True)
class _Errand:
    """What the personnel is asked to do with a worker, and whom to tell when it is done."""

    do: Callable[[], None]
    worker: Worker
    tell: Callable[[Worker], None]


@dataclass
class Personnel:
    """Makes and buries processes, in a thread of its own: both take milliseconds."""

    _errands: queue.SimpleQueue[_Errand | None] = field(default_factory=queue.SimpleQueue)
    _thread: threading.Thread | None = None

    def hire(self, worker: Worker, tell: Callable[[Worker], None]) -> None:
        """Start a worker; then `tell` it, in this thread."""
        self._do(_Errand(worker.start, worker, tell))

    def bury(self, worker: Worker, tell: Callable[[Worker], None]) -> None:
        """Free what a dead worker held; then `tell` it, in this thread."""
        self._do(_Errand(worker.bury, worker, tell))

    def close(self) -> None:
        """Return when all errands are done."""
        if self._thread is not None:
            self._errands.put(None)
            self._thread.join()

    def _do(self, errand: _Errand) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="batuta-personnel", daemon=True)
            self._thread.start()
        self._errands.put(errand)

    def _run(self) -> None:
        for errand in iter(self._errands.get, None):
            try:
                errand.do()
            except Exception as exc:  # noqa: BLE001 - told, to whoever decides
                errand.worker.problem = exc
            errand.tell(errand.worker)
