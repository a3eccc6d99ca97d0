"""What each dask worker of ours does besides running jobs: it finds modules, logs, measures."""

import importlib
import logging
import os
import signal
import socket
import sys
import threading
import time
import warnings
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Final

import psutil
from distributed import Status, Worker, WorkerPlugin
from tornado.ioloop import PeriodicCallback

from batuta.cluster.dask.engine.remote import tile_worked_for
from batuta.cluster.dask.process_state import Change, Lent, State
from batuta.cluster.dask.telemetry import loggers
from batuta.cluster.dask.telemetry.outbox import Outbox, Told
from batuta.cluster.dask.telemetry.task_metrics import EQUIPPED, Equipment
from batuta.cluster.errors import ClusterError
from batuta.cluster.local.worker_main import LOG_FORMAT
from batuta.errors import encodable
from batuta.profiling.capture.options import ProfileOptions
from batuta.profiling.capture.records import WorkerId

_SEND_EVERY_MS: Final = 250
_MEASURE_EVERY_MS: Final = 1000
_MAX_LINES: Final = 1000
"""Lines sent at a time: a task that floods the log does not drown the scheduler."""


@dataclass(frozen=True)
class WorkerOptions:
    """What workers are told."""

    run: str
    """The client of the run; what workers tell is under it, and forgotten after it."""
    path: tuple[str, ...]
    """Where the main process finds modules."""
    imports: tuple[str, ...]
    """Modules that are imported first."""
    log_level: int
    send_log: bool
    measure_memory: bool
    measure_tasks: bool
    profile: ProfileOptions | None


class BatutaPlugin(WorkerPlugin):
    """Set up in each worker when it starts."""

    def __init__(self, options: WorkerOptions) -> None:
        self.name = plugin_name(options.run)
        self._options = options
        self._changes = ExitStack()
        self._callbacks: list[PeriodicCallback] = []
        self._outboxes: list[Outbox] = []
        self._lines: _Lines | None = None
        self._equipment: Equipment | None = None

    def setup(self, worker: Worker) -> None:
        """Prepare a worker."""
        self._leave_ctrl_c_to_the_main_process()
        _extend_path(self._options.path)
        for module in self._options.imports:
            importlib.import_module(module)
        if self._options.send_log:
            self._changes.enter_context(_LOGGING.changed(_logged_at(self._options.log_level)))
            self._changes.enter_context(_WARNINGS.changed(lambda _: {"captured": True}))
            self._lines = _Lines(self._options.log_level)
            self._have_sent(worker, Told.LINES, self._lines.collect)
        if self._options.measure_tasks:
            self._measure_tasks(worker)
        # What the first task would wait for; off the event loop, which answers meanwhile.
        threading.Thread(
            target=importlib.import_module, args=("batuta.cluster.local.forkserver_warm",)
        ).start()
        if self._options.measure_memory:
            self._repeat(_MemoryProbe(worker, self._options.run).measure, _MEASURE_EVERY_MS)

    def _repeat(self, action: Any, every_ms: float) -> None:
        callback = PeriodicCallback(action, every_ms)
        callback.start()
        self._callbacks.append(callback)

    def _have_sent(
        self, worker: Worker, told: Told, collect: Callable[[], dict[str, Any] | None]
    ) -> None:
        outbox = Outbox(worker, self._options.run, told, collect)
        self._outboxes.append(outbox)
        self._repeat(outbox.send, _SEND_EVERY_MS)

    def _measure_tasks(self, worker: Worker) -> None:
        pid = os.getpid()
        who = WorkerId(f"{worker.name}, process {pid}", socket.gethostname(), pid)
        self._equipment = Equipment(worker, self._options.profile, who)
        EQUIPPED[self._options.run] = self._equipment
        self._have_sent(worker, Told.TASKS, self._equipment.collect)

    def take_last(self) -> list[dict[str, Any]]:
        """Return what was not sent, after what may still be on its way; profilers end."""
        if self._equipment is not None:
            self._equipment.flush()
        return [message for outbox in self._outboxes for message in outbox.take_last()]

    @property
    def equipment(self) -> Equipment | None:
        """What tasks are measured with."""
        return self._equipment

    def _leave_ctrl_c_to_the_main_process(self) -> None:
        """Ignore it: in a terminal it reaches all processes, and the main one decides."""
        if threading.current_thread() is threading.main_thread():
            self._changes.enter_context(_CTRL_C.changed(lambda _: {"handler": signal.SIG_IGN}))

    def teardown(self, worker: Worker) -> None:
        """Send what is left to say, and leave a worker that goes on as it was."""
        for callback in self._callbacks:
            callback.stop()
        self._end_measuring(worker)
        for outbox in self._outboxes:
            outbox.send()
        if self._lines is not None:
            self._lines.close()
        if worker.status in {Status.running, Status.paused}:
            self._changes.close()

    def _end_measuring(self, worker: Worker) -> None:
        """Send the files that nobody has fetched: this worker leaves before the run ends."""
        EQUIPPED.pop(self._options.run, None)
        equipment = self._equipment
        if equipment is None:
            return
        equipment.flush()
        for folder, name in equipment.files():
            content = equipment.take_file(folder, name)
            told = {"told": Told.FILE.value, "folder": folder, "name": name, "content": content}
            worker.log_event(self._options.run, told)
        equipment.close()


