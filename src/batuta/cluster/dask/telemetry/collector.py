"""What workers send to a run: their logs, memory, task metrics, and files of profilers."""

import logging
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from batuta.cluster.dask.telemetry.files import MemoryLog, WorkerLogs
from batuta.cluster.dask.telemetry.outbox import Deduplicator, EventKind
from batuta.cluster.dask.telemetry.task_metrics import read_rows
from batuta.cluster.dask.telemetry.worker_plugin import (
    drain_worker,
    list_profiler_files,
    read_profiler_file,
)
from batuta.cluster.task_metrics import TaskMetrics
from batuta.profiling.capture.layout import LOGS_FOLDER

LOG: Final = logging.getLogger(__name__)

DRAIN_TIMEOUT_S: Final = 10.0
"""How long workers may take to return what they have not sent yet."""


class EventCollector:
    """Writes or passes on what workers send.

    Parameters
    ----------
    task_metrics : TaskMetrics
        Receives what they measure.
    out_dir : Path or None
        Where logs and memory are written; None writes neither.
    memory : bool
        Whether memory is written.
    """

    def __init__(self, task_metrics: TaskMetrics, out_dir: Path | None, *, memory: bool) -> None:
        self._task_metrics = task_metrics
        self._deduplicator = Deduplicator()
        self._lock = threading.Lock()
        """Events arrive in dask's event loop; what is left in the end, in the main thread, while
        events may still arrive. Whether a message is new, and what follows, is decided at once."""
        self._logs = None if out_dir is None else WorkerLogs(out_dir / LOGS_FOLDER)
        self._memory = MemoryLog(out_dir) if memory and out_dir is not None else None

    def on_message(self, message: Mapping[str, Any]) -> None:
        """Handle a message of a worker; ignore those of dask, which use the same topic."""
        with self._lock:
            self._handle(message)

    def _handle(self, message: Mapping[str, Any]) -> None:
        kind = message.get("kind")
        if kind == EventKind.LINES and self._logs is not None:
            if self._deduplicator.is_new(message):
                self._logs.write(message)
        elif kind == EventKind.TASKS and self._deduplicator.is_new(message):
            rows, repeats = read_rows(message)
            self._task_metrics.record_rows(rows)
            self._task_metrics.record_repeats(repeats)
        elif kind == EventKind.MEMORY and self._memory is not None:
            self._memory.write(message)
        elif kind == EventKind.FILE:
            self.on_file(message["folder"], message["name"], message["content"])

    def on_file(self, folder: str, name: str, content: bytes) -> None:
        """Pass on a file of a profiler."""
        if self._task_metrics.sink is not None:
            self._task_metrics.sink.record_file(folder, name, content)

    def close(self) -> None:
        """Close the files; messages that arrive later are dropped."""
        if self._logs is not None:
            self._logs.close()
        if self._memory is not None:
            self._memory.close()


def drain_workers(client: Any, collector: EventCollector) -> None:
    """Collect what workers have not sent yet, from those that answer in time."""
    if client.status != "running":
        return
    try:
        for messages in _ask(client, drain_worker).values():
            for each in messages or ():
                collector.on_message(each)
        # One call per file, so that each has its own time limit however many there are.
        for worker, names in _ask(client, list_profiler_files).items():
            for folder, name in names or ():
                content = _ask(client, read_profiler_file, folder, name, workers=[worker])
                if isinstance(content.get(worker), bytes):
                    collector.on_file(folder, name, content[worker])
    except TimeoutError:
        LOG.warning(
            "a worker has not answered for %g s: the last lines of logs, task metrics and profiler"
            " files of workers may be missing",
            DRAIN_TIMEOUT_S,
        )


def _ask(client: Any, question: Any, *details: str, **options: Any) -> dict[str, Any]:
    """Run a function in workers; return the result of each by its address."""
    answers: dict[str, Any] = client.sync(
        client.run,
        question,
        client.id,
        *details,
        on_error="ignore",
        callback_timeout=DRAIN_TIMEOUT_S,
        **options,
    )
    return answers
