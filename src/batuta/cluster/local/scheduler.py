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

from batuta.cluster.errors import ClusterError, WorkerMemoryError
from batuta.cluster.execution_state import Book
from batuta.cluster.futures import Run
from batuta.cluster.graph import Job, Plan
from batuta.cluster.local.failures import loss
from batuta.cluster.local.limits import Limits
from batuta.cluster.local.worker_handle import Assignment, PoolSettings, Worker, modules_for
from batuta.cluster.local.worker_main import JobDone, JobFailed, JobOrder, Keep, Step
from batuta.cluster.local.worker_pool import AHEAD_MAX_STEPS, MAX_STARTS, Crew, discard
from batuta.cluster.remote_error import failed_task
from batuta.cluster.task_metrics import TaskMetrics, with_family
from batuta.cluster.tasks import Delayed, Task, call_of
from batuta.errors import describe_error
from batuta.profiling.capture.contract import CallLabel
from batuta.profiling.capture.labels import LostAttempt

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
    task_metrics : TaskMetrics
        Where what workers measure goes.
    fuse : bool
        Whether chains run as one job.
    """

    def __init__(
        self, pool: PoolSettings, limits: Limits, task_metrics: TaskMetrics, *, fuse: bool
    ) -> None:
        super().__init__(name="batuta-scheduler", daemon=True)
        self.last_end = time.monotonic()
        """When a task last ended, or work began again after a pause."""
        self._pool = pool
        self._limits = limits
        self._task_metrics = task_metrics
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
        self._book = Book(fuse=fuse, on_start=self._on_start)
        self._heavy: deque[Job] = deque()
        """Jobs that outgrew their worker, to run alone once nothing else can."""
        self._alone: Job | None = None

    # What other threads call

    @property
    def silence_s(self) -> float:
        """For how long no task has ended."""
        return time.monotonic() - self.last_end

    def submit(self, run: Run) -> None:
        """Have what `run` asks for computed."""
        self.post(partial(self._book.take, run))

    def taken(self, run: Run) -> None:
        """Tell that an iterator took a finished future."""
        self._post_later(partial(self._book.taken, run))

    def read(self, delayed: Delayed) -> None:
        """Tell that a finished result was read."""
        self._post_later(partial(self._book.used, delayed))

    def taken_and_read(self, run: Run, delayed: Delayed) -> None:
        """Tell both at once."""
        self._post_later(partial(self._book.taken_and_read, run, delayed))

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
        except Exception as exc:
            LOG.exception("the scheduler failed")
            self.on_crew_broken(ClusterError(f"the scheduler failed: {describe_error(exc)}"))
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
        self._book.free_all()
        self._selector.close()
        self._alarm_in.close()
        self._alarm_out.close()

    def on_crew_broken(self, error: ClusterError) -> None:
        """Fail all that is asked for, now and from now on."""
        self._heavy.clear()
        self._book.break_down(error)

    def _on_start(self, plan: Plan) -> None:
        """Start the workers for the first plan: now it is known what they need."""
        self.last_end = time.monotonic()
        self._task_metrics.begin(plan)
        if plan.jobs and not self._crew.hired:
            functions = {task.function for job in plan.jobs for task in job.steps}
            self._crew.hire_all(replace(self._pool, preload=modules_for(functions)))

    # Jobs

    def _paused(self) -> bool:
        return self._book.paused(UNTAKEN_PER_WORKER * self._limits.nb_workers)

    def _dispatch(self) -> None:
        if self._alone is not None or self._paused():
            return
        if self._crew.idle and not self._book.ready:
            for job in self._crew.take_back():
                self._book.ready.push(job)
        while self._book.ready:
            job = self._book.ready.pop()
            worker = self._crew.free_worker(ahead=len(job.steps) <= AHEAD_MAX_STEPS)
            if worker is None:
                self._book.ready.push(job)
                break
            self._send(worker, job)
        if self._heavy and not self._book.ready and not self._crew.busy and self._crew.idle:
            self._alone = self._heavy.popleft()
            self._send(self._crew.idle.pop(), self._alone)
        self._crew.flush()

    def _send(self, worker: Worker, job: Job) -> None:
        try:
            steps = self._steps(job)
        except Exception as exc:  # noqa: BLE001 - pickling an object of the user's may raise anything
            self._crew.give_back(worker)
            self._alone = None
            reason = f"its call cannot be sent to a worker: {describe_error(exc)}"
            self._book.fail(job, failed_task(job.first.name, reason, exc))
            return
        order = JobOrder(
            number=worker.next_number(),
            steps=steps,
            keep=tuple(_keep(output, self._book) for output in job.last.outputs),
            tile="" if job.tile is None else str(job.tile),
            last=self._crew.is_last(worker),
        )
        if not self._crew.busy:
            self.last_end = time.monotonic()  # there was nothing to end meanwhile
        self._crew.assign(worker, job, order, [step.call for step in steps])

    def _steps(self, job: Job) -> tuple[Step, ...]:
        before: list[Task | None] = [None, *job.steps[:-1]]
        return tuple(
            Step(
                call_of(task, previous, self._pool.folder),
                task.name,
                task.nout,
                CallLabel(task.number or 0, task.name, task.attempts + 1),
            )
            for task, previous in zip(job.steps, before, strict=True)
        )

    def on_outcome(self, worker: Worker, job: Job, outcome: JobDone | JobFailed) -> None:
        """Take what a job gave."""
        self.last_end = time.monotonic()
        failed = outcome.raised.reason if isinstance(outcome, JobFailed) else None
        measures = with_family(outcome.account.measures, worker.peak_ram_bytes)
        self._task_metrics.ended(job, measures, worker.who, failed)
        self._task_metrics.repeated(outcome.account.repeats)
        if self._alone is job:
            self._alone = None
        if self._book.broken is not None:
            return
        if isinstance(outcome, JobDone):
            self._book.done(job, outcome.outputs)
        else:
            self._book.fail(job, outcome.raised.as_error())

    def _tell_lost(self, job: Job, worker: Worker, error: str) -> None:
        doing = worker.last_doing
        rank = max(doing.step, 0)
        lost = LostAttempt(
            job.steps[rank].name, worker.who, error, doing.for_s, worker.peak_ram_bytes
        )
        self._task_metrics.lost(self._task_metrics.label(job, rank), lost)

    def on_sign_of_life(self) -> None:
        """Record that a task ended, inside a job."""
        self.last_end = time.monotonic()

    def on_loss(self, worker: Worker, assigned: Sequence[Assignment]) -> None:
        """Take the jobs of a worker that died: what it had not begun goes to others."""
        doing = worker.last_doing
        for assignment in assigned:
            discard(assignment.calls)
            job = assignment.job
            if self._alone is job:
                self._alone = None
            if self._book.broken is not None:
                continue
            begun = assignment.number == doing.number and not worker.spared(assignment.number)
            if not begun and job.false_starts < MAX_STARTS:
                job.false_starts += assignment is assigned[0]
                self._book.ready.push(job)
                continue
            self.last_end = time.monotonic()
            reason = loss(worker, assignment.number)
            self._tell_lost(job, worker, describe_error(reason))
            if isinstance(reason, WorkerMemoryError) and not job.alone:
                LOG.warning("%s: %s; it is tried again alone", _what(job, doing.step), reason)
                job.alone = True
                self._heavy.append(job)
            else:
                task = job.steps[max(doing.step, 0)]
                self._book.fail(job, failed_task(task.name, describe_error(reason), reason))


def _keep(output: Delayed, book: Book) -> Keep:
    if not output.uses:
        return Keep.NO
    # Only what is taken as it comes may wait in memory.
    taken_at_once = book.run.iterated and not book.run.aside
    return Keep.HANDED if taken_at_once and book.only_asked(output) else Keep.STORED


def _what(job: Job, step: int) -> str:
    task = job.steps[max(step, 0)].name
    return f"task {task}" if job.tile is None else f"{job.tile}, task {task}"
