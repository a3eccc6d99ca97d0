"""`slurm_dask` and `pbs_dask`: workers in the jobs of a batch system."""

import contextlib
import itertools
import logging
import math
import random
import re
import shutil
import string
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, ClassVar, Final

import dask
from distributed import Client, Status

from batuta.cluster.config import CommonConfig
from batuta.cluster.contract import WorkersThere
from batuta.cluster.dask.certificates import temporary_security, warn_of_no_security
from batuta.cluster.dask.cluster import DaskCluster
from batuta.cluster.dask.config import JobsConfig, PbsDaskConfig, SlurmDaskConfig
from batuta.cluster.dask.guarded import Guard
from batuta.cluster.dask.job_options import job_options, plain_folder
from batuta.cluster.dask.jobqueue import (
    JobQueueCluster,
    LoggedPbsJob,
    PBSCluster,
    SLURMCluster,
)
from batuta.cluster.dask.looking import Deployment
from batuta.cluster.dask.queue import (
    UNKNOWN,
    BatchSystem,
    JobState,
    JobStatus,
    Pbs,
    QueueUnreachableError,
    Slurm,
    run_command,
)
from batuta.cluster.dask.settings import (
    SCHEDULER_CONFIG,
    another_port_is_fine,
    check_port,
    scheduler_options,
    tell_dashboard,
)
from batuta.cluster.errors import ClusterError
from batuta.cluster.planned import LOGS_FOLDER

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
_LONGEST_WAIT_S: Final = 300.0
_TAIL_LINES: Final = 3
_JOBS_CONFIG: Final[dict[str, Any]] = {
    **SCHEDULER_CONFIG,
    # Jobs are given up here, where it is known what becomes of them, and told.
    "distributed.deploy.lost-worker-timeout": "1000 days",
}


class JobsDeployment:
    """Jobs with workers, the scheduler in this process, and a guard that cancels the jobs.

    Parameters
    ----------
    config : JobsConfig
        Of the mode.
    out_dir : Path or None
        Where the jobs write, and find the keys of this run: a folder that they share with this
        machine. The current folder where there is none.
    cluster_class : type
        Of dask-jobqueue.
    batch_system : BatchSystem
        What tells of the jobs.
    options : mapping
        For `cluster_class`, besides those of every batch system.
    """

    def __init__(
        self,
        config: JobsConfig,
        out_dir: Path | None,
        cluster_class: type[JobQueueCluster],
        batch_system: BatchSystem,
        options: Mapping[str, Any],
    ) -> None:
        self._jobs = math.ceil(config.nb_workers / config.processes_per_job)
        self._asked = self._jobs * config.processes_per_job
        self._system = batch_system
        self._numbers = itertools.count(1)
        self._seen: dict[str, float] = {}
        """When workers of a job were last there, by its name."""
        self._false_starts = 0
        self._hopeless_looks = 0
        self._refusals = 0
        self._waiting_for = ""
        self._next_look = 0.0
        self._next_submission = 0.0
        check_port(config.scheduler_port)
        folder = plain_folder(out_dir or Path.cwd())
        self._log_folder = folder / LOGS_FOLDER
        run_name = _run_name()
        with ExitStack() as stack:
            self._guard = Guard(batch_system.cancel, batch_system.cancel_named(run_name))
            stack.callback(self._guard.close)
            security = temporary_security(folder, self._guard) if config.tls else None
            stack.enter_context(dask.config.set(_JOBS_CONFIG))
            with another_port_is_fine():
                self._cluster: Any = cluster_class(
                    security=security,
                    protocol="tls://" if config.tls else "tcp://",
                    log_directory=str(self._log_folder),
                    scheduler_options={
                        **scheduler_options(dashboard=config.activate_dashboard),
                        "port": config.scheduler_port or 0,
                    },
                    silence_logs=False,  # it would silence the loggers of the program too
                    name=run_name,
                    job_name=run_name,
                    **job_options(config),
                    **options,
                )
            stack.callback(self._cluster.close)
            stack.callback(self._forget_jobs)
            self.client: Any = stack.enter_context(
                Client(self._cluster, direct_to_workers=True, set_as_default=False)
            )
            self._open = stack.pop_all()
        if not config.tls:
            warn_of_no_security()
        LOG.debug("each job is:\n%s", self._cluster.job_script())
        if config.activate_dashboard:
            tell_dashboard(self._cluster)

    def close(self) -> None:
        """Cancel every job, and leave."""
        self._open.close()

    def _forget_jobs(self) -> None:
        """Leave dask no job to retire one by one: the guard cancels them together."""
        for name in [*self._cluster.worker_spec, *self._cluster.workers]:
            self._drop(name)

    # While it runs

    async def look(self, present: int) -> WorkersThere:
        """Submit the jobs that are missing, and tell what keeps those that wait."""
        self._see_workers()
        if time.monotonic() >= self._next_look:
            self._next_look = time.monotonic() + LOOK_S
            await self._see_to_jobs(present)
        await self._submit_missing()
        return WorkersThere(
            present, self._asked, "" if present >= self._asked else self._waiting_for
        )

    def _see_workers(self) -> None:
        names = {str(each["name"]) for each in self._cluster.scheduler_info["workers"].values()}
        suffixes = self._cluster.new_spec.get("group", [""])
        now = time.monotonic()
        for job in self._cluster.workers:
            if any(f"{job}{suffix}" in names for suffix in suffixes):
                self._seen[job] = now

    async def _see_to_jobs(self, present: int) -> None:
        jobs = {name: job for name, job in self._cluster.workers.items() if job.job_id is not None}
        ids = [job.job_id for job in jobs.values()]
        try:
            statuses = await self._system.statuses(ids) if ids else {}
        except QueueUnreachableError as error:
            self._waiting_for = str(error)
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
        """Submit some of the jobs that are missing.

        Raises
        ------
        ClusterError
            When the batch system takes none at all.
        """
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
        except (RuntimeError, ValueError, OSError) as error:
            problem = _said_by_command(error)
        for name, job in list(cluster.workers.items()):
            if job.job_id is None:
                self._drop(name)
            else:
                self._guard.keep_job(job.job_id)
        if not problem:
            self._refusals = 0
            return
        if not cluster.workers:
            raise ClusterError(f"jobs cannot be submitted: {problem}")
        if not self._refusals:
            LOG.warning("%d of %d jobs are granted: %s", len(cluster.workers), self._jobs, problem)
        self._refusals += 1
        self._wait_before_submitting(self._refusals)


