"""Submitting the jobs of workers, and putting others in the place of those that are over."""

import contextlib
import itertools
import logging
import math
import re
import time
from pathlib import Path
from typing import Any, Final

from distributed import Status

from batuta.cluster.contract import WorkerCount
from batuta.cluster.dask.jobs.batch_system import (
    UNKNOWN,
    BatchSystem,
    JobState,
    JobStatus,
    QueueUnreachableError,
    run_command,
)
from batuta.cluster.dask.jobs.reaper import Guard
from batuta.cluster.errors import ClusterError

LOG: Final = logging.getLogger(__name__)

LOOK_S: Final = 5.0
"""How often the batch system is asked about the jobs."""
LOST_S: Final = 60.0
"""For how long a job whose workers are gone may start others, before it is given up."""
AT_ONCE: Final = 32
"""Jobs submitted at a time, each by a process of its own."""
MAX_FALSE_STARTS: Final = 3
"""Jobs in a row that end before their workers are there: then it is an error."""
MAX_HOPELESS_LOOKS: Final = 3
"""Looks in a row at jobs that all wait for what will not come: then it is an error."""
MAX_REFUSALS: Final = 8
"""Refusals in a row when there is no job left: about half an hour; then it is an error."""
_LONGEST_WAIT_S: Final = 300.0
_TAIL_LINES: Final = 3


