"""The thread that assigns jobs to workers and receives their results.

Everything here belongs to that thread, but for what other threads call: that posts actions to the
inbox, which the thread runs in order. It wakes up when something happens, and twenty times a second
to check the workers that run.
"""

import contextlib
import logging
import pickle
import selectors
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Final

from batuta.cluster.by_value import FunctionPickles
from batuta.cluster.errors import ClusterError, WorkerMemoryError
from batuta.cluster.execution import LocalResult, Step
from batuta.cluster.execution_state import ExecutionState
from batuta.cluster.futures import Computation
from batuta.cluster.graph import ExecutionPlan, Job
from batuta.cluster.local.limits import Limits
from batuta.cluster.local.worker_handle import (
    Assignment,
    PoolSettings,
    WorkerHandle,
    modules_for,
)
from batuta.cluster.local.worker_main import Destination, JobDone, JobFailed, JobRequest
from batuta.cluster.local.worker_pool import MAX_AHEAD_STEPS, MAX_STARTS, WorkerPool, discard
from batuta.cluster.main_script import MainNames
from batuta.cluster.remote_error import failed_task
from batuta.cluster.store import StoredResult, put
from batuta.cluster.task_metrics import TaskMetrics, with_tree_peak
from batuta.cluster.tasks import Delayed, Task
from batuta.cluster.tile_activity import TileStart
from batuta.cluster.unsendable import unsendable
from batuta.errors import describe_error
from batuta.profiling.capture.contract import CallLabel
from batuta.profiling.capture.labels import LostAttempt

LOG: Final = logging.getLogger(__name__)

CHECK_EVERY_S: Final = 0.05
MAX_UNDELIVERED_PER_WORKER: Final = 4
"""Results that may wait to be taken before computing pauses, so that memory stays flat."""


