"""The thread that gives jobs to workers and takes their results.

All of its state belongs to that thread: others only put actions in its inbox. It wakes for what
happens, and ten times a second to look at the workers that run.
"""

import heapq
import logging
import pickle
import queue
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Final

from batuta.cluster.errors import ClusterError, TaskFailedError
from batuta.cluster.graph import Job, Plan, make_plan
from batuta.cluster.pool import PoolSettings, Reaper, Worker, modules_for
from batuta.cluster.runs import Run
from batuta.cluster.tasks import Delayed, Task, call_of
from batuta.cluster.watch import Limits, Watch, loss
from batuta.cluster.worker import JobDone, JobFailed, JobOrder, Step, describe

LOG: Final = logging.getLogger(__name__)

TICK_S: Final = 0.1
MAX_STARTS: Final = 3
"""Workers that fail to start, or jobs lost before they began, in a row: then it is an error."""
UNTAKEN_PER_WORKER: Final = 4
"""Results that may wait to be taken before computing pauses, so that memory stays flat."""

Outcome = JobDone | JobFailed | BaseException


class Scheduler(threading.Thread):
    """Runs plans on workers.

    Parameters
    ----------
    pool : PoolSettings
        How workers are made.
    nb_workers : int
        How many there are.
    limits : Limits
        What a worker may take.
    fuse : bool
        Whether chains run as one job.
    """

    def __init__(self, pool: PoolSettings, nb_workers: int, limits: Limits, *, fuse: bool) -> None:
        super().__init__(name="batuta-scheduler", daemon=True)
        self.last_end = time.monotonic()
        """When a job last ended."""
        self._pool = pool
        self._nb_workers = nb_workers
        self._limits = limits
        self._fuse = fuse
        self._inbox: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._stopping = False
        self._broken: ClusterError | None = None
        self._watch = Watch(limits)
        self._reaper = Reaper()
        self._workers: set[Worker] = set()
        self._starting: set[Worker] = set()
        self._idle: list[Worker] = []
        self._running: dict[Worker, Job] = {}
        self._false_starts: Counter[Job | None] = Counter()
        self._ready: list[tuple[int, Job]] = []
        self._runs: deque[Run] = deque()
        self._uses: Counter[Delayed] = Counter()
        self._live: set[Delayed] = set()
        self._kept: set[Delayed] = set()
        self._failed: set[Job] = set()

    # What other threads call

    def submit(self, wanted: Sequence[Delayed]) -> Run:
        """Have `wanted` computed."""
        run = Run(wanted)
        self._inbox.put(partial(self._take, run))
        return run

    def taken(self, run: Run) -> None:
        """Tell that an iterator took a finished future."""
        self._inbox.put(partial(self._taken, run))

    def consumed(self, delayed: Delayed) -> None:
        """Tell that a finished result was read."""
        self._inbox.put(partial(self._used, delayed))

    def close(self) -> None:
        """Compute nothing more; return when every worker has ended."""
        if self.is_alive():
            self._inbox.put(self._stop)
            self.join()

    # The thread

    def run(self) -> None:
        """Act on what happens until closed."""
        try:
            while not self._stopping:
                self._act()
        except Exception as error:
            LOG.exception("the scheduler failed")
            self._break(ClusterError(f"the scheduler failed: {describe(error)}"))
            while not self._stopping:
                self._inbox.get()()
        finally:
            self._dismiss_all()

    def _act(self) -> None:
        next_look = time.monotonic() + TICK_S
        while not self._stopping and time.monotonic() < next_look:
            try:
                self._inbox.get(timeout=TICK_S if self._running or self._starting else None)()
            except queue.Empty:
                break
            self._dispatch()
        for worker in (*self._running, *self._starting):
            self._look_at(worker)

    def _stop(self) -> None:
        self._stopping = True

    def _dismiss_all(self) -> None:
        for worker in self._workers:
            self._reaper.take(worker)  # first, so that Pebble does not replace it
            worker.kill()
        self._reaper.close()
        for delayed in self._live:
            _free(delayed)

    def _break(self, error: ClusterError) -> None:
        """Fail all that is asked for, now and from now on."""
        self._broken = error
        self._ready.clear()
        for run in self._runs:
            _fail_all(run, error)
        self._runs.clear()

    # Workers

    def _hire_all(self, plan: Plan) -> None:
        """Start the workers, now that it is known what they need."""
        functions = (task.function for job in plan.jobs for task in job.steps)
        self._pool = replace(self._pool, preload=modules_for(functions))
        for _ in range(self._nb_workers):
            self._hire()

    def _hire(self) -> None:
        worker = Worker(self._pool, self._introduce)
        self._workers.add(worker)
        self._starting.add(worker)

    def _introduce(self, worker: Worker, error: BaseException | None) -> None:
        """Take the news that a worker has started, from another thread."""
        self._inbox.put(partial(self._hired, worker, error))

    def _hired(self, worker: Worker, error: BaseException | None) -> None:
        if worker not in self._starting:
            return
        self._starting.remove(worker)
        if error is None:
            del self._false_starts[None]
            self._idle.append(worker)
            return
        self._false_starts[None] += 1
        self._dismiss(worker)
        if self._false_starts[None] < MAX_STARTS:
            self._hire()
        elif not self._workers:
            self._break(ClusterError(f"workers cannot start: {describe(error)}"))

    def _dismiss(self, worker: Worker) -> None:
        self._workers.discard(worker)
        self._watch.forget(worker)
        self._reaper.take(worker)

    def _look_at(self, worker: Worker) -> None:
        if self._watch.lost(worker):
            error = ClusterError("its process ended")
            tell = self._introduce if worker in self._starting else self._report
            tell(worker, error)
        elif worker.verdict is None and (verdict := self._watch.verdict(worker)) is not None:
            worker.kill(verdict)

    # Runs

    def _take(self, run: Run) -> None:
        if self._broken is not None:
            _fail_all(run, self._broken)
            return
        self._runs.append(run)
        if len(self._runs) == 1:
            self._start(run)

    def _start(self, run: Run) -> None:
        """Plan a run and make its first jobs ready; a run with nothing to do ends at once."""
        self.last_end = time.monotonic()
        plan = make_plan(tuple(run.futures), fuse=self._fuse)
        if plan.jobs and not self._workers:
            self._hire_all(plan)
        self._uses.update(plan.uses)
        self._failed.clear()
        for delayed in self._kept - self._uses.keys():
            self._discard(delayed)
        self._kept.clear()
        run.jobs_left = len(plan.jobs)
        for delayed in run.futures:
            if delayed.stored is not None:
                run.finish(delayed)
        for job in plan.jobs:
            if job.waiting == 0:
                self._push(job)
        self._end_if_done(run)

    def _end_if_done(self, run: Run) -> None:
        if run.jobs_left == 0 and self._runs and self._runs[0] is run:
            self._runs.popleft()
            if self._runs:
                self._start(self._runs[0])

    def _taken(self, run: Run) -> None:
        run.untaken -= 1

    # Jobs

    def _push(self, job: Job) -> None:
        heapq.heappush(self._ready, (job.order, job))

    def _paused(self) -> bool:
        """Whether results wait to be taken; never while another run waits for this one to end."""
        if len(self._runs) != 1 or not self._runs[0].iterated:
            return False
        return self._runs[0].untaken >= UNTAKEN_PER_WORKER * self._nb_workers

    def _dispatch(self) -> None:
        while self._idle and self._ready and not self._paused():
            _, job = heapq.heappop(self._ready)
            try:
                order = self._order(job)
            except (pickle.PicklingError, TypeError, AttributeError, OSError) as error:
                reason = f"its call cannot be sent to a worker: {describe(error)}"
                self._fail(job, _failed(job.first.name, reason, error))
                continue
            worker = self._idle.pop()
            self._running[worker] = job
            worker.run(order, partial(self._report, worker))

    def _report(self, worker: Worker, outcome: Outcome) -> None:
        """Take what became of a job, from another thread."""
        self._inbox.put(partial(self._ended, worker, outcome))

    def _order(self, job: Job) -> JobOrder:
        before: list[Task | None] = [None, *job.steps[:-1]]
        steps = tuple(
            Step(call_of(task, previous, self._pool.folder), task.id, task.name, task.nout)
            for task, previous in zip(job.steps, before, strict=True)
        )
        job.calls = [step.call for step in steps]
        return JobOrder(steps, tuple(self._uses[output] > 0 for output in job.last.outputs))

    def _ended(self, worker: Worker, outcome: Outcome) -> None:
        job = self._running.pop(worker, None)
        if job is None:
            return  # it was given up already
        self.last_end = time.monotonic()
        if isinstance(outcome, BaseException):
            self._lost(worker, job, outcome)
            return
        self._keep_or_renew(worker, outcome.ram_bytes)
        for call in job.calls:
            call.discard()
        if isinstance(outcome, JobDone):
            self._done(job, outcome)
        else:
            self._fail(job, _error_of(outcome))

    def _keep_or_renew(self, worker: Worker, ram_bytes: int) -> None:
        if self._limits.worn(worker.jobs, ram_bytes):
            self._dismiss(worker)
            self._hire()
        else:
            self._idle.append(worker)

    def _lost(self, worker: Worker, job: Job, error: BaseException) -> None:
        step, _ = worker.step()
        self._dismiss(worker)
        self._hire()
        for call in job.calls:
            call.discard()
        if step < 0 and self._false_starts[job] < MAX_STARTS:
            self._false_starts[job] += 1  # the worker died before it began: nobody's fault
            self._push(job)
            return
        reason = loss(worker, error)
        self._fail(job, _failed(job.steps[max(step, 0)].name, describe(reason), reason))

    def _done(self, job: Job, outcome: JobDone) -> None:
        run = self._runs[0]
        for output, stored in zip(job.last.outputs, outcome.outputs, strict=True):
            if stored is not None:
                _free(output)
                output.stored = stored
                self._live.add(output)
                run.finish(output)
        for consumer in job.consumers:
            consumer.waiting -= 1
            if consumer.waiting == 0:
                self._push(consumer)
        for delayed in _inputs(job):
            self._used(delayed)
        run.jobs_left -= 1
        self._end_if_done(run)

    def _fail(self, job: Job, error: BaseException) -> None:
        """Fail a job and all that depends on it; what they would have used is kept for a retry."""
        run = self._runs[0]
        lost = [each for each in job.with_dependants() if each not in self._failed]
        self._failed.update(lost)
        for each in lost:
            for delayed in _inputs(each):
                if delayed.stored is not None:
                    self._kept.add(delayed)
                self._used(delayed)
            for output in each.last.outputs:
                run.finish(output, error)
        run.jobs_left -= len(lost)
        self._end_if_done(run)

    # Results

    def _used(self, delayed: Delayed) -> None:
        self._uses[delayed] -= 1
        if self._uses[delayed] <= 0:
            del self._uses[delayed]
            if delayed not in self._kept:
                self._discard(delayed)

    def _discard(self, delayed: Delayed) -> None:
        self._live.discard(delayed)
        _free(delayed)


def _inputs(job: Job) -> list[Delayed]:
    """List the results of other jobs that a job uses."""
    inside = set(job.steps)
    return [
        delayed for task in job.steps for delayed in task.dependencies if delayed.task not in inside
    ]


def _free(delayed: Delayed) -> None:
    if delayed.stored is not None:
        delayed.stored.discard()
        delayed.stored = None


def _fail_all(run: Run, error: ClusterError) -> None:
    for delayed in run.futures:
        run.finish(delayed, error)


def _failed(function: str, reason: str, cause: BaseException) -> TaskFailedError:
    error = TaskFailedError(function, reason)
    error.__cause__ = cause
    return error


def _error_of(outcome: JobFailed) -> TaskFailedError:
    """Give the exception that a task raised, with the traceback of its worker as a note."""
    cause: BaseException
    try:
        cause = pickle.loads(outcome.error or b"")  # noqa: S301 - from a worker of ours
    except Exception:  # noqa: BLE001 - a class of the user's may raise anything here
        cause = ClusterError(outcome.reason)
    cause.add_note(f"In its worker:\n{outcome.trace}")
    return _failed(outcome.function, outcome.reason, cause)
