"""What a dask worker does besides running jobs: it finds modules, and sends logs and metrics."""

import importlib
import logging
import multiprocessing
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

from batuta.cluster.dask.process_state import Change, SharedProcessState, State
from batuta.cluster.dask.telemetry import loggers
from batuta.cluster.dask.telemetry.outbox import EventKind, Outbox
from batuta.cluster.dask.telemetry.task_metrics import RECORDERS, TaskRecorder
from batuta.cluster.errors import ClusterError
from batuta.cluster.execution import LOG_FORMAT, StepRunner, current_tile
from batuta.errors import encodable
from batuta.process_family import end_family
from batuta.profiling.capture.options import ProfileOptions
from batuta.profiling.capture.records import WorkerId

_SEND_EVERY_MS: Final = 250
_MEASURE_EVERY_MS: Final = 1000
_MAX_LINES: Final = 1000
"""Lines sent at a time: a task that floods its log must not flood the scheduler."""


@dataclass(frozen=True)
class WorkerOptions:
    """How workers are set up for a run."""

    run_id: str
    """The client of the run, and the topic that workers send their messages under."""
    path: tuple[str, ...]
    """Folders where the main process finds modules."""
    imports: tuple[str, ...]
    """Modules to import before any task."""
    log_level: int
    send_log: bool
    quiet: bool
    """Whether failures of tasks are not logged: what workers log is on the screen of the program,
    and the main process tells of them there."""
    measure_memory: bool
    measure_tasks: bool
    profile: ProfileOptions | None


class BatutaPlugin(WorkerPlugin):
    """Sets up each worker of a run, when it starts or when the run does.

    Workers may serve several runs, each with a plugin of its own: what a plugin changes in the
    process is a `SharedProcessState`.
    """

    def __init__(self, options: WorkerOptions) -> None:
        self.name = plugin_name(options.run_id)
        self._options = options
        self._changes = ExitStack()
        self._callbacks: list[PeriodicCallback] = []
        self._outboxes: list[Outbox] = []
        self._log: _LogBuffer | None = None
        self._recorder: TaskRecorder | None = None

    def setup(self, worker: Worker) -> None:
        """Set up a worker."""
        self._ignore_sigint()
        if worker.nanny is not None:
            # So that tasks may use pools of `multiprocessing`, which a daemonic process refuses.
            # What they start ends with the worker.
            self._changes.enter_context(_DAEMONIC.changed(lambda _: {"daemonic": False}))
        _extend_path(self._options.path)
        for module in self._options.imports:
            importlib.import_module(module)
        if self._options.send_log:
            self._changes.enter_context(_LOGGING.changed(_log_from(self._options.log_level)))
            self._changes.enter_context(_WARNINGS.changed(lambda _: {"captured": True}))
            self._log = _LogBuffer(self._options.log_level)
            self._send_periodically(worker, EventKind.LINES, self._log.collect)
        if self._options.quiet:
            self._changes.enter_context(_LOGGING.changed(_without_failures))
        if self._options.measure_tasks:
            self._measure_tasks(worker)
        # Imports that the first task would wait for. In a thread: they take seconds, during which
        # the event loop must answer the scheduler.
        threading.Thread(
            target=importlib.import_module, args=("batuta.cluster.local.forkserver_warm_tiles",)
        ).start()
        if self._options.measure_memory:
            self._repeat(_MemorySampler(worker, self._options.run_id).send, _MEASURE_EVERY_MS)

    def _repeat(self, action: Any, every_ms: float) -> None:
        callback = PeriodicCallback(action, every_ms)
        callback.start()
        self._callbacks.append(callback)

    def _send_periodically(
        self, worker: Worker, kind: EventKind, collect: Callable[[], dict[str, Any] | None]
    ) -> None:
        outbox = Outbox(worker, self._options.run_id, kind, collect)
        self._outboxes.append(outbox)
        self._repeat(outbox.send, _SEND_EVERY_MS)

    def _measure_tasks(self, worker: Worker) -> None:
        pid = os.getpid()
        worker_id = WorkerId(f"{worker.name}, process {pid}", socket.gethostname(), pid)
        self._recorder = TaskRecorder(worker, self._options.profile, worker_id)
        RECORDERS[self._options.run_id] = self._recorder
        self._send_periodically(worker, EventKind.TASKS, self._recorder.collect)

    def drain(self) -> list[dict[str, Any]]:
        """Return what was not sent, after what may still be on its way; stop the profilers."""
        if self._recorder is not None:
            self._recorder.flush()
        return [message for outbox in self._outboxes for message in outbox.drain()]

    @property
    def recorder(self) -> TaskRecorder | None:
        """What measures tasks, if they are measured."""
        return self._recorder

    def _ignore_sigint(self) -> None:
        """Ignore Ctrl-C: in a terminal it reaches all processes, and the main one decides.

        Workers that run in a thread of another program cannot set handlers, and leave it to that.
        """
        if threading.current_thread() is threading.main_thread():
            self._changes.enter_context(_SIGINT.changed(lambda _: {"handler": signal.SIG_IGN}))

    def teardown(self, worker: Worker) -> None:
        """Send what is left, and leave a worker that goes on as it was before the run."""
        for callback in self._callbacks:
            callback.stop()
        self._stop_measuring(worker)
        for outbox in self._outboxes:
            outbox.send()
        if self._log is not None:
            self._log.close()
        if worker.status in {Status.running, Status.paused}:  # not one that ends with this
            self._changes.close()
        elif worker.nanny is not None:
            # In a process of its own: without a nanny, it may be in any program. Workers that we
            # start have a supervisor, which does it however they end; those of others may not.
            end_family()

    def _stop_measuring(self, worker: Worker) -> None:
        """Send the files that were not fetched: this worker leaves before the run ends."""
        RECORDERS.pop(self._options.run_id, None)
        recorder = self._recorder
        if recorder is None:
            return
        recorder.flush()
        for folder, name in recorder.files():
            content = recorder.pop_file(folder, name)
            message = {"kind": EventKind.FILE.value, "folder": folder, "name": name}
            worker.log_event(self._options.run_id, message | {"content": content})
        recorder.close()