def plugin_name(run: str) -> str:
    """Name the plugin of a run: other programs have theirs in the same workers."""
    return f"batuta-{run}"


def last_words(run: str, dask_worker: Worker) -> list[dict[str, Any]]:
    """Return the messages of what a worker has not told yet; run in the worker."""
    plugin = dask_worker.plugins.get(plugin_name(run))
    return plugin.take_last() if isinstance(plugin, BatutaPlugin) else []


def profiler_files(run: str, dask_worker: Worker) -> list[tuple[str, str]]:
    """List the files of profilers that a worker has; run in the worker."""
    plugin = dask_worker.plugins.get(plugin_name(run))
    if not isinstance(plugin, BatutaPlugin) or plugin.equipment is None:
        return []
    return plugin.equipment.files()


def profiler_file(run: str, folder: str, name: str, dask_worker: Worker) -> bytes:
    """Return one of them; run in the worker."""
    plugin = dask_worker.plugins[plugin_name(run)]
    if not isinstance(plugin, BatutaPlugin) or plugin.equipment is None:
        raise ClusterError(f"the worker has no file {folder}/{name}")
    return plugin.equipment.take_file(folder, name)


def _extend_path(path: Sequence[str]) -> None:
    sys.path.extend(each for each in path if each not in sys.path and os.path.isdir(each))  # noqa: PTH112 - strings


class _Lines(logging.Handler):
    """Keeps what a worker logs until it is collected."""

    def __init__(self, level: int) -> None:
        super().__init__(level)
        self._kept: deque[str] = deque(maxlen=_MAX_LINES)
        self._dropped = 0
        self.setFormatter(logging.Formatter(LOG_FORMAT))
        logging.getLogger().addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a message, with the tile that is worked for."""
        if tile := tile_worked_for():
            record = logging.makeLogRecord(record.__dict__)
            record.msg, record.args = f"{tile}: {record.getMessage()}", None
        self._dropped += len(self._kept) == _MAX_LINES
        self._kept.append(encodable(self.format(record)))

    def collect(self) -> dict[str, Any] | None:
        """Return what was kept, if anything, and keep it no longer."""
        lines = [self._kept.popleft() for _ in range(len(self._kept))]
        if self._dropped:
            lines.append(f"{self._dropped} lines before these were dropped: too many at a time")
            self._dropped = 0
        return {"lines": lines} if lines else None

    def close(self) -> None:
        """Log no more."""
        logging.getLogger().removeHandler(self)
        super().close()


def _is_not_told_twice(record: logging.LogRecord) -> bool:
    """Drop dask's report of a task that raised: `engine.remote` has logged it."""
    return not record.getMessage().startswith("Compute Failed")


_ROOT_LEVEL: Final = ("root", "level")
_FILTERS: Final = ("distributed.worker", "filters")


def _read_logging() -> State:
    return {
        **loggers.read(),
        _ROOT_LEVEL: logging.getLogger().level,
        _FILTERS: logging.getLogger("distributed.worker").filters[:],
    }


def _logged_at(level: int) -> Change:
    """Have what matters to a run logged; another run may want more."""

    def change(before: State) -> State:
        return {
            **loggers.quiet(before),
            _ROOT_LEVEL: min(before[_ROOT_LEVEL], level),
            _FILTERS: [*before[_FILTERS], _is_not_told_twice],
        }

    return change


def _take_ctrl_c(state: State) -> None:
    signal.signal(signal.SIGINT, state["handler"])


_LOGGING: Final = Lent(_read_logging, loggers.write)
_WARNINGS: Final = Lent(
    lambda: {"captured": warnings.showwarning.__module__ == "logging"},
    lambda state: logging.captureWarnings(state["captured"]),
)
_CTRL_C: Final = Lent(
    lambda: {"handler": signal.getsignal(signal.SIGINT)},
    _take_ctrl_c,
)


class _MemoryProbe:
    """Measures a worker."""

    def __init__(self, worker: Worker, run: str) -> None:
        self._worker = worker
        self._run = run
        self._process = psutil.Process()

    def measure(self) -> None:
        """Tell of its tasks, its data and its memory."""
        state, data = self._worker.state, self._worker.data
        spilled = getattr(data, "spilled_total", None)
        self._worker.log_event(
            self._run,
            {
                "told": Told.MEMORY.value,
                "time_s": time.time(),
                "worker": str(self._worker.name),
                "host": socket.gethostname(),
                "pid": os.getpid(),
                "tasks_running": len(state.executing),
                "tasks_waiting": len(state.ready),
                "results_held": len(data),
                "results_bytes": state.nbytes,
                "spilled_bytes": 0 if spilled is None else spilled.disk,
                "process_bytes": self._process.memory_info().rss,
            },
        )
