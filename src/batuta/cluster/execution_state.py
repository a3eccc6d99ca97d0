"""The state of execution: which jobs can run now, which results exist and who still needs them.

It knows tasks, jobs and results, and nothing of workers. Each engine keeps one, and uses it in the
one thread in which it decides; it has no lock.
"""

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from batuta.cluster.errors import ClusterBrokenError, ClusterError
from batuta.cluster.futures import Computation
from batuta.cluster.graph import ExecutionPlan, Job, ReadyJobs, make_plan
from batuta.cluster.tasks import Delayed


class ExecutionState:
    """Computations, one for each call of `start_tasks`, one after the other.

    Parameters
    ----------
    fuse : bool
        Whether a task whose only consumer is the next one runs with it, as one job.
    on_start : callable
        Called with the plan of each computation when it starts.
    """

    def __init__(self, *, fuse: bool, on_start: Callable[[ExecutionPlan], None]) -> None:
        self.ready = ReadyJobs()
        self.broken: ClusterBrokenError | None = None
        """Why nothing can be computed any more."""
        self._fuse = fuse
        self._on_start = on_start
        self._queue: deque[Computation] = deque()
        self._stored: set[Delayed] = set()
        """Results that exist."""
        self._for_retry: set[Delayed] = set()
        """Inputs of jobs that failed: the next computation may ask for the same tasks again."""
        self._failed: set[Job] = set()

    @property
    def current(self) -> Computation:
        """The computation that runs."""
        return self._queue[0]

    @property
    def idle(self) -> bool:
        """Whether there is none."""
        return not self._queue

    # Computations

    def submit(self, computation: Computation) -> None:
        """Add a computation; it starts when those before it have ended."""
        if self.broken is not None:
            _fail_futures(computation, self.broken)
            return
        self._queue.append(computation)
        if len(self._queue) == 1:
            self._start(computation)

    def _start(self, computation: Computation) -> None:
        """Plan a computation and make its first jobs ready; it ends at once if it has none."""
        plan = make_plan(tuple(computation.futures), fuse=self._fuse)
        self._on_start(plan)
        self._failed.clear()
        # After planning, which counts the uses anew: those that the plan does not use may go.
        for delayed in [each for each in self._for_retry if not each.uses]:
            self._free(delayed)
        self._for_retry.clear()
        computation.jobs_left = len(plan.jobs)
        for delayed in [each for each in computation.futures if each.stored is not None]:
            computation.finish(delayed)
        self.ready.start(plan)
        self._end_if_done(computation)

    def _end_if_done(self, computation: Computation) -> None:
        if computation.jobs_left == 0 and self._queue and self._queue[0] is computation:
            self._queue.popleft()
            if self._queue:
                self._start(self._queue[0])

    def has_backlog(self, results: int) -> bool:
        """Whether at least so many results wait to be taken: more would fill the memory.

        Never while another computation waits for this one to end: whoever iterates over that one
        takes nothing of this one, and would wait for ever.
        """
        return (
            len(self._queue) == 1 and self.current.iterated and self.current.undelivered >= results
        )

    def record_delivery(self, computation: Computation) -> None:
        """Record that an iterator took a finished future."""
        computation.undelivered -= 1

    def record_delivery_and_read(self, computation: Computation, delayed: Delayed) -> None:
        """Record that an iterator took a finished future and read its result."""
        computation.undelivered -= 1
        self.record_use(delayed)

    def fail_all(self, error: ClusterError) -> None:
        """Fail all that is asked for, now and from now on."""
        self.broken = ClusterBrokenError(str(error))
        self.ready.clear()
        for computation in self._queue:
            _fail_futures(computation, self.broken)
        self._queue.clear()

    # Jobs

    def complete(self, job: Job, outputs: Sequence[Any]) -> None:
        """Record where the outputs of a job are stored; None for those that nobody uses."""
        computation = self.current
        for output, stored in zip(job.last.outputs, outputs, strict=True):
            if stored is not None:
                _discard(output)
                output.stored = stored
                self._stored.add(output)
                computation.finish(output)
        for consumer in job.consumers:
            consumer.waiting -= 1
            if consumer.waiting == 0:
                self.ready.push(consumer)
        for delayed in job.inputs():
            self.record_use(delayed)
        _detach(job)
        computation.jobs_left -= 1
        self._end_if_done(computation)

    def fail(self, job: Job, error: BaseException) -> None:
        """Fail a job and its dependants; their inputs that exist are kept for a retry."""
        computation = self.current
        failed = [each for each in job.with_dependants() if each not in self._failed]
        self._failed.update(failed)
        for each in failed:
            for delayed in each.inputs():
                if delayed.stored is not None:
                    self._for_retry.add(delayed)
                self.record_use(delayed)
            for output in each.last.outputs:
                computation.finish(output, error)
        computation.jobs_left -= len(failed)
        self._end_if_done(computation)

    # Results

    def is_read_by_caller_alone(self, output: Delayed) -> bool:
        """Whether a result is used by the caller of `start_tasks`, and by no task."""
        return output.uses == 1 and output in self.current.futures

    def record_use(self, delayed: Delayed) -> None:
        """Record that a result was used once; it is freed after its last use."""
        delayed.uses -= 1
        if delayed.uses <= 0:
            delayed.uses = 0
            if delayed not in self._for_retry:
                self._free(delayed)

    def _free(self, delayed: Delayed) -> None:
        self._stored.discard(delayed)
        _discard(delayed)

    def free_all(self) -> None:
        """Free every result."""
        for delayed in self._stored:
            _discard(delayed)
        self._stored.clear()


def _detach(job: Job) -> None:
    """Detach a job that is done from the graph, so that memory shrinks as jobs end."""
    for task in job.steps:
        task.job = None
    job.consumers = []


def _discard(delayed: Delayed) -> None:
    if delayed.stored is not None:
        delayed.stored.discard()
        delayed.stored = None


def _fail_futures(computation: Computation, error: ClusterError) -> None:
    for delayed in list(computation.futures):
        computation.finish(delayed, error)
