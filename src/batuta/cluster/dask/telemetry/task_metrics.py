"""Measures and profiles the tasks of a run in a dask worker."""

import shutil
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from distributed import Worker

from batuta.cluster.execution import Instruments
from batuta.profiling.capture.factory import make_caller
from batuta.profiling.capture.labels import Label, task_rows
from batuta.profiling.capture.options import ProfileOptions
from batuta.profiling.capture.probe import Probe
from batuta.profiling.capture.records import (
    LeakRow,
    LoopRow,
    Measure,
    Repeats,
    TaskOutcome,
    TaskRow,
    WorkerId,
)
from batuta.profiling.capture.sink import PARTIAL_SUFFIX, FolderSink

RECORDERS: Final[dict[str, "TaskRecorder"]] = {}
"""What measures the tasks of each run in this process, by the client of the run."""


class TaskRecorder:
    """Measures the tasks of a run in one worker, and keeps the rows until they are collected.

    Several threads record; the event loop of the worker collects.

    Parameters
    ----------
    worker : Worker
        This one.
    options : ProfileOptions or None
        How tasks are profiled beyond their measures.
    who : WorkerId
        The name of this worker in profiles.
    """

    def __init__(self, worker: Worker, options: ProfileOptions | None, who: WorkerId) -> None:
        self._who = who
        self._folder = Path(tempfile.mkdtemp(prefix="batuta-profile-", dir=worker.local_directory))
        self._sink = FolderSink(self._folder)
        self.instruments = Instruments(
            caller=make_caller(options, who, self._sink),
            probe=Probe(private=False, alone=worker.state.nthreads == 1),
            repeated=options is not None and options.loops > 1,
        )
        self._lock = threading.Lock()
        self._rows: list[TaskRow] = []

    def record(
        self, labels: Sequence[Label], measures: Sequence[Measure], error: str | None
    ) -> None:
        """Record the measures of a job; with an error, the last step that began failed.

        Parameters
        ----------
        labels : sequence of Label
            Of all steps.
        measures : sequence of Measure
            Of those that began.
        error : str or None
            Why the job failed.
        """
        rows = task_rows(labels[: len(measures)], measures, self._who, error)
        with self._lock:  # `collect` replaces the list: rows added to the old one would be lost
            self._rows += rows

    def collect(self) -> dict[str, Any] | None:
        """Return what was measured since the last call, as a message of plain values."""
        with self._lock:
            rows, self._rows = self._rows, []
        loops, leaks = self._sink.collect_loops(), self._sink.collect_leaks()
        if not (rows or loops or leaks):
            return None
        # Events of dask are not pickled: they hold plain values only.
        plain = [(*row[:2], row.outcome.value, *row[3:]) for row in rows]
        return {"rows": plain, "loops": loops, "leaks": leaks}

    def flush(self) -> None:
        """Write what profilers hold."""
        self.instruments.caller.flush()

    def files(self) -> list[tuple[str, str]]:
        """List the folder and the name of each file that profilers have completed."""
        paths = (each for each in self._folder.glob("*/*") if each.suffix != PARTIAL_SUFFIX)
        return [(each.parent.name, each.name) for each in paths]

    def pop_file(self, folder: str, name: str) -> bytes:
        """Return the content of a file, and delete it."""
        path = self._folder / folder / name
        content = path.read_bytes()
        path.unlink()
        return content

    def close(self) -> None:
        """Delete the files that are left."""
        shutil.rmtree(self._folder, ignore_errors=True)


def read_rows(message: Any) -> tuple[list[TaskRow], Repeats]:
    """Rebuild the rows of a message of `TaskRecorder.collect`, whose tuples have become lists."""
    rows = [
        TaskRow(
            task,
            attempt,
            TaskOutcome(outcome),
            error,
            WorkerId(*worker),
            waiting_s,
            tuple(after),
            Measure(*measure),
        )
        for task, attempt, outcome, error, worker, waiting_s, after, measure in message["rows"]
    ]
    loops = tuple(LoopRow(*each) for each in message["loops"])
    return rows, Repeats(loops, tuple(LeakRow(*each) for each in message["leaks"]))
