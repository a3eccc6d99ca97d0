"""What workers measure of tasks, on its way to whoever profiles the run."""

import itertools
from collections import Counter
from collections.abc import Sequence
from typing import Final, Protocol

from batuta.cluster.graph import Job, Plan
from batuta.cluster.tasks import Task
from batuta.profiling.capture.labels import AT_ONCE_S, Label, LostAttempt, lost_row, task_rows
from batuta.profiling.capture.records import Measure, Repeats, TaskRow, WorkerId

_NUMBERS: Final = itertools.count()


class TaskSink(Protocol):
    """Who takes what is measured; its methods are called from any thread, and return at once."""

    detailed: bool
    """Whether the number of each task matters, and after which it comes."""

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
        self._reruns: Counter[int] = Counter()
        """By the number of a task, how often others ran it again by the label that it has."""

    @property
    def detailed(self) -> bool:
        """Whether tasks are told apart."""
        return self.sink is not None and self.sink.detailed

    def begin(self, plan: Plan) -> None:
        """Number the tasks of a plan, those that have no number."""
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

    def ended(
        self, job: Job, measures: Sequence[Measure], worker: WorkerId, error: str | None = None
    ) -> None:
        """Take what was measured of the steps of a job; with an error, the last of them failed."""
        if self.sink is not None:
            labels = [self.label(job, rank) for rank in range(len(measures))]
            self.sink.record_tasks(task_rows(labels, measures, worker, error))

    def on_rerun(self, job: Job) -> None:
        """Record that a job runs again as it was sent, its labels too."""
        for task in job.steps if self.detailed else ():
            task.attempts += 1
            self._reruns[task_number(task)] += 1

    def come(self, found: Sequence[TaskRow]) -> None:
        """Take rows that workers have made."""
        if self.sink is None:
            return
        if self._reruns:
            found = [row._replace(attempt=row.attempt + self._reruns[row.task]) for row in found]
        self.sink.record_tasks(found)

    def repeated(self, repeats: Repeats) -> None:
        """Take what repeating tasks has shown, if anything."""
        if self.sink is not None and (repeats.loops or repeats.leaks):
            self.sink.record_repeats(repeats)

    def lost(self, label: Label, ran: LostAttempt) -> None:
        """Record that a worker was lost while it ran a task."""
        if self.sink is None:
            return
        self.sink.record_tasks([lost_row(label, ran)])


def with_tree_peak(measures: Sequence[Measure], tree_bytes: int) -> Sequence[Measure]:
    """Count what a worker was seen to hold with what its tasks started, in the longest of them."""
    if not measures or tree_bytes <= max(each.peak_bytes for each in measures):
        return measures
    longest = max(measures, key=lambda each: each.wall_s)
    counted = longest._replace(peak_bytes=tree_bytes)
    return [counted if each is longest else each for each in measures]


def task_number(task: Task) -> int:
    """Return the number of a task, given to it when it is first asked for: after what it needs."""
    waiting = [task]
    while task.number is None:
        last = waiting[-1]
        before = [each.task for each in last.dependencies if each.task.number is None]
        if before:
            waiting.extend(before)
            continue
        waiting.pop()
        if last.number is None:  # it may wait twice
            last.number = new_number()
    return task.number


def new_number() -> int:
    """Return a number that no other task of this process has."""
    return next(_NUMBERS)
