"""Submitting the batch jobs of workers, and replacing those that end."""

import contextlib
import itertools
import logging
import re
import time
from pathlib import Path
from typing import Any, Final

from distributed import Status

from batuta.cluster.contract import WorkerCount
from batuta.cluster.dask.jobs.batch_system import (
    UNKNOWN,
    BatchJobState,
    BatchJobStatus,
    BatchSystem,
    BatchSystemUnreachableError,
    ask_batch_system,
)
from batuta.cluster.dask.jobs.connections import WorkerConnections
from batuta.cluster.dask.jobs.reaper import JobReaper
from batuta.cluster.errors import ClusterError
from batuta.errors import one_line

LOG: Final = logging.getLogger(__name__)

POLL_S: Final = 5.0
"""How often the batch system is asked about the batch jobs."""
LOST_S: Final = 60.0
"""How long a batch job without workers may take to start others before it is cancelled."""
MAX_SUBMISSIONS: Final = 32
"""Batch jobs submitted at a time, each by a process of its own."""
MAX_FALSE_STARTS: Final = 3
"""Batch jobs in a row that may end before their workers connect."""
MAX_HOPELESS_POLLS: Final = 3
"""Polls in a row that may find that no batch job can ever start."""
MAX_REFUSALS: Final = 8
"""Refusals in a row while there is no batch job: about half an hour."""
_MAX_BACKOFF_S: Final = 300.0
_TAIL_LINES: Final = 3