def _run_name() -> str:
    """Make up a name for the jobs of this run; digits are left to the numbers of jobs."""
    letters = random.SystemRandom().choices(string.ascii_lowercase, k=8)
    return f"batuta-{''.join(letters)}"  # PBS takes 15 characters


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


class SlurmDaskCluster(DaskCluster):
    """Workers are in jobs of Slurm."""

    config_model: ClassVar[type[CommonConfig]] = SlurmDaskConfig

    def _deploy(self, config: SlurmDaskConfig, out_dir: Path | None) -> Deployment:
        _check_there("sbatch", config.mode)
        qos = [] if config.qos is None else [f"--qos={config.qos}"]
        # Others are submitted in the place of those whose node is lost.
        directives = ("--no-requeue", *qos, *config.job_extra_directives)
        options = {"queue": config.partition}
        given = config.model_copy(update={"job_extra_directives": directives})
        return JobsDeployment(given, out_dir, SLURMCluster, Slurm(), options)


class PbsDaskCluster(DaskCluster):
    """Workers are in jobs of PBS."""

    config_model: ClassVar[type[CommonConfig]] = PbsDaskConfig

    def _deploy(self, config: PbsDaskConfig, out_dir: Path | None) -> Deployment:
        _check_there("qsub", config.mode)
        options = {
            "queue": config.queue,
            "resource_spec": config.resource_spec,
            "job_cls": LoggedPbsJob,
        }
        directives = ("-r n", *config.job_extra_directives)  # as --no-requeue of Slurm
        given = config.model_copy(update={"job_extra_directives": directives})
        return JobsDeployment(given, out_dir, PBSCluster, Pbs(), options)


def _check_there(command: str, mode: str) -> None:
    if shutil.which(command) is None:
        raise ClusterError(f"{command} is not there: {mode} runs where jobs can be submitted from")
