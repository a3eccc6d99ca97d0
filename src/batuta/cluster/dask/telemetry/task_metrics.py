"""Measuring and profiling tasks in a dask worker, for the run that asked for it."""

import shutil
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from distributed import Worker

from batuta.profiling.capture.contract import CallLabel, OpenCall
from batuta.profiling.capture.factory import make_caller
from batuta.profiling.capture.labels import Label, task_rows
from batuta.profiling.capture.options import ProfileOptions
from batuta.profiling.capture.probe import Probe, ProbeStart
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

EQUIPPED: Final[dict[str, "Equipment"]] = {}
"""What tasks of each run are measured with in this process, by the client of the run."""


class Equipment:
    """What the tasks of a run are measured with in one worker.

    Parameters
    ----------
    worker : Worker
        This one.
    options : ProfileOptions or None
        How tasks are profiled beyond their measures.
    """

    def __init__(self, worker: Worker, options: ProfileOptions | None, who: WorkerId) -> None:
        self.repeated = options is not None and options.loops > 1
        """Whether tasks run several times."""
        self.probe = Probe(private=False, alone=worker.state.nthreads == 1)
        self._who = who
        self._folder = Path(tempfile.mkdtemp(prefix="batuta-profile-", dir=worker.local_directory))
        self._delivery = FolderSink(self._folder)
        self._caller = make_caller(options, who, self._delivery)
        self._lock = threading.Lock()
        self._rows: list[TaskRow] = []

    def call(self, label: Label, name: str, opened: OpenCall) -> Any:
        """Run a task."""
        return self._caller.call(CallLabel(label.number, name, label.attempt), opened)

    def keep(self, labels: Sequence[Label], measures: Sequence[Measure], error: str | None) -> None:
        """Keep what was measured until it is collected."""
        found = task_rows(labels, measures, self._who, error)
        with self._lock:
            self._rows += found

    def collect(self) -> dict[str, Any] | None:
        """Return what was measured since the last time, in a form that travels."""
        with self._lock:
            measured, self._rows = self._rows, []
        loops, leaks = self._delivery.collect_loops(), self._delivery.collect_leaks()
        if not (measured or loops or leaks):
            return None
        # Nothing but plain values: what travels is not pickled.
        plain = [(*row[:2], row.outcome.value, *row[3:]) for row in measured]
        return {"rows": plain, "loops": loops, "leaks": leaks}

    def flush(self) -> None:
        """Have profilers write what they have."""
        self._caller.flush()

    def files(self) -> list[tuple[str, str]]:
        """List the folder and the name of each file that profilers have finished."""
        found = (each for each in self._folder.glob("*/*") if each.suffix != PARTIAL_SUFFIX)
        return [(each.parent.name, each.name) for each in found]

    def take_file(self, folder: str, name: str) -> bytes:
        """Return a file, and keep it no longer."""
        path = self._folder / folder / name
        content = path.read_bytes()
        path.unlink()
        return content

    def close(self) -> None:
        """Remove what is left."""
        shutil.rmtree(self._folder, ignore_errors=True)


def read_rows(message: Any) -> tuple[list[TaskRow], Repeats]:
    """Read what `Equipment.collect` gave, after its journey: names are gone, lists are left."""
    found = [
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
    return found, Repeats(loops, tuple(LeakRow(*each) for each in message["leaks"]))


class StepMeasures:
    """Measures the steps of a job, one after the other.

    Parameters
    ----------
    equipment : Equipment or None
        None measures nothing.
    """

    def __init__(self, equipment: Equipment | None) -> None:
        self.name = ""
        """Of the step that runs."""
        self._equipment = equipment
        self._labels: list[Label] = []
        self._ended: list[Measure] = []
        self._begun: ProbeStart | None = None
        self._bytes_in = 0

    def begin(self, name: str, label: Label, bytes_in: int) -> None:
        """Record that a step begins."""
        self.name = name
        if self._equipment is not None:
            self._labels.append(label)
            self._bytes_in = bytes_in
            self._begun = self._equipment.probe.begin()

    def call(self, opened: OpenCall) -> Any:
        """Call it."""
        if self._equipment is None:
            function, args, kwargs = opened()
            return function(*args, **kwargs)
        return self._equipment.call(self._labels[-1], self.name, opened)

    def end(self, bytes_out: int = 0) -> None:
        """Record that it ends; harmless when it has ended."""
        if self._equipment is not None and self._begun is not None:
            measure = self._equipment.probe.end(self.name, self._begun, self._bytes_in, bytes_out)
            self._ended.append(measure)
            self._begun = None

    def tell(self, error: str | None) -> None:
        """Keep all that was measured; with an error, the last step failed."""
        self.end()
        if self._equipment is not None and self._ended:
            self._equipment.keep(self._labels, self._ended, error)
