"""From the results that are wanted to the jobs that make them.

Found once, in time linear in tasks and edges: what each job waits for, and who waits for it.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from batuta.cluster.store import Stored
from batuta.cluster.tasks import Delayed, Task


@dataclass(slots=True, eq=False)
class Job:
    """What a worker does at one go: a task, or a chain of tasks that only feed each other."""

    steps: list[Task]
    order: int
    """Its rank in a depth-first walk: the ready job of the smallest rank runs first."""
    waiting: int = 0
    """How many jobs must still end before it can run."""
    consumers: list["Job"] = field(default_factory=list)
    calls: list[Stored] = field(default_factory=list)
    """The calls of its steps, while it is at a worker."""

    @property
    def first(self) -> Task:
        """The task that takes results of other jobs."""
        return self.steps[0]

    @property
    def last(self) -> Task:
        """The task whose results leave the job."""
        return self.steps[-1]

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


@dataclass(frozen=True)
class Plan:
    """The jobs to run, and how many times each result will be used."""

    jobs: list[Job]
    uses: Counter[Delayed]
    """Consumers of each result: tasks of the plan, and whoever asked for it."""


def make_plan(wanted: Sequence[Delayed], *, fuse: bool) -> Plan:
    """Plan what is needed to have the results `wanted`, and nothing else.

    Results that are already stored are used as they are.

    Parameters
    ----------
    wanted : sequence of Delayed
        In the order in which they are preferred.
    fuse : bool
        Whether a task whose only consumer is the next one runs with it (`factorize_tasks`).
    """
    tasks = walk(wanted)
    uses = Counter(wanted)
    for task in tasks:
        uses.update(task.dependencies)
    return Plan(_link(tasks, {delayed.task for delayed in wanted}, fuse=fuse), uses)


def walk(wanted: Iterable[Delayed]) -> list[Task]:
    """List the tasks to run for `wanted`, depth first, each after all it depends on."""
    found: list[Task] = []
    seen: set[Task] = set()
    waiting: list[tuple[Task | None, Iterator[Delayed]]] = [(None, iter(wanted))]
    while waiting:
        task, dependencies = waiting[-1]
        for delayed in dependencies:
            if delayed.stored is None and delayed.task not in seen:
                seen.add(delayed.task)
                waiting.append((delayed.task, iter(delayed.task.dependencies)))
                break
        else:
            waiting.pop()
            if task is not None:
                found.append(task)
    return found


def _link(tasks: list[Task], wanted: set[Task], *, fuse: bool) -> list[Job]:
    feeding = {task: _feeding(task) for task in tasks}
    consumers: Counter[Task] = Counter()
    for feeders in feeding.values():
        consumers.update(feeders)
    jobs: dict[Task, Job] = {}
    for task, feeders in feeding.items():
        if fuse and _is_chained(feeders, consumers, wanted):
            job = jobs[feeders[0]]
            job.steps.append(task)
        else:
            job = Job([task], order=len(jobs), waiting=len(feeders))
            for feeder in feeders:
                jobs[feeder].consumers.append(job)
        jobs[task] = job
    return list(dict.fromkeys(jobs.values()))


def _feeding(task: Task) -> list[Task]:
    return list(dict.fromkeys(each.task for each in task.dependencies if each.stored is None))


def _is_chained(feeders: list[Task], consumers: Counter[Task], wanted: set[Task]) -> bool:
    """Whether a task runs with the one that feeds it: none could run beside the other."""
    return len(feeders) == 1 and consumers[feeders[0]] == 1 and feeders[0] not in wanted
