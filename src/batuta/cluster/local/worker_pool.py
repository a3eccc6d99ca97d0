"""The pool of worker processes: which are starting, idle, busy or leaving.

All of it runs in the thread of the scheduler; only the callbacks of `ProcessSpawner` come from
another thread, and are posted to that one at once. Nothing here needs a lock.

A worker goes through these states::

    starting -> idle <-> busy -> leaving -> reaped

It leaves when its link closes: because it has finished its last job, was told to end, was killed or
died. Whichever it was, the same steps follow: what it sent before is read, its process is waited
for, then reaped, and only then are the jobs that it had been assigned given to others. By then its
heartbeat is final, so it is certain which of them it had begun.
"""

import contextlib
import selectors
import signal
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import wait
from typing import Final, Protocol

from batuta.cluster.errors import ClusterError
from batuta.cluster.execution import worker_id
from batuta.cluster.graph import Job
from batuta.cluster.local.limits import LimitChecker, Limits
from batuta.cluster.local.worker_handle import (
    Assignment,
    PoolSettings,
    ProcessSpawner,
    WorkerHandle,
)
from batuta.cluster.local.worker_main import JobDone, JobFailed, JobRequest, Ready
from batuta.cluster.main_script import GUARD_HINT
from batuta.cluster.store import StoredResult
from batuta.errors import one_line

MAX_STARTS: Final = 3
"""Workers that may fail to start in a row before the pool gives up."""
MAX_KILLED_STARTS: Final = 30
"""The same for workers that are killed while they start: by the system, when memory is short."""

AHEAD_S: Final = 0.02
"""How much work is queued at a busy worker, so that it never waits for the next job."""
MAX_AHEAD_JOBS: Final = 64
MAX_AHEAD_BYTES: Final = 32_000
MAX_AHEAD_STEPS: Final = 7
"""Together less than what a socket holds: sending to a busy worker never waits. The call of a step
takes `store.MAX_INLINE_BYTES` at most."""

START_TIMEOUT_S: Final = {"fork": 120.0, "forkserver": 120.0, "spawn": 300.0}
"""How long a worker may take to start, by how it is started. Forked from a process with threads, it
may wait for ever for a lock that one of them held: it is then killed, and another one forked."""

LIVENESS_CHECK_S: Final = 0.5
"""How often workers are checked for a death that their link does not show: a process that the task
started holds its other end open."""

EXIT_TIMEOUT_S: Final = 1.0
"""How long a worker may take to exit once its link is closed."""

PROFILE_TIMEOUT_S: Final = 5.0
"""How long idle workers may take, when the pool closes, to write what their profiler holds."""


class PoolListener(Protocol):
    """What is called when something happens in the pool."""

    def on_outcome(self, worker: WorkerHandle, job: Job, outcome: JobDone | JobFailed) -> None:
        """Record the outcome of a job."""

    def on_progress(self) -> None:
        """Record that a task ended, inside a job."""

    def on_begun(self, worker: WorkerHandle, job: Job) -> None:
        """Record that a worker was found to run a job: no job that ends between two checks."""

    def on_loss(self, worker: WorkerHandle, assigned: Sequence[Assignment]) -> None:
        """Record that a worker has exited and been reaped, and what it had been assigned."""

    def on_pool_broken(self, error: ClusterError) -> None:
        """Record that no worker can start."""

    def post(self, action: Callable[[], None]) -> None:
        """Run `action` in the thread of the scheduler; called from any thread."""


