"""From the results that are wanted to the jobs that make them.

Found once, in time linear in tasks and edges: what each job waits for, and who waits for it.
"""

import heapq
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from batuta.cluster.tasks import Delayed, Task


class Job:
    """What a worker does at one go: a task, or a chain of tasks that only feed each other.

    Parameters
    ----------
    steps : list of Task
        In the order in which they run.
    order : int
        Its rank in a depth-first walk: the ready job of the smallest rank runs first.
    waiting : int
        How many jobs must end before it can run.
    plan : Plan
        The plan that it belongs to.
    """

    __slots__ = (
        "alone",
        "consumers",
        "false_starts",
        "order",
        "plan",
        "ready_s",
        "steps",
        "tile",
        "waiting",
    )

    def __init__(self, steps: list[Task], order: int, waiting: int, plan: "Plan") -> None:
        self.steps = steps
        self.order = order
        self.waiting = waiting
        self.plan = plan
        self.consumers: list[Job] = []
        """The jobs that wait for it."""
        self.tile: object = None
        """The tile that it works for, the first of them if there are several."""
        self.false_starts = 0
        """How many workers died before they began it."""
        self.ready_s: float | None = None
        """Unix time at which it could first run."""
        self.alone = False
        """Whether it needs the machine for itself: it outgrew its worker."""

    def __lt__(self, other: "Job") -> bool:
        return self.order < other.order

    @property
    def first(self) -> Task:
        """The task that takes results of other jobs."""
        return self.steps[0]

    @property
    def last(self) -> Task:
        """The task whose results leave the job."""
        return self.steps[-1]

    def inputs(self) -> list[Delayed]:
        """List the results of other jobs that it uses, once for each use."""
        return [
            delayed
            for task in self.steps
            for delayed in task.dependencies
            if delayed.task.job is not self
        ]

    def with_dependants(self) -> Iterator["Job"]:
        """Walk this job and all those that cannot run without it, each once."""
        seen = {self}
        waiting = [self]
        while waiting:
            job = waiting.pop()
            yield job
            fresh = [each for each in job.consumers if each not in seen]
            seen.update(fresh)
            waiting.extend(fresh)


@dataclass(eq=False)
class Plan:
    """The jobs to run, in the order of the walk."""

    jobs: list[Job] = field(default_factory=list)


def make_plan(wanted: Sequence[Delayed], *, fuse: bool) -> Plan:
    """Plan what is needed to have the results `wanted`, and nothing else.

    Results that are already stored are used as they are. How many times each result will be used
    is counted in its `uses`.

    Parameters
    ----------
    wanted : sequence of Delayed
        In the order in which they are preferred.
    fuse : bool
        Whether a task whose only consumer is the next one runs with it (`factorize_tasks`).
    """
    plan = Plan()
    found = Job([], -1, 0, plan)  # stands for the job of a task until it is known
    tasks: list[Task] = []
    ends: list[tuple[int, Delayed]] = []
    """How many tasks were found when each wanted result was reached."""
    for delayed in wanted:
        _walk(delayed, found, tasks)
        ends.append((len(tasks), delayed))
    _count_uses(tasks, wanted)
    _link(tasks, ends, plan, fuse=fuse)
    return plan


def walk(wanted: Iterable[Delayed]) -> list[Task]:
    """List the tasks to run for `wanted`, depth first, each after all it depends on."""
    found = Job([], -1, 0, Plan())
    tasks: list[Task] = []
    for delayed in wanted:
        _walk(delayed, found, tasks)
    return tasks


def _walk(wanted: Delayed, found: Job, tasks: list[Task]) -> None:
    """Append the tasks that `wanted` needs, marking them as `found`."""
    waiting: list[tuple[Task | None, Iterator[Delayed]]] = [(None, iter((wanted,)))]
    while waiting:
        task, dependencies = waiting[-1]
        for delayed in dependencies:
            if delayed.stored is None and delayed.task.job is not found:
                delayed.task.job = found
                waiting.append((delayed.task, iter(delayed.task.dependencies)))
                break
        else:
            waiting.pop()
            if task is not None:
                tasks.append(task)


def _count_uses(tasks: list[Task], wanted: Sequence[Delayed]) -> None:
    for task in tasks:
        for output in task.outputs:
            if output.stored is None:
                output.uses = 0  # whatever an earlier plan, that was given up, left there
    for delayed in wanted:
        delayed.uses += 1
    for task in tasks:
        for delayed in task.dependencies:
            delayed.uses += 1


def _link(tasks: list[Task], ends: list[tuple[int, Delayed]], plan: Plan, *, fuse: bool) -> None:
    begun = 0
    for end, wanted in ends:
        for task in tasks[begun:end]:
            feeders = _feeders(task)
            if fuse and _is_chained(task, feeders):
                job: Job = feeders[0].job
                job.steps.append(task)
            else:
                job = Job([task], len(plan.jobs), len({each.job for each in feeders}), plan)
                job.tile = wanted.tile
                for feeder in dict.fromkeys(each.job for each in feeders):
                    feeder.consumers.append(job)
                plan.jobs.append(job)
            task.job = job
        begun = end


def _feeders(task: Task) -> list[Task]:
    """List the tasks of the plan that `task` takes results of."""
    if not task.dependencies:
        return []
    return list(dict.fromkeys(each.task for each in task.dependencies if each.stored is None))


def _is_chained(task: Task, feeders: list[Task]) -> bool:
    """Whether a task runs with the one that feeds it: all that one gives goes to this task."""
    if len(feeders) != 1:
        return False
    taken = sum(each.task is feeders[0] for each in task.dependencies)
    return sum(output.uses for output in feeders[0].outputs) == taken


class ReadyJobs:
    """Jobs that can run, taken in their order.

    Those that are ready from the start, which may be a million, are kept in a row; those that
    become ready, in a heap.
    """

    def __init__(self) -> None:
        self._row: deque[Job] = deque()
        self._heap: list[Job] = []

    def __len__(self) -> int:
        return len(self._row) + len(self._heap)

    def start(self, plan: Plan) -> None:
        """Take the jobs of a plan that wait for nothing; to be called when no job is left."""
        now_s = time.time()
        for job in plan.jobs:
            if job.waiting == 0:
                job.ready_s = now_s
                self._row.append(job)

    def push(self, job: Job) -> None:
        """Add a job that became ready, or that was taken back."""
        if job.ready_s is None:
            job.ready_s = time.time()
        heapq.heappush(self._heap, job)

    def pop(self) -> Job:
        """Take the first job, in the order of the walk."""
        if self._heap and (not self._row or self._heap[0] < self._row[0]):
            return heapq.heappop(self._heap)
        return self._row.popleft()

    def clear(self) -> None:
        """Forget all jobs."""
        self._row.clear()
        self._heap.clear()
