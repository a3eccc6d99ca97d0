"""What each dask worker of ours does besides running jobs: it finds modules, logs, measures."""

import importlib
import itertools
import logging
import os
import signal
import socket
import sys
import threading
import time
import warnings
from collections import deque
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

import psutil
from distributed import Status, Worker, WorkerPlugin
from tornado.ioloop import PeriodicCallback

from batuta.cluster.dask import loggers
from batuta.cluster.dask.calls import tile_worked_for
from batuta.cluster.dask.lent import Change, Lent, State
from batuta.cluster.worker import LOG_FORMAT

_SEND_EVERY_MS: Final = 250
_MEASURE_EVERY_MS: Final = 1000
_ON_THEIR_WAY: Final = 4
"""Messages that may not have come yet when a run ends: they are asked for again."""
_MAX_LINES: Final = 1000
"""Lines sent at a time: a task that floods the log does not drown the scheduler."""


class Told(StrEnum):
    """What workers tell."""

    LINES = "lines"
    MEMORY = "memory"


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


class BatutaPlugin(WorkerPlugin):
    """Set up in each worker when it starts."""

    def __init__(self, options: WorkerOptions) -> None:
        self.name = plugin_name(options.run)
        self._options = options
        self._changes = ExitStack()
        self._callbacks: list[PeriodicCallback] = []
        self._lines: _Lines | None = None

    def setup(self, worker: Worker) -> None:
        """Prepare a worker."""
        self._leave_ctrl_c_to_the_main_process()
        _extend_path(self._options.path)
        for module in self._options.imports:
            importlib.import_module(module)
        # What the first task would wait for; off the event loop, which answers meanwhile.
        threading.Thread(target=importlib.import_module, args=("batuta.cluster.warm",)).start()
        if self._options.send_log:
            self._changes.enter_context(_LOGGING.changed(_logged_at(self._options.log_level)))
            self._changes.enter_context(_WARNINGS.changed(lambda _: {"captured": True}))
            self._lines = _Lines(worker, self._options.run, self._options.log_level)
            self._repeat(self._lines.send, _SEND_EVERY_MS)
        if self._options.measure_memory:
            self._repeat(_MemoryProbe(worker, self._options.run).measure, _MEASURE_EVERY_MS)

    def _repeat(self, action: Any, every_ms: float) -> None:
        callback = PeriodicCallback(action, every_ms)
        callback.start()
        self._callbacks.append(callback)

    def take_lines(self) -> list[dict[str, Any]]:
        """Give what was logged and not sent, after what may still be on its way."""
        return [] if self._lines is None else self._lines.take_last()

    def _leave_ctrl_c_to_the_main_process(self) -> None:
        """Ignore it: in a terminal it reaches all processes, and the main one decides."""
        if threading.current_thread() is threading.main_thread():
            self._changes.enter_context(_CTRL_C.changed(lambda _: {"handler": signal.SIG_IGN}))

    def teardown(self, worker: Worker) -> None:
        """Send what is left to say, and leave a worker that goes on as it was."""
        for callback in self._callbacks:
            callback.stop()
        if self._lines is not None:
            self._lines.close()
        if worker.status in {Status.running, Status.paused}:
            self._changes.close()


def plugin_name(run: str) -> str:
    """Name the plugin of a run: other programs have theirs in the same workers."""
    return f"batuta-{run}"


def last_lines(run: str, dask_worker: Worker) -> list[dict[str, Any]]:
    """Give the messages of what a worker logged last; run in the worker."""
    plugin = dask_worker.plugins.get(plugin_name(run))
    return plugin.take_lines() if isinstance(plugin, BatutaPlugin) else []


def _extend_path(path: Sequence[str]) -> None:
    sys.path.extend(each for each in path if each not in sys.path and os.path.isdir(each))  # noqa: PTH112 - strings


class _Lines(logging.Handler):
    """Keeps what a worker logs until the next time it is sent."""

    def __init__(self, worker: Worker, run: str, level: int) -> None:
        super().__init__(level)
        self._worker = worker
        self._run = run
        self._kept: deque[str] = deque(maxlen=_MAX_LINES)
        self._dropped = 0
        self._numbers = itertools.count(1)
        self._sent: deque[dict[str, Any]] = deque(maxlen=_ON_THEIR_WAY)
        self.setFormatter(logging.Formatter(LOG_FORMAT))
        logging.getLogger().addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a message, with the tile that is worked for."""
        if tile := tile_worked_for():
            record = logging.makeLogRecord(record.__dict__)
            record.msg, record.args = f"{tile}: {record.getMessage()}", None
        self._dropped += len(self._kept) == _MAX_LINES
        self._kept.append(self.format(record))

    def send(self) -> None:
        """Send what was kept."""
        message = self.take()
        if message is not None:
            self._sent.append(message)
            self._worker.log_event(self._run, message)

    def take_last(self) -> list[dict[str, Any]]:
        """Give the messages that were sent last, and one of what was kept since."""
        message = self.take()
        return [*self._sent, *([] if message is None else [message])]

    def take(self) -> dict[str, Any] | None:
        """Give what was kept, if anything, and keep it no longer."""
        lines = [self._kept.popleft() for _ in range(len(self._kept))]
        if self._dropped:
            lines.append(f"{self._dropped} lines before these were dropped: too many at a time")
            self._dropped = 0
        if not lines:
            return None
        message = {"host": socket.gethostname(), "pid": os.getpid(), "lines": lines}
        return {"told": Told.LINES.value, "number": next(self._numbers), **message}

    def close(self) -> None:
        """Send what is left, and log no more."""
        logging.getLogger().removeHandler(self)
        self.send()
        super().close()


def _is_not_told_twice(record: logging.LogRecord) -> bool:
    """Leave out what dask says of a task that raised: `batuta.cluster.dask.calls` has said it."""
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