class JobScaler:
    """Maintains the number of batch jobs that was asked for.

    All methods but `detach_jobs` run in the event loop of dask, one call at a time.

    Parameters
    ----------
    cluster : dask_jobqueue.JobQueueCluster
        Submits batch jobs; its ``workers`` and ``worker_spec`` have one entry for each.
    batch_system : BatchSystem
        Knows their status.
    reaper : JobReaper
        Cancels them in the end.
    job_count : int
        How many there are to be.
    log_folder : Path
        Where they write.
    """

    def __init__(
        self,
        cluster: Any,
        batch_system: BatchSystem,
        reaper: JobReaper,
        *,
        job_count: int,
        log_folder: Path,
    ) -> None:
        self._cluster = cluster
        self._batch_system = batch_system
        self._reaper = reaper
        self._job_count = job_count
        self._log_folder = log_folder
        self._worker_suffixes: list[str] = cluster.new_spec.get("group", [""])
        """What the names of the workers of a batch job add to its own."""
        self._numbers = itertools.count(1)
        self._connections = WorkerConnections()
        cluster.scheduler.add_plugin(self._connections)  # before any batch job is submitted
        self._false_starts = 0
        self._hopeless_polls = 0
        self._refusals = 0
        self._refusal = ""
        self._was_granted = False
        """Whether the batch system has ever accepted a batch job of this run."""
        self._waiting_for = ""
        self._next_poll = 0.0
        self._next_submission = 0.0

    def detach_jobs(self) -> None:
        """Leave dask no batch job to cancel one by one: the reaper cancels them together."""
        for name in [*self._cluster.worker_spec, *self._cluster.workers]:
            self._remove(name)

    async def reconcile(self, present: int) -> WorkerCount:
        """Submit the batch jobs that are missing; return how many workers there are, and why."""
        if time.monotonic() >= self._next_poll:
            self._next_poll = time.monotonic() + POLL_S
            await self._poll(present)
        await self._submit_missing()
        asked = self._job_count * len(self._worker_suffixes)
        reasons = [] if present >= asked else [self._waiting_for, self._refusal]
        return WorkerCount(present, asked, "; ".join(filter(None, reasons)))

    def _workers_of(self, name: str) -> list[str]:
        return [f"{name}{suffix}" for suffix in self._worker_suffixes]

    # Batch jobs that wait, and those that end

    async def _poll(self, present: int) -> None:
        """Ask the batch system for the status of each batch job, and act on it."""
        jobs = {name: job for name, job in self._cluster.workers.items() if job.job_id is not None}
        job_ids = [job.job_id for job in jobs.values()]
        try:
            found = await self._batch_system.statuses(job_ids) if job_ids else {}
        except BatchSystemUnreachableError as exc:
            # Batch jobs that run go on without it: nothing is decided until it answers again.
            self._waiting_for = str(exc)
            return
        statuses = {name: found.get(job.job_id, UNKNOWN) for name, job in jobs.items()}
        self._waiting_for = _describe_queue(
            [each.reason for each in statuses.values() if each.state is BatchJobState.WAITING]
        )
        self._check_hopeless(statuses)
        ended = {name: each for name, each in statuses.items() if self._has_ended(name, each)}
        for name, status in ended.items():
            none_left = not present and len(ended) == len(jobs)
            self._on_ended(name, jobs[name].job_id, status, none_left=none_left)
        for name in jobs.keys() - ended.keys():
            workers = self._workers_of(name)
            if (
                self._connections.have_connected(workers)
                and self._connections.disconnected_s(workers) > LOST_S
            ):
                await self._cancel(name, jobs[name].job_id)

    def _check_hopeless(self, statuses: dict[str, BatchJobStatus]) -> None:
        """Raise after several polls in a row in which no batch job can ever start."""
        hopeless = bool(statuses) and all(each.never_starts for each in statuses.values())
        self._hopeless_polls = self._hopeless_polls + 1 if hopeless else 0
        if self._hopeless_polls >= MAX_HOPELESS_POLLS:
            raise ClusterError(f"batch jobs cannot start: {self._waiting_for}")

    def _has_ended(self, name: str, status: BatchJobStatus) -> bool:
        # A queue that answers and shows nothing, as some do under load, proves nothing while the
        # workers of the batch job are connected: its replacement would run beside it.
        workers = self._workers_of(name)
        proven = status is not UNKNOWN or self._connections.disconnected_s(workers) > POLL_S
        return status.state is BatchJobState.ENDED and proven

    async def _cancel(self, name: str, job_id: str) -> None:
        """Cancel a batch job that holds a node and does nothing."""
        LOG.warning(
            "batch job %s has had no worker for %g s: cancelling it and submitting another",
            job_id,
            LOST_S,
        )
        with contextlib.suppress(BatchSystemUnreachableError):  # the reaper cancels it in the end
            await ask_batch_system((*self._batch_system.cancel_command, job_id))
        self._remove(name)

    def _on_ended(self, name: str, job_id: str, status: BatchJobStatus, *, none_left: bool) -> None:
        """Remove a batch job that has ended, so that another is submitted."""
        started = self._connections.have_connected(self._workers_of(name))
        self._remove(name)
        if status is not UNKNOWN:  # else it may run after all: the reaper cancels it in the end
            self._reaper.unregister_job(job_id)
        if started:
            self._false_starts = 0
            LOG.warning("batch job %s ended (%s): submitting another", job_id, status.reason)
            return
        self._false_starts += 1
        tail = self._output_tail(job_id)
        problem = f"batch job {job_id} ended ({status.reason}) before its workers connected{tail}"
        if self._false_starts >= MAX_FALSE_STARTS and none_left:
            raise ClusterError(f"workers cannot start: {problem}")
        LOG.warning("%s", problem)
        self._back_off(self._false_starts)

    def _remove(self, name: str) -> None:
        self._connections.forget(self._workers_of(name))
        self._cluster.worker_spec.pop(name, None)
        job = self._cluster.workers.pop(name, None)
        if job is not None:
            job.status = Status.closed  # otherwise dask waits for it when it closes

    def _output_tail(self, job_id: str) -> str:
        """Quote the last lines that a batch job wrote."""
        number = re.compile(rf"(?<!\d){job_id.partition('.')[0]}(?!\d)")
        files = [path for path in self._log_folder.glob("*") if number.search(path.name)]
        for path in sorted(files, key=lambda path: path.stat().st_size, reverse=True):
            lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
            tail = [line.strip() for line in lines if line.strip()][-_TAIL_LINES:]
            if tail:
                return f"; {path} ends with: {' / '.join(tail)}"
        return f"; it wrote nothing in {self._log_folder}"

    # Submission

    def _back_off(self, times: int) -> None:
        self._next_submission = time.monotonic() + min(_MAX_BACKOFF_S, POLL_S * 2**times)

    async def _submit_missing(self) -> None:
        """Submit some of the batch jobs that are missing."""
        cluster = self._cluster
        missing = self._job_count - len(cluster.worker_spec)
        if missing <= 0 or time.monotonic() < self._next_submission:
            return
        for _ in range(min(missing, MAX_SUBMISSIONS)):
            # Names are never reused: dask may still act on a worker of that name that it lost.
            cluster.worker_spec[f"{cluster.name}-{next(self._numbers)}"] = cluster.new_spec
        problem = ""
        try:
            await cluster
        except (RuntimeError, ValueError, OSError) as exc:
            problem = _command_output(exc)
        granted = 0
        for name, job in list(cluster.workers.items()):
            if job.job_id is None:
                self._remove(name)
            else:
                granted += 1
                self._reaper.register_job(job.job_id)
        self._was_granted |= granted > 0
        if problem:
            self._on_refusal(problem, granted)
        else:
            self._refusals = 0
            self._refusal = ""

    def _on_refusal(self, problem: str, granted: int) -> None:
        """Ask again later, if the batch system has ever accepted a batch job of this run."""
        self._refusals += 1
        if not granted and (not self._was_granted or self._refusals > MAX_REFUSALS):
            raise ClusterError(f"batch jobs cannot be submitted: {problem}")
        if self._refusals == 1:
            LOG.warning("only %d of %d batch jobs accepted: %s", granted, self._job_count, problem)
        self._refusal = f"others refused: {problem}"
        self._back_off(self._refusals)


def _describe_queue(reasons: list[str]) -> str:
    if not reasons:
        return ""
    why = ", ".join(dict.fromkeys(filter(None, reasons)))
    jobs = "1 job" if len(reasons) == 1 else f"{len(reasons)} jobs"
    return f"{jobs} in the queue" + (f" ({why})" if why else "")


def _command_output(exc: Exception) -> str:
    """Extract what the batch system printed from the message that dask-jobqueue makes of it."""
    text = str(exc)
    for part in ("stderr:\n", "stdout:\n"):
        output = text.partition(part)[2].partition("stderr:\n")[0]
        if output.strip():
            return one_line(output)
    return one_line(text)
