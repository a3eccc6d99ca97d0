"""The thread that gives jobs to workers and takes their results.

All of its state belongs to that thread: others only post actions. It wakes for what happens, and
twenty times a second to look at the workers that run.
"""

import contextlib
import logging
import selectors
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Final

from batuta.cluster.crew import AHEAD_MAX_STEPS, MAX_STARTS, Crew, discard
from batuta.cluster.errors import ClusterError, WorkerMemoryError
from batuta.cluster.failures import failed_task, loss, raised_error
from batuta.cluster.graph import Job, Plan, ReadyJobs, make_plan
from batuta.cluster.pool import Assignment, PoolSettings, Worker, modules_for
from batuta.cluster.runs import Run
from batuta.cluster.store import Stored
from batuta.cluster.tasks import Delayed, Task, call_of
from batuta.cluster.watch import Limits
from batuta.cluster.worker import JobDone, JobFailed, JobOrder, Keep, Step, describe

LOG: Final = logging.getLogger(__name__)

TICK_S: Final = 0.05
UNTAKEN_PER_WORKER: Final = 4
"""Results that may wait to be taken before computing pauses, so that memory stays flat."""


class Scheduler(threading.Thread):
    """Runs plans on workers.

    Parameters
    ----------
    pool : PoolSettings
        How workers are made.
    limits : Limits
        How many there are, and what each may take.
    fuse : bool
        Whether chains run as one job.
    """

    def __init__(self, pool: PoolSettings, limits: Limits, *, fuse: bool) -> None:
        super().__init__(name="batuta-scheduler", daemon=True)
        self.last_end = time.monotonic()
        """When a task last ended, or work began again after a pause."""
        self._pool = pool
        self._limits = limits
        self._fuse = fuse
        self._inbox: deque[Callable[[], None]] = deque()
        self._alarm_out, self._alarm_in = socket.socketpair()
        self._alarm_out.setblocking(False)
        self._alarm_in.setblocking(False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._alarm_out, selectors.EVENT_READ, self._silence_alarm)
        self._crew = Crew(self, self._selector, limits.nb_workers, limits)
        self._drowsy = True
        """Whether it may wait for long: then even what is not urgent must wake it."""
        self._stopping = False
        self._broken: ClusterError | None = None
        self._ready = ReadyJobs()
        self._heavy: deque[Job] = deque()
        """Jobs that outgrew their worker, to run alone once nothing else can."""
        self._alone: Job | None = None
        self._runs: deque[Run] = deque()
        self._live: set[Delayed] = set()
        self._kept: set[Delayed] = set()
        self._failed: set[Job] = set()

    # What other threads call

    def submit(self, run: Run) -> None:
        """Have what `run` asks for computed."""
        self.post(partial(self._take, run))

    def taken(self, run: Run) -> None:
        """Tell that an iterator took a finished future."""
        self._post_later(partial(self._taken, run))

    def read(self, delayed: Delayed) -> None:
        """Tell that a finished result was read."""
        self._post_later(partial(self._used, delayed))

    def taken_and_read(self, run: Run, delayed: Delayed) -> None:
        """Tell both at once."""
        self._post_later(partial(self._taken_and_read, run, delayed))

    def close(self) -> None:
        """Compute nothing more; return when every worker has ended."""
        if self.is_alive():
            self.post(self._stop)
            self.join()

    def _post_later(self, action: Callable[[], None]) -> None:
        """Run `action` when something else happens: waking a thread costs more than most actions.

        The order matters: who posts looks at `_drowsy` after it has appended, the thread looks at
        its inbox after it has set `_drowsy`. One of them sees the other.
        """
        self._inbox.append(action)
        if self._drowsy:
            self._ring()

    def post(self, action: Callable[[], None]) -> None:
        """Run `action` in the thread of the scheduler."""
        self._inbox.append(action)
        self._ring()

    def _ring(self) -> None:
        with contextlib.suppress(OSError):  # it is awake already, or has ended
            self._alarm_in.send(b"!")

    # The thread

    def run(self) -> None:
        """Act on what happens until closed."""
        try:
            while not self._stopping:
                self._act()
        except Exception as error:
            LOG.exception("the scheduler failed")
            self.on_crew_broken(ClusterError(f"the scheduler failed: {describe(error)}"))
            self._refuse_all()
        finally:
            self._end()

    def _refuse_all(self) -> None:
        """Answer what is asked, by the failure, until closed; of workers, hear nothing more."""
        self._drowsy = True
        self._alarm_out.setblocking(True)
        self._empty_inbox()
        while not self._stopping:
            self._alarm_out.recv(65536)
            self._empty_inbox()

    def _act(self) -> None:
        next_look = time.monotonic() + TICK_S
        while not self._stopping and (now := time.monotonic()) < next_look:
            for key, _ in self._selector.select(self._rest_s(next_look - now)):
                key.data()
            self._empty_inbox()
            self._dispatch()
        self._crew.look(alone=self._alone is not None)

    def _rest_s(self, until_look_s: float) -> float | None:
        """Say how long to wait for something to happen; None is for ever."""
        self._drowsy = not self._crew.restless or self._paused()
        if self._drowsy and self._inbox:
            return 0.0
        return until_look_s if self._crew.restless else None

    def _empty_inbox(self) -> None:
        while self._inbox and not self._stopping:
            self._inbox.popleft()()

    def _silence_alarm(self) -> None:
        with contextlib.suppress(BlockingIOError):
            self._alarm_out.recv(65536)

    def _stop(self) -> None:
        self._stopping = True

    def _end(self) -> None:
        for assignment in self._crew.dismiss_all():
            discard(assignment.calls)
        for delayed in self._live:
            _free(delayed)
        self._selector.close()
        self._alarm_in.close()
        self._alarm_out.close()

    def on_crew_broken(self, error: ClusterError) -> None:
        """Fail all that is asked for, now and from now on."""
        self._broken = error
        self._ready.clear()
        self._heavy.clear()
        for run in self._runs:
            _fail_all(run, error)
        self._runs.clear()

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
        if plan.jobs and not self._crew.hired:
            self._hire_for(plan)
        self._failed.clear()
        for delayed in [each for each in self._kept if not each.uses]:
            self._discard(delayed)
        self._kept.clear()
        run.jobs_left = len(plan.jobs)
        for delayed in [each for each in run.futures if each.stored is not None]:
            run.finish(delayed)
        self._ready.start(plan)
        self._end_if_done(run)

    def _hire_for(self, plan: Plan) -> None:
        """Start the workers, now that it is known what they need."""
        functions = {task.function for job in plan.jobs for task in job.steps}
        self._crew.hire_all(replace(self._pool, preload=modules_for(functions)))

    def _end_if_done(self, run: Run) -> None:
        if run.jobs_left == 0 and self._runs and self._runs[0] is run:
            self._runs.popleft()
            if self._runs:
                self._start(self._runs[0])

    def _taken(self, run: Run) -> None:
        run.untaken -= 1

    def _taken_and_read(self, run: Run, delayed: Delayed) -> None:
        run.untaken -= 1
        self._used(delayed)

    # Jobs

    def _paused(self) -> bool:
        """Whether results wait to be taken; never while another run waits for this one to end."""
        if len(self._runs) != 1 or not self._runs[0].iterated:
            return False
        return self._runs[0].untaken >= UNTAKEN_PER_WORKER * self._limits.nb_workers

    def _dispatch(self) -> None:
        if self._alone is not None or self._paused():
            return
        if self._crew.idle and not self._ready:
            for job in self._crew.take_back():
                self._ready.push(job)
        while self._ready:
            job = self._ready.pop()
            worker = self._crew.free_worker(ahead=len(job.steps) <= AHEAD_MAX_STEPS)
            if worker is None:
                self._ready.push(job)
                break
            self._send(worker, job)
        if self._heavy and not self._ready and not self._crew.busy and self._crew.idle:
            self._alone = self._heavy.popleft()
            self._send(self._crew.idle.pop(), self._alone)
        self._crew.flush()

    def _send(self, worker: Worker, job: Job) -> None:
        try:
            steps = self._steps(job)
        except Exception as error:  # noqa: BLE001 - pickling an object of the user's may raise anything
            self._crew.give_back(worker)
            self._alone = None
            reason = f"its call cannot be sent to a worker: {describe(error)}"
            self._fail(job, failed_task(job.first.name, reason, error))
            return
        run = self._runs[0]
        order = JobOrder(
            number=worker.next_number(),
            steps=steps,
            keep=tuple(_keep(output, run) for output in job.last.outputs),
            tile="" if job.tile is None else str(job.tile),
            last=self._crew.is_last(worker),
        )
        if not self._crew.busy:
            self.last_end = time.monotonic()  # there was nothing to end meanwhile
        self._crew.assign(worker, job, order, [step.call for step in steps])

    def _steps(self, job: Job) -> tuple[Step, ...]:
        before: list[Task | None] = [None, *job.steps[:-1]]
        return tuple(
            Step(call_of(task, previous, self._pool.folder), task.name, task.nout)
            for task, previous in zip(job.steps, before, strict=True)
        )

    def on_outcome(self, job: Job, outcome: JobDone | JobFailed) -> None:
        """Take what a job gave."""
        self.last_end = time.monotonic()
        if self._alone is job:
            self._alone = None
        if self._broken is not None:
            return
        if isinstance(outcome, JobDone):
            self._done(job, outcome.outputs)
        else:
            self._fail(job, raised_error(outcome))

    def on_sign_of_life(self) -> None:
        """Take that a task ended, inside a job."""
        self.last_end = time.monotonic()

    def on_loss(self, worker: Worker, assigned: Sequence[Assignment]) -> None:
        """Take the jobs of a worker that died: what it had not begun goes to others."""
        doing = worker.last_doing
        for assignment in assigned:
            discard(assignment.calls)
            job = assignment.job
            if self._alone is job:
                self._alone = None
            if self._broken is not None:
                continue
            begun = assignment.number == doing.number and not worker.spared(assignment.number)
            if not begun and job.false_starts < MAX_STARTS:
                job.false_starts += assignment is assigned[0]
                self._ready.push(job)
                continue
            self.last_end = time.monotonic()
            reason = loss(worker, assignment.number)
            if isinstance(reason, WorkerMemoryError) and not job.alone:
                LOG.warning("%s: %s; it is tried again alone", _what(job, doing.step), reason)
                job.alone = True
                self._heavy.append(job)
            else:
                task = job.steps[max(doing.step, 0)]
                self._fail(job, failed_task(task.name, describe(reason), reason))

    def _done(self, job: Job, outputs: Sequence[Stored | None]) -> None:
        run = self._runs[0]
        for output, stored in zip(job.last.outputs, outputs, strict=True):
            if stored is not None:
                _free(output)
                output.stored = stored
                self._live.add(output)
                run.finish(output)
        for consumer in job.consumers:
            consumer.waiting -= 1
            if consumer.waiting == 0:
                self._ready.push(consumer)
        for delayed in job.inputs():
            self._used(delayed)
        _forget(job)
        run.jobs_left -= 1
        self._end_if_done(run)

    def _fail(self, job: Job, error: BaseException) -> None:
        """Fail a job and all that depends on it; what they would have used is kept for a retry."""
        run = self._runs[0]
        lost = [each for each in job.with_dependants() if each not in self._failed]
        self._failed.update(lost)
        for each in lost:
            for delayed in each.inputs():
                if delayed.stored is not None:
                    self._kept.add(delayed)
                self._used(delayed)
            for output in each.last.outputs:
                run.finish(output, error)
        run.jobs_left -= len(lost)
        self._end_if_done(run)

    # Results

    def _used(self, delayed: Delayed) -> None:
        delayed.uses -= 1
        if delayed.uses <= 0:
            delayed.uses = 0
            if delayed not in self._kept:
                self._discard(delayed)

    def _discard(self, delayed: Delayed) -> None:
        self._live.discard(delayed)
        _free(delayed)


def _keep(output: Delayed, run: Run) -> Keep:
    if not output.uses:
        return Keep.NO
    # Only what is taken as it comes may wait in memory.
    taken_at_once = run.iterated and not run.aside
    alone = output.uses == 1 and output in run.futures
    return Keep.HANDED if taken_at_once and alone else Keep.STORED


def _forget(job: Job) -> None:
    """Let go of a job that is done, so that memory shrinks as the run goes on."""
    for task in job.steps:
        task.job = None
    job.consumers = []


def _what(job: Job, step: int) -> str:
    task = job.steps[max(step, 0)].name
    return f"task {task}" if job.tile is None else f"{job.tile}, task {task}"


def _free(delayed: Delayed) -> None:
    if delayed.stored is not None:
        delayed.stored.discard()
        delayed.stored = None


def _fail_all(run: Run, error: ClusterError) -> None:
    for delayed in list(run.futures):
        run.finish(delayed, error)
