"""Submits jobs to dask, as many as its workers need, and acts on what becomes of them.

All of its state belongs to the thread of dask's event loop: other threads only post actions.
"""

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any, Final
from urllib.parse import urlsplit

from distributed import Future, as_completed
from distributed.scheduler import KilledWorker

from batuta.cluster.contract import WorkerCount
from batuta.cluster.dask.engine.gathering import JobResults, ResultGatherer
from batuta.cluster.dask.engine.remote import JobFailedError
from batuta.cluster.dask.engine.submission import (
    RemoteResult,
    SubmittedJob,
    TaskBatch,
    TaskSubmitter,
)
from batuta.cluster.dask.engine.worker_loss import Decision, WorkerLoss, WorkerLossTracker
from batuta.cluster.errors import ClusterError
from batuta.cluster.execution_state import ExecutionState
from batuta.cluster.futures import Computation
from batuta.cluster.graph import ExecutionPlan, Job
from batuta.cluster.main_script import NO_NAMES
from batuta.cluster.remote_error import failed_task
from batuta.cluster.task_metrics import TaskMetrics
from batuta.cluster.tasks import Delayed, Scattered
from batuta.cluster.unsendable import unsendable
from batuta.errors import describe_error
from batuta.profiling.capture.labels import LostAttempt
from batuta.profiling.capture.records import WorkerId

LOG: Final = logging.getLogger(__name__)

LOOKAHEAD_S: Final = 0.5
"""Work that each worker is given ahead, so that it never waits for this process."""
MIN_LOOKAHEAD_JOBS: Final = 2
MAX_LOOKAHEAD_JOBS: Final = 64
_INITIAL_JOB_S: Final = 0.1
MAX_UNREAD_PER_SLOT: Final = 4
"""Results that may wait to be read before computing pauses, so that memory stays flat."""


