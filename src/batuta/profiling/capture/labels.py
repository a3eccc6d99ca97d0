"""From what a worker measures to the rows of a profile; light: dask schedulers import it."""

import math
import time
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from batuta.profiling.capture.records import Measure, TaskOutcome, TaskRow, WorkerId

AT_ONCE_S: Final = math.inf
"""When a step that follows another in its job could run: it never waits."""


class Label(NamedTuple):
    """What the main process knows of one attempt at a task."""

    number: int
    attempt: int
    ready_s: float | None
    after: tuple[int, ...]


class LostAttempt(NamedTuple):
    """What is known of an attempt at a task whose worker was lost."""

    name: str
    worker: WorkerId
    error: str
    ran_s: float = 0.0
    """How long it ran; 0 where that is not known."""
    peak_bytes: int = 0


def task_rows(
    labels: Iterable[Label], measures: Sequence[Measure], worker: WorkerId, error: str | None
) -> list[TaskRow]:
    """Return a row for each measure; with an error, the last of them failed."""
    rows = [
        _row(label, measure, worker, TaskOutcome.DONE, None)
        for label, measure in zip(labels, measures, strict=True)
    ]
    if error is not None and rows:
        rows[-1] = rows[-1]._replace(outcome=TaskOutcome.FAILED, error=error)
    return rows


def _row(
    label: Label, measure: Measure, worker: WorkerId, outcome: TaskOutcome, error: str | None
) -> TaskRow:
    # The clocks of two machines may differ: what seems to begin too early did not wait.
    waiting_s = None if label.ready_s is None else max(0.0, measure.start_s - label.ready_s)
    return TaskRow(
        label.number, label.attempt, outcome, error, worker, waiting_s, label.after, measure
    )


def lost_row(label: Label, lost: LostAttempt) -> TaskRow:
    """Return the row of an attempt at a task whose worker was lost."""
    start_s = time.time() - lost.ran_s
    measure = Measure(lost.name, start_s, lost.ran_s, 0.0, lost.peak_bytes, 0, None, None)
    return _row(label, measure, lost.worker, TaskOutcome.LOST, lost.error)
