"""Plans the jobs that compute the results that are wanted, and their order.

That is done once, in time linear in tasks and edges: the plan knows what each job waits for, and
which jobs wait for it.
"""

import heapq
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from batuta.cluster.tasks import Delayed, Task


class Job:
    """What a worker runs as a unit: a task, or a chain of tasks of which each feeds only the next.

    Parameters
    ----------
    steps : list of Task
        In the order in which they run.
    order : int
        Its rank in depth-first order: the ready job of the smallest rank runs first.
    waiting : int
        How many jobs must end before it can run.
    plan : ExecutionPlan
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

    def __init__(self, steps: list[Task], order: int, waiting: int, plan: "ExecutionPlan") -> None:
        self.steps = steps
        self.order = order
        self.waiting = waiting
        self.plan = plan
        self.consumers: list[Job] = []
        """The jobs that wait for it."""
        self.tile: object = None
        """The tile that it computes, the first of them if there are several."""
        self.false_starts = 0
        """How many workers died that it was assigned to, before they began it."""
        self.ready_s: float | None = None
        """Unix time at which it could first run."""
        self.alone = False
        """Whether it must run alone: it exceeded the memory of a worker."""

    def __lt__(self, other: "Job") -> bool:
        return self.order < other.order

    @property
    def first(self) -> Task:
        """The task that uses results of other jobs."""
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
class ExecutionPlan:
    """The jobs to run, in depth-first order."""

    jobs: list[Job] = field(default_factory=list)


def make_plan(wanted: Sequence[Delayed], *, fuse: bool) -> ExecutionPlan:
    """Plan the jobs that the results `wanted` need, and no others.

    Results that are already stored are used as they are. The `uses` of each result are counted.

    Parameters
    ----------
    wanted : sequence of Delayed
        In order of preference.
    fuse : bool
        Whether a task whose only consumer is the next one runs with it (`factorize_tasks`).
    """
    plan = ExecutionPlan()
    found = Job([], -1, 0, plan)  # marks the tasks that were found, until their job is known
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
    found = Job([], -1, 0, ExecutionPlan())
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
                output.uses = 0  # an earlier plan that failed may have left some
    for delayed in wanted:
        delayed.uses += 1
    for task in tasks:
        for delayed in task.dependencies:
            delayed.uses += 1


def _link(
    tasks: list[Task], ends: list[tuple[int, Delayed]], plan: ExecutionPlan, *, fuse: bool
) -> None:
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
    """List the tasks of the plan whose results `task` uses."""
    if not task.dependencies:
        return []
    return list(dict.fromkeys(each.task for each in task.dependencies if each.stored is None))


def _is_chained(task: Task, feeders: list[Task]) -> bool:
    """Whether a task runs in the job of its feeder: nothing else uses what that returns."""
    if len(feeders) != 1:
        return False
    used = sum(each.task is feeders[0] for each in task.dependencies)
    return sum(output.uses for output in feeders[0].outputs) == used


class ReadyJobs:
    """Jobs that can run, in depth-first order.

    Those that are ready from the start, perhaps a million, are in that order already and are kept
    in a queue; those that become ready, in a heap.
    """

    def __init__(self) -> None:
        self._initial: deque[Job] = deque()
        self._heap: list[Job] = []

    def __len__(self) -> int:
        return len(self._initial) + len(self._heap)

    def start(self, plan: ExecutionPlan) -> None:
        """Add the jobs of a plan that wait for nothing; to be called when no job is left."""
        now_s = time.time()
        for job in plan.jobs:
            if job.waiting == 0:
                job.ready_s = now_s
                self._initial.append(job)

    def push(self, job: Job) -> None:
        """Add a job that became ready, or that was withdrawn from a worker."""
        if job.ready_s is None:
            job.ready_s = time.time()
        heapq.heappush(self._heap, job)

    def pop(self) -> Job:
        """Remove and return the first job."""
        if self._heap and (not self._initial or self._heap[0] < self._initial[0]):
            return heapq.heappop(self._heap)
        return self._initial.popleft()

    def clear(self) -> None:
        """Remove all jobs."""
        self._initial.clear()
        self._heap.clear()