def plugin_name(run_id: str) -> str:
    """Return the name of the plugin of a run: other runs have theirs in the same workers."""
    return f"batuta-{run_id}"


def drain_worker(run_id: str, dask_worker: Worker) -> list[dict[str, Any]]:
    """Return the messages that a worker has not sent yet; called in the worker."""
    plugin = dask_worker.plugins.get(plugin_name(run_id))
    return plugin.drain() if isinstance(plugin, BatutaPlugin) else []


def list_profiler_files(run_id: str, dask_worker: Worker) -> list[tuple[str, str]]:
    """List the folders and names of the files of profilers; called in the worker."""
    plugin = dask_worker.plugins.get(plugin_name(run_id))
    if not isinstance(plugin, BatutaPlugin) or plugin.recorder is None:
        return []
    return plugin.recorder.files()


def read_profiler_file(run_id: str, folder: str, name: str, dask_worker: Worker) -> bytes:
    """Return the content of a file of a profiler, and remove it; called in the worker."""
    plugin = dask_worker.plugins[plugin_name(run_id)]
    if not isinstance(plugin, BatutaPlugin) or plugin.recorder is None:
        raise ClusterError(f"the worker has no file {folder}/{name}")
    return plugin.recorder.pop_file(folder, name)


def _extend_path(path: Sequence[str]) -> None:
    sys.path.extend(each for each in path if each not in sys.path and os.path.isdir(each))  # noqa: PTH112 - strings


class _LogBuffer(logging.Handler):
    """Buffers what a worker logs until it is collected.

    Tasks log in their threads while the event loop collects: `collect` pops one line at a time,
    which deques do atomically, and at most as many as there were when it began.
    """

    def __init__(self, level: int) -> None:
        super().__init__(level)
        self._lines: deque[str] = deque(maxlen=_MAX_LINES)
        self._dropped = 0
        self.setFormatter(logging.Formatter(LOG_FORMAT))
        logging.getLogger().addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        """Buffer a record, with the name of the tile that this thread computes."""
        if tile := current_tile():
            record = logging.makeLogRecord(record.__dict__)
            record.msg, record.args = f"{tile}: {record.getMessage()}", None
        self._dropped += len(self._lines) == _MAX_LINES
        self._lines.append(encodable(self.format(record)))

    def collect(self) -> dict[str, Any] | None:
        """Return the lines that were logged since the last time, if any."""
        lines = [self._lines.popleft() for _ in range(len(self._lines))]
        if self._dropped:
            lines.append(f"{self._dropped} earlier lines dropped: more than {_MAX_LINES} at a time")
            self._dropped = 0
        return {"lines": lines} if lines else None

    def close(self) -> None:
        """Stop logging."""
        logging.getLogger().removeHandler(self)
        super().close()


def _is_not_logged_already(record: logging.LogRecord) -> bool:
    """Drop dask's record of a task that raised: `execution` has logged it."""
    return not record.getMessage().startswith("Compute Failed")


_ROOT_LEVEL: Final = ("root", "level")
_FILTERS: Final = ("distributed.worker", "filters")
_FAILURE_FILTERS: Final = (StepRunner.__module__, "filters")


def _read_logging() -> State:
    return {
        **loggers.read(),
        _ROOT_LEVEL: logging.getLogger().level,
        **{key: logging.getLogger(key[0]).filters[:] for key in (_FILTERS, _FAILURE_FILTERS)},
    }


def _log_from(level: int) -> Change:
    """Return a change by which records from `level` on are logged; another run may want more."""

    def change(before: State) -> State:
        return {
            **loggers.redirected(before),
            _ROOT_LEVEL: min(before[_ROOT_LEVEL], level),
            _FILTERS: [*before[_FILTERS], _is_not_logged_already],
        }

    return change


def _without_failures(before: State) -> State:
    return {
        **before,
        _FILTERS: [*before[_FILTERS], _is_not_logged_already],
        _FAILURE_FILTERS: [*before[_FAILURE_FILTERS], lambda _: False],
    }


def _set_sigint_handler(state: State) -> None:
    signal.signal(signal.SIGINT, state["handler"])


_LOGGING: Final = SharedProcessState(_read_logging, loggers.write)
_WARNINGS: Final = SharedProcessState(
    lambda: {"captured": warnings.showwarning.__module__ == "logging"},
    lambda state: logging.captureWarnings(state["captured"]),
)


def _set_daemonic(state: State) -> None:
    multiprocessing.current_process().daemon = state["daemonic"]


_DAEMONIC: Final = SharedProcessState(
    lambda: {"daemonic": multiprocessing.current_process().daemon}, _set_daemonic
)
_SIGINT: Final = SharedProcessState(
    lambda: {"handler": signal.getsignal(signal.SIGINT)},
    _set_sigint_handler,
)


class _MemorySampler:
    """Samples the tasks, data and memory of a worker."""

    def __init__(self, worker: Worker, run_id: str) -> None:
        self._worker = worker
        self._run_id = run_id
        self._process = psutil.Process()

    def send(self) -> None:
        """Send a sample. A sample that is lost does not matter: it has no number."""
        state, data = self._worker.state, self._worker.data
        spilled = getattr(data, "spilled_total", None)
        self._worker.log_event(
            self._run_id,
            {
                "kind": EventKind.MEMORY.value,
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
