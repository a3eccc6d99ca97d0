"""What each dask worker of ours does besides running jobs: it finds modules, logs, measures."""

import importlib
import logging
import os
import signal
import socket
import sys
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import psutil
from distributed import Worker, WorkerPlugin
from tornado.ioloop import PeriodicCallback

from batuta.cluster.dask.calls import tile_worked_for
from batuta.cluster.worker import LOG_FORMAT

LOG_TOPIC: Final = "batuta-log"
MEMORY_TOPIC: Final = "batuta-memory"

_SEND_EVERY_MS: Final = 250
_MEASURE_EVERY_MS: Final = 1000
_MAX_LINES: Final = 1000
"""Lines sent at a time: a task that floods the log does not drown the scheduler."""


@dataclass(frozen=True)
class WorkerOptions:
    """What workers are told."""

    path: tuple[str, ...]
    """Where the main process finds modules."""
    imports: tuple[str, ...]
    """Modules that are imported first."""
    log_level: int
    send_log: bool
    measure_memory: bool


class BatutaPlugin(WorkerPlugin):
    """Set up in each worker when it starts."""

    name = "batuta"

    def __init__(self, options: WorkerOptions) -> None:
        self._options = options
        self._callbacks: list[PeriodicCallback] = []
        self._lines: _Lines | None = None

    def setup(self, worker: Worker) -> None:
        """Prepare a worker."""
        _leave_ctrl_c_to_the_main_process()
        _extend_path(self._options.path)
        for module in self._options.imports:
            importlib.import_module(module)
        # What the first task would wait for; off the event loop, which answers meanwhile.
        threading.Thread(target=importlib.import_module, args=("batuta.cluster.warm",)).start()
        if self._options.send_log:
            self._lines = _Lines(worker, self._options.log_level)
            self._repeat(self._lines.send, _SEND_EVERY_MS)
        if self._options.measure_memory:
            self._repeat(_MemoryProbe(worker).measure, _MEASURE_EVERY_MS)

    def _repeat(self, action: Any, every_ms: float) -> None:
        callback = PeriodicCallback(action, every_ms)
        callback.start()
        self._callbacks.append(callback)

    def take_lines(self) -> dict[str, Any] | None:
        """Give what was logged and not sent."""
        return None if self._lines is None else self._lines.take()

    def teardown(self, worker: Worker) -> None:  # noqa: ARG002 - as dask calls it
        """Send what is left to say."""
        for callback in self._callbacks:
            callback.stop()
        if self._lines is not None:
            self._lines.close()


def last_lines(dask_worker: Worker) -> dict[str, Any] | None:
    """Give what a worker has logged and not sent; run in the worker."""
    plugin = dask_worker.plugins.get(BatutaPlugin.name)
    return plugin.take_lines() if isinstance(plugin, BatutaPlugin) else None


def _leave_ctrl_c_to_the_main_process() -> None:
    """Ignore it: in a terminal it reaches all processes, and the main one decides."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def _extend_path(path: Sequence[str]) -> None:
    sys.path.extend(each for each in path if each not in sys.path and os.path.isdir(each))  # noqa: PTH112 - strings


class _Lines(logging.Handler):
    """Keeps what a worker logs until the next time it is sent."""

    def __init__(self, worker: Worker, level: int) -> None:
        super().__init__()
        self._worker = worker
        self._kept: deque[str] = deque(maxlen=_MAX_LINES)
        self._dropped = 0
        self.setFormatter(logging.Formatter(LOG_FORMAT))
        root = logging.getLogger()
        root.addHandler(self)
        root.setLevel(level)
        logging.captureWarnings(capture=True)
        for logger in loggers_of_dask():
            logger.propagate = True
            logger.setLevel(logging.WARNING)
            logger.handlers.clear()
        logging.getLogger("distributed.worker").addFilter(_is_not_told_twice)

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a message, with the tile that is worked for."""
        if tile := tile_worked_for():
            record = logging.makeLogRecord(record.__dict__)
            record.msg, record.args = f"{tile}: {record.getMessage()}", None
        self._dropped += len(self._kept) == _MAX_LINES
        self._kept.append(self.format(record))

    def send(self) -> None:
        """Send what was kept."""
        if self._kept:
            self._worker.log_event(LOG_TOPIC, self.take())

    def take(self) -> dict[str, Any]:
        """Give what was kept, and keep it no longer."""
        lines = [self._kept.popleft() for _ in range(len(self._kept))]
        if self._dropped:
            lines.append(f"{self._dropped} lines before these were dropped: too many at a time")
            self._dropped = 0
        return {"host": socket.gethostname(), "pid": os.getpid(), "lines": lines}

    def close(self) -> None:
        """Send what is left, and log no more."""
        logging.getLogger().removeHandler(self)
        self.send()
        super().close()


def loggers_of_dask() -> list[logging.Logger]:
    """List the loggers of dask that write by themselves."""
    names = [name for name in logging.root.manager.loggerDict if name.startswith("distributed")]
    found = [logging.getLogger(name) for name in names]
    return [logger for logger in found if logger.handlers]


def _is_not_told_twice(record: logging.LogRecord) -> bool:
    """Leave out what dask says of a task that raised: `batuta.cluster.dask.calls` has said it."""
    return not record.getMessage().startswith("Compute Failed")


class _MemoryProbe:
    """Measures a worker."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._process = psutil.Process()

    def measure(self) -> None:
        """Tell of its tasks, its data and its memory."""
        state, data = self._worker.state, self._worker.data
        spilled = getattr(data, "spilled_total", None)
        self._worker.log_event(
            MEMORY_TOPIC,
            {
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