class JobKeeper:
    """Keeps as many jobs as were asked for.

    Parameters
    ----------
    cluster : dask_jobqueue.JobQueueCluster
        What submits jobs.
    system : BatchSystem
        What tells of them.
    guard : Guard
        What cancels them in the end.
    jobs : int
        How many.
    log_folder : Path
        Where they write.
    """

    def __init__(
        self, cluster: Any, system: BatchSystem, guard: Guard, *, jobs: int, log_folder: Path
    ) -> None:
        self._cluster = cluster
        self._system = system
        self._guard = guard
        self._jobs = jobs
        self._log_folder = log_folder
        self._suffixes: list[str] = cluster.new_spec.get("group", [""])
        """Of the names of the workers of a job."""
        self._numbers = itertools.count(1)
        self._seen: dict[str, float] = {}
        """When workers of a job were last there, by its name."""
        self._false_starts = 0
        self._hopeless_looks = 0
        self._refusals = 0
        self._refusal = ""
        self._was_granted = False
        self._waiting_for = ""
        self._next_look = 0.0
        self._next_submission = 0.0

    def forget_jobs(self) -> None:
        """Leave dask no job to retire one by one: the guard cancels them together."""
        for name in [*self._cluster.worker_spec, *self._cluster.workers]:
            self._drop(name)

    async def look(self, present: int) -> WorkerCount:
        """Submit the jobs that are missing, and tell what keeps those that wait."""
        self._see_workers()
        if time.monotonic() >= self._next_look:
            self._next_look = time.monotonic() + LOOK_S
            await self._see_to_jobs(present)
        await self._submit_missing()
        asked = self._jobs * len(self._suffixes)
        reasons = [] if present >= asked else [self._waiting_for, self._refusal]
        return WorkerCount(present, asked, "; ".join(filter(None, reasons)))

    def _see_workers(self) -> None:
        names = {str(each["name"]) for each in self._cluster.scheduler_info["workers"].values()}
        now = time.monotonic()
        for job in self._cluster.workers:
            if any(f"{job}{suffix}" in names for suffix in self._suffixes):
                self._seen[job] = now

    async def _see_to_jobs(self, present: int) -> None:
        jobs = {name: job for name, job in self._cluster.workers.items() if job.job_id is not None}
        ids = [job.job_id for job in jobs.values()]
        try:
            statuses = await self._system.statuses(ids) if ids else {}
        except QueueUnreachableError as exc:
            self._waiting_for = str(exc)
            return
        states = {name: statuses.get(job.job_id, UNKNOWN) for name, job in jobs.items()}
        self._waiting_for = _in_the_queue(
            [status.words for status in states.values() if status.state is JobState.WAITING]
        )
        self._hopeless_looks += 1
        if not states or not all(status.for_ever for status in states.values()):
            self._hopeless_looks = 0
        if self._hopeless_looks >= MAX_HOPELESS_LOOKS:
            raise ClusterError(f"jobs cannot start: {self._waiting_for}")
        over = {name: each for name, each in states.items() if self._is_over(name, each)}
        for name, status in over.items():
            alone = not present and len(over) == len(jobs)
            self._on_over(name, jobs[name].job_id, status, alone=alone)
        for name in jobs.keys() - over.keys():
            if name in self._seen and self._silence_s(name) > LOST_S:
                await self._give_up(name, jobs[name].job_id)

    def _is_over(self, name: str, status: JobStatus) -> bool:
        shown = status is not UNKNOWN or self._silence_s(name) > LOOK_S
        return status.state is JobState.OVER and shown

    def _silence_s(self, name: str) -> float:
        """Say for how long no worker of a job has been there."""
        return time.monotonic() - self._seen.get(name, -math.inf)

    async def _give_up(self, name: str, job_id: str) -> None:
        """Cancel a job that holds nodes, and does nothing."""
        LOG.warning(
            "job %s has had no worker for %g s: it is cancelled, and another takes its place",
            job_id,
            LOST_S,
        )
        with contextlib.suppress(QueueUnreachableError):  # the guard cancels it in the end
            await run_command((*self._system.cancel, job_id))
        self._drop(name)

    def _on_over(self, name: str, job_id: str, status: JobStatus, *, alone: bool) -> None:
        """Forget a job that is over, so that another takes its place."""
        started = name in self._seen
        self._drop(name)
        if status is not UNKNOWN:
            self._guard.forget_job(job_id)
        if started:
            self._false_starts = 0
            LOG.warning("job %s is over (%s): another takes its place", job_id, status.words)
            return
        self._false_starts += 1
        said = self._tail(job_id)
        problem = f"job {job_id} was over ({status.words}) before its workers were there{said}"
        if self._false_starts >= MAX_FALSE_STARTS and alone:
            raise ClusterError(f"workers cannot start: {problem}")
        LOG.warning("%s", problem)
        self._wait_before_submitting(self._false_starts)

    def _drop(self, name: str) -> None:
        self._seen.pop(name, None)
        self._cluster.worker_spec.pop(name, None)
        job = self._cluster.workers.pop(name, None)
        if job is not None:
            job.status = Status.closed  # or dask will not close without it

    def _wait_before_submitting(self, times: int) -> None:
        self._next_submission = time.monotonic() + min(_LONGEST_WAIT_S, LOOK_S * 2**times)

    def _tail(self, job_id: str) -> str:
        """Quote the end of what a job wrote."""
        number = re.compile(rf"(?<!\d){job_id.partition('.')[0]}(?!\d)")
        files = [path for path in self._log_folder.glob("*") if number.search(path.name)]
        for path in sorted(files, key=lambda path: path.stat().st_size, reverse=True):
            lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
            told = [line.strip() for line in lines if line.strip()][-_TAIL_LINES:]
            if told:
                return f"; {path} ends with: {' / '.join(told)}"
        return f"; it wrote nothing in {self._log_folder}"

    async def _submit_missing(self) -> None:
        """Submit some of the jobs that are missing."""
        cluster = self._cluster
        missing = self._jobs - len(cluster.worker_spec)
        if missing <= 0 or time.monotonic() < self._next_submission:
            return
        for _ in range(min(missing, AT_ONCE)):
            # Never the name of another before: dask still acts on those that it has lost.
            cluster.worker_spec[f"{cluster.name}-{next(self._numbers)}"] = cluster.new_spec
        problem = ""
        try:
            await cluster
        except (RuntimeError, ValueError, OSError) as exc:
            problem = _said_by_command(exc)
        granted = 0
        for name, job in list(cluster.workers.items()):
            if job.job_id is None:
                self._drop(name)
            else:
                granted += 1
                self._guard.keep_job(job.job_id)
        self._was_granted |= granted > 0
        if problem:
            self._on_refusal(problem, granted)
        else:
            self._refusals = 0
            self._refusal = ""

    def _on_refusal(self, problem: str, granted: int) -> None:
        """Ask again later, if the batch system has ever taken jobs of this run."""
        self._refusals += 1
        if not granted and (not self._was_granted or self._refusals > MAX_REFUSALS):
            raise ClusterError(f"jobs cannot be submitted: {problem}")
        if self._refusals == 1:
            LOG.warning("%d of %d jobs are granted: %s", granted, self._jobs, problem)
        self._refusal = f"others are refused: {problem}"
        self._wait_before_submitting(self._refusals)


def _in_the_queue(reasons: list[str]) -> str:
    if not reasons:
        return ""
    why = ", ".join(dict.fromkeys(filter(None, reasons)))
    jobs = "1 job" if len(reasons) == 1 else f"{len(reasons)} jobs"
    return f"{jobs} in the queue" + (f" ({why})" if why else "")


def _said_by_command(error: Exception) -> str:
    """Take what the batch system said out of dask-jobqueue's words around it."""
    text = str(error)
    for part in ("stderr:\n", "stdout:\n"):
        said = text.partition(part)[2].partition("stderr:\n")[0]
        if said.strip():
            return " ".join(said.split())
    return " ".join(text.split())