class DaskScheduler:
    """Computes execution plans on a dask cluster.

    Parameters
    ----------
    client : Client
        Of the cluster; whoever made it closes it.
    task_metrics : TaskMetrics
        Receives what workers measure.
    ram_mb : float or None
        The memory limit of workers, for messages.
    """

    def __init__(self, client: Any, task_metrics: TaskMetrics, *, ram_mb: float | None) -> None:
        self.last_end = time.monotonic()
        """When a task last ended, or could first have."""
        self.worker_count: WorkerCount | None = None
        """None until workers were counted."""
        self._slots = 1
        """How many jobs the workers run at a time; as if there were one until they connect."""
        self._client = client
        self._submitter = TaskSubmitter(client, task_metrics)
        self._task_metrics = task_metrics
        self._state = ExecutionState(fuse=True, on_start=self._on_start)
        self._actions: deque[Callable[[], None]] = deque()
        self._wakeup_due = False
        self._closed = False
        self._submitted: dict[str, SubmittedJob] = {}
        """By the key of the job."""
        self._by_result: dict[str, SubmittedJob] = {}
        """By the key of each result that is not computed yet."""
        self._suspects: deque[Job] = deque()
        """Jobs whose workers died, perhaps of other jobs that they had: each runs again alone,
        when all others are done."""
        self._losses = WorkerLossTracker(ram_mb)
        self._average_s = _INITIAL_JOB_S
        """Time that a job takes a worker."""
        self._gatherer = ResultGatherer(
            client,
            self._state,
            on_lost=self._on_result_lost,
            on_recorded=self._dispatch,
            guard=self._break_down_on_error,
        )
        self._completed = as_completed(loop=client.loop)
        self._any_submitted = asyncio.Event()
        self._listener = asyncio.run_coroutine_threadsafe(self._listen(), client.loop.asyncio_loop)

    # Called by other threads

    @property
    def silence_s(self) -> float:
        """For how long no task has ended, though there are workers."""
        return time.monotonic() - self.last_end

    def submit(self, computation: Computation) -> None:
        """Start `computation`, after those submitted before."""
        self._post(partial(self._start, computation))

    def delivered(self, computation: Computation) -> None:
        """Record that an iterator took a finished future."""
        self._post(partial(self._state.record_delivery, computation))

    def read(self, delayed: Delayed) -> None:
        """Record that a finished result was read."""
        self._post(partial(self._state.record_use, delayed))

    def delivered_and_read(self, computation: Computation, delayed: Delayed) -> None:
        """Record both at once."""
        self._post(partial(self._state.record_delivery_and_read, computation, delayed))

    def scatter(self, value: Any) -> Scattered:
        """Send a value to where every worker can fetch it."""
        return self._submitter.scatter(value)

    def close(self) -> None:
        """Stop computing, and free every result."""
        self._client.sync(self._close)

    def _post(self, action: Callable[[], None]) -> None:
        """Run `action` in the thread of the event loop, soon.

        No lock is needed. A thread that finds a wakeup due appended its action before it looked;
        `_run_actions` clears the flag before it empties the queue, so that it still finds the
        action. Two threads that find none due both schedule one: the second finds nothing to do.
        """
        self._actions.append(action)
        if not self._wakeup_due:
            self._wakeup_due = True
            self._client.loop.add_callback(self._run_actions)

    # The event loop

    def _run_actions(self) -> None:
        self._wakeup_due = False
        with self._break_down_on_error():
            while self._actions and not self._closed:
                self._actions.popleft()()
            self._gatherer.fetch_next()
            self._dispatch()

    @contextlib.contextmanager
    def _break_down_on_error(self) -> Iterator[None]:
        """Fail everything when this code fails: otherwise whoever iterates would wait forever."""
        try:
            yield
        except Exception as exc:
            LOG.exception("submitting jobs to dask failed")
            self.break_down(ClusterError(f"submitting jobs to dask failed: {describe_error(exc)}"))

    def break_down(self, error: ClusterError) -> None:
        """Fail all that is asked for, now and from now on."""
        self._suspects.clear()
        self._forget_submitted()
        self._state.fail_all(error)

    def _forget_submitted(self) -> None:
        for submitted in self._submitted.values():
            submitted.release()
        self._gatherer.clear()
        self._submitted.clear()
        self._by_result.clear()
        self._completed.clear()

    async def _close(self) -> None:
        self._closed = True
        self._listener.cancel()
        self._gatherer.close()
        self._forget_submitted()
        self._state.free_all()

    def _start(self, computation: Computation) -> None:
        if self.worker_count is not None:
            computation.finished.put(self.worker_count)
        self._state.submit(computation)

    def _on_start(self, plan: ExecutionPlan) -> None:
        self.last_end = time.monotonic()
        self._task_metrics.number_tasks(plan)
        self._losses.reset()
        self._submitter.reset()

    # Workers

    def on_workers(self, count: WorkerCount, slots: int) -> None:
        """Record how many workers there are, and how many tasks they run at a time.

        Without workers no task can end, and none is missed.
        """
        if not count.present or self.worker_count is None or not self.worker_count.present:
            self.last_end = time.monotonic()
        self._slots = max(1, slots)
        if count == self.worker_count:
            return
        self.worker_count = count
        if not self._state.idle:
            self._state.current.finished.put(count)
        self._dispatch()

    def on_memory(self, address: str, held_bytes: float) -> None:
        """Record that a worker exceeded its memory limit, and is killed for that."""
        self._losses.on_memory(address, held_bytes)

    def on_lost(self, address: str, keys: Iterable[str], *, expected: bool) -> None:
        """Record that a worker is gone; dask runs again the jobs that it had."""
        with self._break_down_on_error():
            self._on_lost(address, set(keys), expected=expected)

    def _on_lost(self, address: str, keys: set[str], *, expected: bool) -> None:
        loss = self._losses.on_lost(address, expected=expected)
        lost = [self._submitted[key] for key in self._submitted if key in keys]
        if lost or loss.held_bytes is not None:
            jobs = [each.job for each in lost]
            LOG.warning("%s", self._losses.describe(loss, jobs, expected=expected))
        if not lost:
            return
        # A worker runs jobs in the order in which they were submitted, which is that of
        # `_submitted`: it ran the first of them, and the others were waiting.
        ran = lost[0]
        decision, error = self._losses.decide(ran.job, loss, expected=expected)
        self._record_lost(ran, loss, describe_error(error))
        if decision is Decision.RETRY:
            self._task_metrics.on_rerun(ran.job)  # dask does it
        else:
            self._losses.on_given_up()
            self._drop(ran)
            self._apply(decision, ran.job, error)

    def _record_lost(self, submitted: SubmittedJob, loss: WorkerLoss, error: str) -> None:
        """Record that a worker was lost at the first step of a job; at which one is not known."""
        worker = WorkerId(loss.address, urlsplit(loss.address).hostname or "", 0)
        held_bytes = int(loss.held_bytes or 0)
        lost = LostAttempt(submitted.job.first.name, worker, error, peak_bytes=held_bytes)
        self._task_metrics.record_loss(self._task_metrics.relabel(submitted.job), lost)

    def _apply(self, decision: Decision, job: Job, error: ClusterError) -> None:
        """Do what was decided for a job that dask no longer has."""
        if decision is Decision.FAIL:
            self._state.fail(job, failed_task(job.last.name, describe_error(error), error))
        elif decision is Decision.RETRY_ALONE:
            job.alone = True
            self._suspects.append(job)
        else:
            self._state.ready.push(job)
        self._dispatch()

    # Jobs

    def _room(self) -> int:
        """Return how many more jobs the workers can be given."""
        if self._state.has_backlog(MAX_UNREAD_PER_SLOT * self._slots - self._gatherer.count):
            return 0
        lookahead = int(LOOKAHEAD_S / self._average_s)
        lookahead = min(MAX_LOOKAHEAD_JOBS, max(MIN_LOOKAHEAD_JOBS, lookahead))
        capacity = self._slots * lookahead
        room = capacity - len(self._submitted)
        # Several at a time: a batch costs as much as several jobs.
        return room if not self._submitted or room >= capacity // 4 else 0

    def _dispatch(self) -> None:
        """Submit the jobs that are ready, as far as there is room; then suspects, one by one."""
        if self._closed or self._state.broken is not None:
            return
        batch = TaskBatch()
        jobs: list[SubmittedJob] = []
        room = self._room() if self._state.ready else 0
        while self._state.ready and len(jobs) < room:
            self._add(self._state.ready.pop(), batch, jobs)
        if self._suspects and not (jobs or self._submitted or self._state.ready):
            self._add(self._suspects.popleft(), batch, jobs)
        if jobs:
            self._submit(batch, jobs)

    def _add(self, job: Job, batch: TaskBatch, jobs: list[SubmittedJob]) -> None:
        try:
            key = self._submitter.add_job(job, batch)
        except Exception as exc:  # noqa: BLE001 - pickling an object of the user's may raise anything
            self._state.fail(job, unsendable(job, NO_NAMES, exc))
            return
        jobs.append(SubmittedJob(job, key, set(batch.result_keys[key])))

    def _submit(self, batch: TaskBatch, jobs: list[SubmittedJob]) -> None:
        if not self._submitted:
            self.last_end = time.monotonic()  # there was nothing to end meanwhile
        futures = self._submitter.submit(batch)
        for each in jobs:
            each.futures = [futures[key] for key in batch.result_keys[each.key]]
            self._submitted[each.key] = each
            self._by_result.update(dict.fromkeys(each.pending, each))
        self._completed.update(futures.values())
        self._any_submitted.set()

    async def _listen(self) -> None:
        # The iterator ends whenever nothing is submitted, and is then started again.
        while not self._closed:
            await self._any_submitted.wait()
            self._any_submitted.clear()
            async for first in self._completed:
                ended = [first, *self._completed.next_batch(block=False)]
                with self._break_down_on_error():
                    await self._on_ended(ended)
                del ended, first  # a future that is referenced keeps its result in a worker

    async def _on_ended(self, futures: list["Future[Any]"]) -> None:
        complete: list[SubmittedJob] = []
        for future in futures:
            submitted = self._by_result.pop(str(future.key), None)
            if submitted is None or submitted.key not in self._submitted:
                continue  # dropped since: its worker was lost, or everything has failed
            if future.status == "finished":
                submitted.pending.discard(str(future.key))
                if not submitted.pending:
                    complete.append(submitted)
            else:
                self._record_ended(1)
                self._drop(submitted)
                await self._on_error(submitted.job, future)
        if complete:
            self._record_ended(len(complete))
            self._on_complete(complete)
        self._run_actions()

    def _record_ended(self, count: int) -> None:
        """Follow how long a job takes a worker."""
        now = time.monotonic()
        job_s = (now - self.last_end) * self._slots / count
        self._average_s += min(1.0, 0.05 * count) * (job_s - self._average_s)
        self.last_end = now

    def _drop(self, submitted: SubmittedJob) -> None:
        """Forget a job that dask computes, and let dask cancel it."""
        self._submitted.pop(submitted.key, None)
        for key in [key for key in submitted.pending if key in self._by_result]:
            del self._by_result[key]
        submitted.release()

    def _on_complete(self, complete: list[SubmittedJob]) -> None:
        """Record jobs as done; those whose results only the main process needs, once fetched."""
        run = self._state.current
        to_fetch: list[JobResults] = []
        for submitted in complete:
            del self._submitted[submitted.key]
            futures = iter(submitted.futures)
            outputs = [
                RemoteResult(next(futures), self._why_broken) if each.uses else None
                for each in submitted.job.last.outputs
            ]
            if run.iterated and any(each in run.futures for each in submitted.job.last.outputs):
                to_fetch.append((submitted, outputs))
            else:
                self._state.complete(submitted.job, outputs)
        self._gatherer.add(to_fetch)

    def _why_broken(self) -> Exception | None:
        return self._state.broken

    # Errors

    async def _on_error(self, job: Job, future: "Future[Any]") -> None:
        if future.status in {"cancelled", "lost"}:
            if self._client.status == "running":
                decision, error = self._losses.decide_cancelled(job)
                self._apply(decision, job, error)
            else:
                self.break_down(ClusterError("lost the connection to dask's scheduler"))
            return
        exc = await future.exception()
        if isinstance(exc, JobFailedError):
            self._state.fail(job, exc.error.to_exception())
        elif isinstance(exc, KilledWorker):
            decision, error = self._losses.decide_killed(job, exc)
            self._apply(decision, job, error)
        else:
            reason = exc or ClusterError("dask gave no reason")
            self._state.fail(job, failed_task(job.last.name, describe_error(reason), reason))

    async def _on_result_lost(self, submitted: SubmittedJob, future: "Future[Any]") -> None:
        await self._on_error(submitted.job, future)
        self._drop(submitted)
