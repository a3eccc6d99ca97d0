"""The book of the runs: what can be computed now, what was, and who still needs it.

It knows tasks, jobs and results, and nothing of workers: each engine that computes keeps one, in
the one thread where it decides.
"""

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from batuta.cluster.errors import ClusterBrokenError, ClusterError
from batuta.cluster.futures import Computation
from batuta.cluster.graph import Job, Plan, ReadyJobs, make_plan
from batuta.cluster.tasks import Delayed


class Book:
    """Runs, one after the other, from what is asked to what is handed over.

    Parameters
    ----------
    fuse : bool
        Whether a task whose only consumer is the next one runs with it, as one job.
    on_start : callable
        Called with the plan of each run that starts.
    """

    def __init__(self, *, fuse: bool, on_start: Callable[[Plan], None]) -> None:
        self.ready = ReadyJobs()
        self.broken: ClusterBrokenError | None = None
        """Why nothing can be computed any more."""
        self._fuse = fuse
        self._on_start = on_start
        self._runs: deque[Computation] = deque()
        self._live: set[Delayed] = set()
        self._kept: set[Delayed] = set()
        self._failed: set[Job] = set()

    @property
    def run(self) -> Computation:
        """The run that goes on."""
        return self._runs[0]

    @property
    def idle(self) -> bool:
        """Whether there is none."""
        return not self._runs

    # Runs

    def take(self, run: Computation) -> None:
        """Take a run; it starts when those before it have ended."""
        if self.broken is not None:
            _fail_all(run, self.broken)
            return
        self._runs.append(run)
        if len(self._runs) == 1:
            self._start(run)

    def _start(self, run: Computation) -> None:
        """Plan a run and make its first jobs ready; a run with nothing to do ends at once."""
        plan = make_plan(tuple(run.futures), fuse=self._fuse)
        self._on_start(plan)
        self._failed.clear()
        for delayed in [each for each in self._kept if not each.uses]:
            self._discard(delayed)
        self._kept.clear()
        run.jobs_left = len(plan.jobs)
        for delayed in [each for each in run.futures if each.stored is not None]:
            run.finish(delayed)
        self.ready.start(plan)
        self._end_if_done(run)

    def _end_if_done(self, run: Computation) -> None:
        if run.jobs_left == 0 and self._runs and self._runs[0] is run:
            self._runs.popleft()
            if self._runs:
                self._start(self._runs[0])

    def paused(self, undelivered: int) -> bool:
        """Whether at least `undelivered` results wait to be taken, and memory would grow with more.

        Never while another run waits for this one to end.
        """
        return len(self._runs) == 1 and self.run.iterated and self.run.undelivered >= undelivered

    def delivered(self, run: Computation) -> None:
        """Note that an iterator took a finished future."""
        run.undelivered -= 1

    def delivered_and_read(self, run: Computation, delayed: Delayed) -> None:
        """Note that a future was taken, and its result read."""
        run.undelivered -= 1
        self.used(delayed)

    def break_down(self, error: ClusterError) -> None:
        """Fail all that is asked for, now and from now on."""
        self.broken = ClusterBrokenError(str(error))
        self.ready.clear()
        for run in self._runs:
            _fail_all(run, self.broken)
        self._runs.clear()

    # Jobs

    def done(self, job: Job, outputs: Sequence[Any]) -> None:
        """Note where the outputs of a job are; None is for those that nobody wants."""
        run = self.run
        for output, stored in zip(job.last.outputs, outputs, strict=True):
            if stored is not None:
                _free(output)
                output.stored = stored
                self._live.add(output)
                run.finish(output)
        for consumer in job.consumers:
            consumer.waiting -= 1
            if consumer.waiting == 0:
                self.ready.push(consumer)
        for delayed in job.inputs():
            self.used(delayed)
        _forget(job)
        run.jobs_left -= 1
        self._end_if_done(run)

    def fail(self, job: Job, error: BaseException) -> None:
        """Fail a job and all that depends on it; what they would have used is kept for a retry."""
        run = self.run
        lost = [each for each in job.with_dependants() if each not in self._failed]
        self._failed.update(lost)
        for each in lost:
            for delayed in each.inputs():
                if delayed.stored is not None:
                    self._kept.add(delayed)
                self.used(delayed)
            for output in each.last.outputs:
                run.finish(output, error)
        run.jobs_left -= len(lost)
        self._end_if_done(run)

    # Results

    def only_asked(self, output: Delayed) -> bool:
        """Whether a result is needed by who asked for it alone."""
        return output.uses == 1 and output in self.run.futures

    def used(self, delayed: Delayed) -> None:
        """Note that a result was used once; after its last use it goes."""
        delayed.uses -= 1
        if delayed.uses <= 0:
            delayed.uses = 0
            if delayed not in self._kept:
                self._discard(delayed)

    def _discard(self, delayed: Delayed) -> None:
        self._live.discard(delayed)
        _free(delayed)

    def free_all(self) -> None:
        """Let go of every result."""
        for delayed in self._live:
            _free(delayed)
        self._live.clear()


def _forget(job: Job) -> None:
    """Let go of a job that is done, so that memory shrinks as the run goes on."""
    for task in job.steps:
        task.job = None
    job.consumers = []


def _free(delayed: Delayed) -> None:
    if delayed.stored is not None:
        delayed.stored.discard()
        delayed.stored = None


def _fail_all(run: Computation, error: ClusterError) -> None:
    for delayed in list(run.futures):
        run.finish(delayed, error)