class WorkerPool:
    """Starts, feeds, checks, renews and ends workers.

    Parameters
    ----------
    listener : PoolListener
        Called when something happens.
    selector : selectors.BaseSelector
        Waits for the links and the ends of workers; the data of each key is what to call.
    nb_workers : int
        How many work at the same time.
    limits : Limits
        What each worker may use.
    """

    def __init__(
        self,
        listener: PoolListener,
        selector: selectors.BaseSelector,
        nb_workers: int,
        limits: Limits,
    ) -> None:
        self.nb_workers = nb_workers
        self.idle: list[WorkerHandle] = []
        self.busy: dict[WorkerHandle, None] = {}
        self._listener = listener
        self._selector = selector
        self._limits = limits
        self._checker = LimitChecker(limits)
        self._spawner = ProcessSpawner()
        self._settings: PoolSettings | None = None
        self._starting: dict[WorkerHandle, float] = {}
        """Those that are not ready, and since when."""
        self._linked: set[WorkerHandle] = set()
        """Those whose link is open: they may still send something."""
        self._leaving: dict[WorkerHandle, float] = {}
        """Those whose link is closed and whose process may not have ended, and since when."""
        self._spawned = 0
        self._failed_starts: Counter[int] = Counter()
        """In a row, by how many are too many."""
        self._start_error = ""
        """Why workers could not start, once the pool has given up."""
        self._average_s = AHEAD_S
        """Duration of a job, as a moving average."""
        self._next_liveness_check_s = 0.0
        self._to_flush: dict[WorkerHandle, None] = {}

    @property
    def started(self) -> bool:
        """Whether `start` was called."""
        return self._settings is not None

    @property
    def needs_checks(self) -> bool:
        """Whether `check` has anything to do."""
        return bool(self.busy or self._starting or self._leaving)

    # Starting

    def start(self, settings: PoolSettings) -> None:
        """Start the workers."""
        self._settings = settings
        for _ in range(self.nb_workers):
            self._spawn()

    def _spawn(self) -> None:
        worker = WorkerHandle(self._started_settings(), str(self._spawned))
        self._spawned += 1
        self._starting[worker] = time.monotonic()
        self._spawner.start(
            worker, lambda started: self._listener.post(lambda: self._on_spawned(started))
        )

    def _started_settings(self) -> PoolSettings:
        if self._settings is None:
            raise ClusterError("the worker pool has not started")
        return self._settings

    def _on_spawned(self, worker: WorkerHandle) -> None:
        if worker.problem is not None:
            self._spawner.reap(worker, lambda _: None)
            self._on_failed_start(worker, worker.problem)
            return
        self._linked.add(worker)
        self._selector.register(
            worker.socket(), selectors.EVENT_READ, lambda: self._receive(worker)
        )

    def _on_ready(self, worker: WorkerHandle, ready: Ready) -> None:
        worker.ready = True
        worker.base_bytes = ready.base_bytes
        worker.who = worker_id(ready.pid)
        if ready.problem is not None:
            # It exits now, and stays among those that start: `_on_reaped` counts it.
            worker.problem = ClusterError(ready.problem)
            return
        self._starting.pop(worker, None)
        self._failed_starts.clear()
        self._start_error = ""
        self.idle.append(worker)

    def _on_failed_start(self, worker: WorkerHandle, error: BaseException) -> None:
        self._starting.pop(worker, None)
        limit = MAX_KILLED_STARTS if worker.exit_code == -signal.SIGKILL else MAX_STARTS
        self._failed_starts[limit] += 1
        if self._failed_starts[limit] < limit:
            self._spawn()
        else:
            self._start_error = one_line(error)
            self._check_broken()

    def _check_broken(self) -> None:
        """Report that the pool is broken when no worker is left and none can start."""
        if self.idle or self.busy or self._starting or self._leaving or not self._start_error:
            return
        self._listener.on_pool_broken(ClusterError(f"workers cannot start: {self._start_error}"))

    # Working

    def available_worker(self, *, ahead: bool = True) -> WorkerHandle | None:
        """Return a worker to assign a job to: an idle one, or one that will soon be.

        Parameters
        ----------
        ahead : bool
            Whether the job may be queued at a worker that is busy.
        """
        # While a worker runs its last job its successor may be idle already: one too many.
        if self.idle and len(self.busy) < self.nb_workers:
            return self.idle.pop()
        if not ahead:
            return None
        depth = min(MAX_AHEAD_JOBS, int(AHEAD_S / max(self._average_s, 1e-9)))
        candidates = [
            worker
            for worker in self.busy
            if not worker.leaving
            and len(worker.assigned) <= depth
            and worker.unread_bytes < MAX_AHEAD_BYTES
        ]
        return min(candidates, key=lambda worker: len(worker.assigned), default=None)

    def next_is_last(self, worker: WorkerHandle) -> bool:
        """Whether the next job is the last that a worker runs before it is renewed."""
        if worker.job_count + 1 < self._limits.max_jobs:
            return False
        to_come_s = len(worker.assigned) * self._average_s
        return worker.worked_s + to_come_s >= self._limits.min_life_s

    def assign(
        self, worker: WorkerHandle, job: Job, request: JobRequest, calls: list[StoredResult]
    ) -> None:
        """Assign a job to a worker; `flush` sends it."""
        self.busy[worker] = None
        worker.assign(job, request, calls)
        self._to_flush[worker] = None
        if request.last:
            self._spawn()  # its successor starts while it works

    def release(self, worker: WorkerHandle) -> None:
        """Return a worker of `available_worker` that was assigned nothing after all."""
        if worker not in self.busy:
            self.idle.append(worker)

    def flush(self) -> None:
        """Send the jobs that were assigned, in one message for each worker."""
        for worker in self._to_flush:
            worker.flush()
        self._to_flush.clear()

    def withdraw_jobs(self) -> list[Job]:
        """Withdraw the jobs that are queued at busy workers, for idle ones to run."""
        jobs: list[Job] = []
        for worker in self.busy:
            for assignment in worker.withdraw():
                discard(assignment.calls)
                jobs.append(assignment.job)
        return jobs

    def _receive(self, worker: WorkerHandle) -> None:
        try:
            messages = worker.receive()
        except EOFError:
            self._on_link_closed(worker)
            return
        for message in messages:
            if isinstance(message, Ready):
                self._on_ready(worker, message)
            else:
                self._on_outcome(worker, message)

    def _on_outcome(self, worker: WorkerHandle, outcome: JobDone | JobFailed) -> None:
        if worker.kill_reason is not None and worker.killed_number == outcome.number:
            # It was sent just before the kill reached the worker. The limit is the cause all the
            # same, and `_on_reaped` reports it.
            return
        assignment = worker.pop_assignment(outcome.number)
        if assignment is None:
            return
        worker.worked_s += outcome.usage.duration_s
        self._average_s += 0.1 * (outcome.usage.duration_s - self._average_s)
        if not worker.assigned:
            del self.busy[worker]
            self._release_or_renew(worker, outcome.usage.held_bytes)
        discard(assignment.calls)
        self._listener.on_outcome(worker, assignment.job, outcome)
        worker.peak_bytes = 0

    def _release_or_renew(self, worker: WorkerHandle, held_bytes: int) -> None:
        if worker.leaving:
            return  # it exits by itself
        if self._limits.to_be_renewed(held_bytes):
            worker.leaving = True
            worker.socket().shutdown(socket.SHUT_RDWR)
            self._spawn()
        else:
            self.idle.append(worker)

    # Ending

    def _receive_last_messages(self, worker: WorkerHandle) -> None:
        """Read what an exited worker sent, then close its link.

        The link may not be at its end: a process that a task started holds the other end open.
        """
        try:
            while worker in self._linked:
                self._receive(worker)
        except BlockingIOError:
            self._on_link_closed(worker)

    def _on_link_closed(self, worker: WorkerHandle) -> None:
        """Wait for the process of a worker that will send nothing more."""
        self._selector.unregister(worker.socket())
        self._linked.discard(worker)
        self.busy.pop(worker, None)
        if worker in self.idle:
            self.idle.remove(worker)
        self._leaving[worker] = time.monotonic()
        self._selector.register(worker.sentinel, selectors.EVENT_READ, lambda: self._reap(worker))

    def _reap(self, worker: WorkerHandle) -> None:
        # Before the spawner closes the sentinel: its number may be another file's right after.
        self._selector.unregister(worker.sentinel)
        del self._leaving[worker]
        self._spawner.reap(
            worker, lambda reaped: self._listener.post(lambda: self._on_reaped(reaped))
        )

    def _on_reaped(self, worker: WorkerHandle) -> None:
        if worker in self._starting:
            self._on_failed_start(worker, worker.problem or ClusterError(_exited_early(worker)))
            return
        if not worker.leaving:
            self._spawn()
        assigned = tuple(worker.assigned)
        worker.assigned.clear()
        self._listener.on_loss(worker, assigned)
        self._check_broken()

    def check(self, *, alone: bool) -> None:
        """Check all workers: that they live, progress and keep to their limits.

        Parameters
        ----------
        alone : bool
            Whether the job that runs is the only one, and may use the memory of all workers.
        """
        now_s = time.monotonic()
        if now_s >= self._next_liveness_check_s:
            self._next_liveness_check_s = now_s + LIVENESS_CHECK_S
            self._check_liveness(now_s)
        for worker, since_s in list(self._leaving.items()):
            if worker.has_exited():
                # The sentinel does not show it where a process that a task started holds it open.
                self._reap(worker)
            elif now_s - since_s > EXIT_TIMEOUT_S:
                worker.kill()
        for worker in self.busy:
            if worker.made_progress():
                self._listener.on_progress()
                if (job := worker.begun_job()) is not None:
                    self._listener.on_begun(worker, job)
            if worker.kill_reason is None:
                # Before the check, which takes a while: if the worker begins another request
                # meanwhile, this one is killed for, and the other one runs again elsewhere.
                number = worker.heartbeat_state().number
                reason = self._checker.check(worker, alone=alone)
                if reason is not None:
                    worker.kill_for(reason, number)

    def _check_liveness(self, now_s: float) -> None:
        """Find workers that have exited unnoticed, and kill those that do not manage to start."""
        for worker in [each for each in self._linked if each.has_exited()]:
            self._receive_last_messages(worker)
        if not self._starting:
            return
        timeout_s = START_TIMEOUT_S[self._started_settings().start_method]
        for worker, since_s in self._starting.items():
            # Linked: before that the spawner still starts it, and nothing can be killed.
            if now_s - since_s > timeout_s and worker in self._linked:
                worker.kill()

    def close(self) -> Iterator[Assignment]:
        """End every worker at once; return what they had been assigned.

        Idle workers that are profiled write first what their profiler holds.
        """
        # First: a worker that is being started would otherwise be missed, and live on.
        self._spawner.close()
        profile = self._settings.profile if self._settings is not None else None
        if profile is not None and profile.needs_flush:
            self._flush_profiles()
        workers = dict.fromkeys((*self._starting, *self._linked, *self._leaving))
        # All are killed before the first is waited for: they end at the same time.
        for worker in workers:
            worker.kill()
        for worker in workers:
            worker.reap()
            yield from worker.assigned

    def _flush_profiles(self) -> None:
        """Close the links of idle workers, so that they write their profiles and exit."""
        idle = self._linked - self.busy.keys() - self._starting.keys()
        for worker in idle:
            with contextlib.suppress(OSError):  # it exits already
                worker.socket().shutdown(socket.SHUT_RDWR)
        exiting = {worker.sentinel for worker in (*idle, *self._leaving)}
        deadline_s = time.monotonic() + PROFILE_TIMEOUT_S
        while exiting and (left_s := deadline_s - time.monotonic()) > 0:
            exiting.difference_update(wait(exiting, left_s))


def _exited_early(worker: WorkerHandle) -> str:
    return f"their process ended with code {worker.exit_code} before it was ready; {GUARD_HINT}"


def discard(calls: list[StoredResult]) -> None:
    """Delete the stored calls of a job that ended, or goes to another worker."""
    for call in calls:
        call.discard()
