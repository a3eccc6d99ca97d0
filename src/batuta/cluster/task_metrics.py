"""Passes what workers measure of tasks to the profile of the run."""

import itertools
from collections import Counter
from collections.abc import Sequence
from typing import Final, Protocol

from batuta.cluster.graph import ExecutionPlan, Job
from batuta.cluster.tasks import Task
from batuta.cluster.tile_activity import TileCosts
from batuta.profiling.capture.labels import AT_ONCE_S, Label, LostAttempt, lost_row, task_rows
from batuta.profiling.capture.records import Measure, Repeats, TaskRow, WorkerId

_NUMBERS: Final = itertools.count()


class TaskSink(Protocol):
    """Receives what is measured; its methods are called from any thread, and return at once."""

    detailed: bool
    """Whether it needs the number of each task, and those of the tasks that it uses."""

    def record_tasks(self, rows: Sequence[TaskRow]) -> None:
        """Record attempts at tasks that ended."""

    def record_repeats(self, repeats: Repeats) -> None:
        """Record the measurements of repeated tasks."""

    def record_file(self, folder: str, name: str, content: bytes) -> None:
        """Record a file of a profiler, from a worker that cannot write it where it belongs."""


class TaskMetrics:
    """Makes rows of what workers measure, for a sink; without one, does nothing."""

    def __init__(self) -> None:
        self.sink: TaskSink | None = None
        self.tile_costs: TileCosts | None = None
        """What tiles took, where somebody asks."""
        self._reruns: Counter[int] = Counter()
        """By the number of a task, how often dask ran it again since it was labelled."""

    @property
    def detailed(self) -> bool:
        """Whether tasks are numbered."""
        return self.sink is not None and self.sink.detailed

    def number_tasks(self, plan: ExecutionPlan) -> None:
        """Number the tasks of a plan that have no number, where tasks are numbered."""
        if self.detailed:
            for job in plan.jobs:
                for task in job.steps:
                    task_number(task)

    def label(self, job: Job, rank: int) -> Label:
        """Label an attempt at a step of a job, which begins or ends now."""
        task = job.steps[rank]
        task.attempts += 1
        ready_s = AT_ONCE_S if rank else job.ready_s
        if not self.detailed:
            return Label(-1, task.attempts, ready_s, ())
        self._reruns.pop(task_number(task), None)
        after = (each.task.number for each in task.dependencies)
        known = tuple(dict.fromkeys(number for number in after if number is not None))
        return Label(task_number(task), task.attempts, ready_s, known)

    def relabel(self, job: Job) -> Label:
        """Label the attempt at the first step of a job that has a label already."""
        job.first.attempts -= 1
        return self.label(job, 0)

    def record_job(
        self, job: Job, measures: Sequence[Measure], worker: WorkerId, error: str | None = None
    ) -> None:
        """Record the measures of the steps of a job; with an error, the last of them failed."""
        if self.tile_costs is not None:
            self.tile_costs.add(job.tile, measures, worker.name)
        if self.sink is not None:
            labels = [self.label(job, rank) for rank in range(len(measures))]
            self.sink.record_tasks(task_rows(labels, measures, worker, error))

    def on_rerun(self, job: Job) -> None:
        """Record that a job runs again as it was sent, its labels too."""
        for task in job.steps if self.detailed else ():
            task.attempts += 1
            self._reruns[task_number(task)] += 1

    def record_rows(self, rows: Sequence[TaskRow]) -> None:
        """Record rows that workers have made."""
        if self.sink is None:
            return
        if self._reruns:
            rows = [row._replace(attempt=row.attempt + self._reruns[row.task]) for row in rows]
        self.sink.record_tasks(rows)

    def record_repeats(self, repeats: Repeats) -> None:
        """Record the measurements of repeated tasks, if any."""
        if self.sink is not None and (repeats.loops or repeats.leaks):
            self.sink.record_repeats(repeats)

    def record_loss(self, label: Label, lost: LostAttempt) -> None:
        """Record that a worker was lost while it ran a task."""
        if self.sink is None:
            return
        self.sink.record_tasks([lost_row(label, lost)])


def with_tree_peak(measures: Sequence[Measure], tree_bytes: int) -> Sequence[Measure]:
    """Attribute the peak of a worker with its descendants to the longest task of a job.

    A task measures its own process only; the main process measures all of them from time to time,
    most probably during the longest task.
    """
    if not measures or tree_bytes <= max(each.peak_bytes for each in measures):
        return measures
    longest = max(measures, key=lambda each: each.wall_s)
    counted = longest._replace(peak_bytes=tree_bytes)
    return [counted if each is longest else each for each in measures]


def task_number(task: Task) -> int:
    """Return the number of a task; a task without one gets it now, after those that it uses."""
    waiting = [task]
    while task.number is None:
        last = waiting[-1]
        before = [each.task for each in last.dependencies if each.task.number is None]
        if before:
            waiting.extend(before)
            continue
        waiting.pop()
        if last.number is None:  # it may be in `waiting` twice
            last.number = new_number()
    return task.number


def new_number() -> int:
    """Return a number that no other task of this process has."""
    return next(_NUMBERS)
