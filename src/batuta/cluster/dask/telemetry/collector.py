"""What workers tell of a run: their logs, their memory, their tasks, the files of profilers."""

import logging
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from batuta.cluster.dask.telemetry.files import MemoryRecord, WorkerLogs
from batuta.cluster.dask.telemetry.outbox import OnlyNew, Told
from batuta.cluster.dask.telemetry.task_metrics import read_rows
from batuta.cluster.dask.telemetry.worker_plugin import last_words, profiler_file, profiler_files
from batuta.cluster.graph_cluster import LOGS_FOLDER
from batuta.cluster.task_metrics import TaskMetrics

LOG: Final = logging.getLogger(__name__)

LAST_WORDS_S: Final = 10.0
"""How long workers may take to tell what they have not told."""


class Listener:
    """Takes what workers tell to where it is kept; from any thread.

    Parameters
    ----------
    task_metrics : TaskMetrics
        Where what they measure goes.
    out_dir : Path or None
        Where logs and the record of memory are written; None is nowhere.
    memory : bool
        Whether memory is recorded.
    """

    def __init__(self, task_metrics: TaskMetrics, out_dir: Path | None, *, memory: bool) -> None:
        self._task_metrics = task_metrics
        self._new = OnlyNew()
        self._lock = threading.Lock()
        self._logs = None if out_dir is None else WorkerLogs(out_dir / LOGS_FOLDER)
        self._memory = MemoryRecord(out_dir) if memory and out_dir is not None else None

    def on_message(self, message: Mapping[str, Any]) -> None:
        """Take a message; dask tells of the client itself under the same topic."""
        with self._lock:
            self._take(message)

    def _take(self, message: Mapping[str, Any]) -> None:
        told = message.get("told")
        if told == Told.LINES and self._logs is not None and self._new.is_new(message):
            self._logs.write(message)
        elif told == Told.TASKS and self._new.is_new(message):
            rows, repeats = read_rows(message)
            self._task_metrics.come(rows)
            self._task_metrics.repeated(repeats)
        elif told == Told.MEMORY and self._memory is not None:
            self._memory.write(message)
        elif told == Told.FILE:
            self.on_file(message["folder"], message["name"], message["content"])

    def on_file(self, folder: str, name: str, content: bytes) -> None:
        """Take a file of a profiler."""
        if self._task_metrics.sink is not None:
            self._task_metrics.sink.record_file(folder, name, content)

    def close(self) -> None:
        """Take nothing more."""
        if self._logs is not None:
            self._logs.close()
        if self._memory is not None:
            self._memory.close()


def take_last_words(client: Any, listener: Listener) -> None:
    """Take what workers have not told yet; those that do not answer say no more."""
    if client.status != "running":
        return
    try:
        words = _asked(client, last_words)
        for messages in words.values():
            for each in messages or ():
                listener.on_message(each)
        for worker, names in _asked(client, profiler_files).items():
            for folder, name in names or ():
                content = _asked(client, profiler_file, folder, name, workers=[worker])
                if isinstance(content.get(worker), bytes):
                    listener.on_file(folder, name, content[worker])
    except TimeoutError:
        LOG.warning(
            "the last lines that workers logged, and what they measured last, are lost: one of"
            " them does not answer"
        )


def _asked(client: Any, question: Any, *details: str, **options: Any) -> dict[str, Any]:
    """Ask workers; each answer has its time, however many files there are."""
    answers: dict[str, Any] = client.sync(
        client.run,
        question,
        client.id,
        *details,
        on_error="ignore",
        callback_timeout=LAST_WORDS_S,
        **options,
    )
    return answers