class LocalScheduler(threading.Thread):
    """Computes on worker processes of this machine.

    Parameters
    ----------
    pool_settings : PoolSettings
        How workers are started.
    limits : Limits
        How many there are, and what each may use.
    task_metrics : TaskMetrics
        Where what workers measure goes.
    fuse : bool
        Whether chains of tasks run as one job.
    """

    def __init__(
        self,
        pool_settings: PoolSettings,
        limits: Limits,
        task_metrics: TaskMetrics,
        *,
        fuse: bool,
    ) -> None:
        super().__init__(name="batuta-scheduler", daemon=True)
        self.last_progress_s = time.monotonic()
        """When a task last ended, or work began again after a pause."""
        self._pool_settings = pool_settings
        self._limits = limits
        self._task_metrics = task_metrics
        self._inbox: deque[Callable[[], None]] = deque()
        # A byte sent to one end of this pair wakes the thread, which waits for the other.
        self._wakeup_out, self._wakeup_in = socket.socketpair()
        self._wakeup_out.setblocking(False)
        self._wakeup_in.setblocking(False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._wakeup_out, selectors.EVENT_READ, self._drain_wakeups)
        self._pool = WorkerPool(self, self._selector, limits.nb_workers, limits)
        self._sleeping = True
        """Whether the thread may wait for long: then even what is not urgent must wake it."""
        self._closing = False
        self._state = ExecutionState(fuse=fuse, on_start=self._on_start)
        self._functions = FunctionPickles(MainNames.now())
        """Of the computation that runs."""
        self._heavy: deque[Job] = deque()
        """Jobs that exceeded the memory of a worker, to run alone once nothing else can."""
        self._alone: Job | None = None
        """The one of them that runs."""

    # Called by other threads

    @property
    def silence_s(self) -> float:
        """For how long no task has ended."""
        return time.monotonic() - self.last_progress_s

    def submit(self, computation: Computation) -> None:
        """Start `computation`, after those submitted before."""
        self.post(partial(self._state.submit, computation))

    def delivered(self, computation: Computation) -> None:
        """Record that an iterator took a finished future."""
        self._post_lazily(partial(self._state.record_delivery, computation))

    def read(self, delayed: Delayed) -> None:
        """Record that a finished result was read."""
        self._post_lazily(partial(self._state.record_use, delayed))

    def delivered_and_read(self, computation: Computation, delayed: Delayed) -> None:
        """Record both at once."""
        self._post_lazily(partial(self._state.record_delivery_and_read, computation, delayed))

    def close(self) -> None:
        """Compute nothing more; return when every worker has ended."""
        if self.is_alive():
            self.post(self._stop)
            self.join()

    def _post_lazily(self, action: Callable[[], None]) -> None:
        """Run `action` when something else happens: waking a thread costs more than most actions.

        No wake-up is lost, without a lock, because each side writes before it reads. Here, the
        action is appended, then `_sleeping` is read; the thread sets `_sleeping`, then reads its
        inbox. Whichever comes last sees what the other wrote: either the thread finds the action
        and does not sleep, or it is found sleeping and woken.
        """
        self._inbox.append(action)
        if self._sleeping:
            self._wake()

    def post(self, action: Callable[[], None]) -> None:
        """Run `action` in the thread of the scheduler, soon."""
        self._inbox.append(action)
        self._wake()

    def _wake(self) -> None:
        # The pair is full: a wake-up is pending already. Or it is closed: the thread has ended.
        with contextlib.suppress(OSError):
            self._wakeup_in.send(b"!")

    # The thread

    def run(self) -> None:
        """React to what happens until closed."""
        try:
            while not self._closing:
                self._react()
        except Exception as exc:
            LOG.exception("the scheduler failed")
            self.on_pool_broken(ClusterError(f"the scheduler failed: {describe_error(exc)}"))
            self._fail_submissions()
        finally:
            self._shut_down()

    def _fail_submissions(self) -> None:
        """Fail whatever is submitted until closed, without waiting for workers any more."""
        self._sleeping = True
        self._wakeup_out.setblocking(True)
        self._run_inbox()
        while not self._closing:
            self._wakeup_out.recv(65536)
            self._run_inbox()

    def _react(self) -> None:
        """React to what happens until workers are to be checked, and check them."""
        next_check_s = time.monotonic() + CHECK_EVERY_S
        while not self._closing and (now_s := time.monotonic()) < next_check_s:
            for key, _ in self._selector.select(self._wait_s(next_check_s - now_s)):
                key.data()
            self._run_inbox()
            self._dispatch()
        self._pool.check(alone=self._alone is not None)

    def _wait_s(self, until_check_s: float) -> float | None:
        """Return how long to wait for something to happen; None is for ever."""
        self._sleeping = not self._pool.needs_checks or self._paused()
        if self._sleeping and self._inbox:  # in this order: see `_post_lazily`
            return 0.0
        return until_check_s if self._pool.needs_checks else None

    def _run_inbox(self) -> None:
        while self._inbox and not self._closing:
            self._inbox.popleft()()

    def _drain_wakeups(self) -> None:
        with contextlib.suppress(BlockingIOError):
            self._wakeup_out.recv(65536)

    def _stop(self) -> None:
        self._closing = True

    def _shut_down(self) -> None:
        for assignment in self._pool.close():
            discard(assignment.calls)
        self._state.free_all()
        self._selector.close()
        self._wakeup_in.close()
        self._wakeup_out.close()

    def on_pool_broken(self, error: ClusterError) -> None:
        """Fail all that is asked for, now and from now on."""
        self._heavy.clear()
        self._state.fail_all(error)

    def _on_start(self, plan: ExecutionPlan) -> None:
        """Start the workers when the first plan is known: it names the modules that they need."""
        self.last_progress_s = time.monotonic()
        self._task_metrics.number_tasks(plan)
        self._functions = FunctionPickles(MainNames.now())
        if plan.jobs and not self._pool.started:
            # By identity: what is called may be an object without a hash.
            functions = {
                id(task.function): task.function for job in plan.jobs for task in job.steps
            }
            preload = modules_for(functions.values())
            self._pool.start(replace(self._pool_settings, preload=preload))

    # Jobs

    def _paused(self) -> bool:
        return self._state.has_backlog(MAX_UNDELIVERED_PER_WORKER * self._limits.nb_workers)

    def _dispatch(self) -> None:
        """Assign ready jobs to workers, as many as may be."""
        if self._alone is not None or self._paused():
            return
        if self._pool.idle and not self._state.ready:
            for job in self._pool.withdraw_jobs():
                self._state.ready.push(job)
        while self._state.ready:
            job = self._state.ready.pop()
            worker = self._pool.available_worker(ahead=len(job.steps) <= MAX_AHEAD_STEPS)
            if worker is None:
                self._state.ready.push(job)
                break
            self._assign(worker, job)
        if self._heavy and not self._state.ready and not self._pool.busy and self._pool.idle:
            self._alone = self._heavy.popleft()
            self._assign(self._pool.idle.pop(), self._alone)
        self._pool.flush()

    def _assign(self, worker: WorkerHandle, job: Job) -> None:
        try:
            steps = self._store_steps(job)
        except Exception as exc:  # noqa: BLE001 - pickling an object of the user's may raise anything
            self._pool.release(worker)
            self._alone = None
            self._state.fail(job, unsendable(job, self._functions.names, exc))
            return
        request = JobRequest(
            number=worker.next_number(),
            steps=steps,
            destinations=tuple(_destination(output, self._state) for output in job.last.outputs),
            tile="" if job.tile is None else str(job.tile),
            last=self._pool.next_is_last(worker),
        )
        if not self._pool.busy:
            self.last_progress_s = time.monotonic()  # there was nothing to end meanwhile
        self._pool.assign(worker, job, request, [step.call for step in steps])

    def _store_steps(self, job: Job) -> tuple[Step, ...]:
        previous_steps: list[Task | None] = [None, *job.steps[:-1]]
        return tuple(
            Step(
                store_call(task, previous, self._pool_settings.folder, self._functions),
                task.nout,
                CallLabel(task.number or 0, task.name, task.attempts + 1),
            )
            for task, previous in zip(job.steps, previous_steps, strict=True)
        )

    def on_outcome(self, worker: WorkerHandle, job: Job, outcome: JobDone | JobFailed) -> None:
        """Record the outcome of a job."""
        self.last_progress_s = time.monotonic()
        failure = outcome.error.reason if isinstance(outcome, JobFailed) else None
        measures = with_tree_peak(outcome.usage.measures, worker.peak_bytes)
        self._task_metrics.record_job(job, measures, worker.who, failure)
        self._task_metrics.record_repeats(outcome.usage.repeats)
        if self._alone is job:
            self._alone = None
        if self._state.broken is not None:
            return
        if isinstance(outcome, JobDone):
            self._state.complete(job, outcome.outputs)
        else:
            self._state.fail(job, outcome.error.to_exception())

    def _record_lost_attempt(self, job: Job, worker: WorkerHandle, reason: str) -> None:
        last = worker.last_state
        rank = max(last.step, 0)
        lost = LostAttempt(job.steps[rank].name, worker.who, reason, last.for_s, worker.peak_bytes)
        self._task_metrics.record_loss(self._task_metrics.label(job, rank), lost)

    def on_progress(self) -> None:
        """Record that a task ended, inside a job."""
        self.last_progress_s = time.monotonic()

    def on_begun(self, worker: WorkerHandle, job: Job) -> None:
        """Report the tile that a worker has begun, before the future that it will end."""
        if job.tile is not None and not self._state.idle:
            self._state.current.finished.put(TileStart(job.tile, worker.who.name))

    def on_loss(self, worker: WorkerHandle, assigned: Sequence[Assignment]) -> None:
        """Reassign the jobs of a worker that was lost; fail, or run alone, the one that ran.

        A worker runs its jobs in order, and its heartbeat is final: the job of the request that it
        names had begun, and may have had effects; those behind it had not, and run again safely.
        """
        last = worker.last_state
        for assignment in assigned:
            discard(assignment.calls)
            job = assignment.job
            if self._alone is job:
                self._alone = None
            if self._state.broken is not None:
                continue
            begun = assignment.number == last.number and not worker.was_killed_for_another(
                assignment.number
            )
            if not begun and job.false_starts < MAX_STARTS:
                # Only the first one can be what kills workers, when it is read for instance.
                job.false_starts += assignment is assigned[0]
                self._state.ready.push(job)
                continue
            self.last_progress_s = time.monotonic()
            reason = worker.loss_of(assignment.number)
            self._record_lost_attempt(job, worker, describe_error(reason))
            if isinstance(reason, WorkerMemoryError) and not job.alone:
                LOG.warning("%s: %s; it is tried again alone", _describe(job, last.step), reason)
                job.alone = True
                self._heavy.append(job)
            else:
                task = job.steps[max(last.step, 0)]
                self._state.fail(job, failed_task(task.name, describe_error(reason), reason))


def _destination(output: Delayed, state: ExecutionState) -> Destination:
    if not output.uses:
        return Destination.NOBODY
    # Memory is only for results that are taken as they come: others could fill it up.
    taken_at_once = state.current.iterated and not state.current.set_aside
    if taken_at_once and state.is_read_by_caller_alone(output):
        return Destination.MAIN_PROCESS
    return Destination.TASKS


def store_call(
    task: Task, previous: Task | None, folder: str, functions: FunctionPickles
) -> StoredResult:
    """Store the call of `task`, ready for a worker.

    Parameters
    ----------
    task : Task
        All it depends on is stored, but for the results of `previous`.
    previous : Task or None
        The task that runs before it in the same job: its results do not leave the worker.
    folder : str
        Where large arguments are written.
    functions : FunctionPickles
        Of the computation.

    Raises
    ------
    Exception
        Anything that pickling it raises.
    """
    inner = () if previous is None else previous.outputs
    for delayed in inner:
        delayed.stored = StoredResult(None, pickle.dumps(LocalResult(delayed.index)))
    try:
        call = (functions.shared(task.function), task.args, task.kwargs)
        return put(call, folder, main=functions.main)
    finally:
        for delayed in inner:
            delayed.stored = None


def _describe(job: Job, step: int) -> str:
    task = job.steps[max(step, 0)].name
    return f"task {task}" if job.tile is None else f"{job.tile}, task {task}"
