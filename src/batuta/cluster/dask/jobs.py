"""`slurm_dask` and `pbs_dask`: workers in the jobs of a batch system."""

import logging
import math
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, ClassVar, Final

import dask
from dask_jobqueue.core import JobQueueCluster
from dask_jobqueue.pbs import PBSCluster
from dask_jobqueue.slurm import SLURMCluster
from distributed import Client, Security

from batuta.cluster.config import CommonConfig
from batuta.cluster.contract import WorkersThere
from batuta.cluster.dask import guard
from batuta.cluster.dask.cluster import DaskCluster, Deployment
from batuta.cluster.dask.config import JobsConfig, PbsDaskConfig, SlurmDaskConfig, seconds_of
from batuta.cluster.dask.local import (
    SCHEDULER_CONFIG,
    scheduler_options,
    tell_dashboard,
)
from batuta.cluster.dask.queue import (
    BatchSystem,
    JobState,
    JobStatus,
    Pbs,
    QueueUnreachableError,
    Slurm,
)
from batuta.cluster.errors import ClusterError
from batuta.cluster.planned import LOGS_FOLDER
from batuta.cluster.resources import MB
from batuta.errors import ConfigurationError

LOG: Final = logging.getLogger(__name__)

DEATH_S: Final = 60
"""How long a worker looks for the scheduler before it ends by itself."""
LOOK_S: Final = 5.0
"""How often the batch system is asked about the jobs."""
MAX_FALSE_STARTS: Final = 3
"""Jobs in a row that end before their workers are there: then it is an error."""
_LONGEST_WAIT_S: Final = 300.0
_GUARD_S: Final = 60.0
_JOB_NAME: Final = "batuta"
_TAIL_LINES: Final = 3
_NO_PAGES: Final = "export DASK_DISTRIBUTED__WORKER__HTTP__ROUTES='[]'"
"""A worker opens a port for pages on its network whatever it is told: nothing is served there."""


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
        self._asked = config.nb_workers
        self._jobs = math.ceil(config.nb_workers / config.processes_per_job)
        self._system = batch_system
        self._started: set[str] = set()
        """Names of the jobs whose workers came."""
        self._false_starts = 0
        self._refusals = 0
        self._waiting_for = ""
        self._next_look = 0.0
        self._next_submission = 0.0
        folder = _plain_folder(out_dir or Path.cwd())
        with ExitStack() as stack:
            self._guard = _Guard(batch_system.cancel)
            stack.callback(self._guard.close)
            security = _security(config, folder, self._guard)
            self._log_folder = folder / LOGS_FOLDER
            with dask.config.set(SCHEDULER_CONFIG):
                self._cluster: Any = cluster_class(
                    security=security,
                    protocol="tls://" if config.tls else "tcp://",
                    log_directory=str(self._log_folder),
                    scheduler_options=scheduler_options(dashboard=config.activate_dashboard),
                    silence_logs=logging.WARNING,
                    name=_JOB_NAME,
                    job_name=_JOB_NAME,
                    **_job_options(config),
                    **options,
                )
            stack.callback(self._cluster.close)
            stack.callback(self._forget_jobs)
            self.client: Any = stack.enter_context(
                Client(self._cluster, direct_to_workers=True, set_as_default=False)
            )
            self._open = stack.pop_all()
        LOG.debug("each job is:\n%s", self._cluster.job_script())
        if config.activate_dashboard:
            tell_dashboard(self.client)

    def close(self) -> None:
        """Cancel every job, and leave."""
        self._open.close()

    def _forget_jobs(self) -> None:
        """Leave dask no job to retire one by one: the guard cancels them together."""
        self._cluster.worker_spec.clear()
        self._cluster.workers.clear()

    # While it runs

    async def look(self, present: int) -> WorkersThere:
        """Submit the jobs that are missing, and tell what keeps those that wait."""
        names = {str(each["name"]) for each in self._cluster.scheduler_info["workers"].values()}
        self._started |= {name for name in self._cluster.workers if self._has_workers(name, names)}
        if time.monotonic() >= self._next_look:
            self._next_look = time.monotonic() + LOOK_S
            await self._see_to_jobs(present)
        return WorkersThere(
            present, self._asked, "" if present >= self._asked else self._waiting_for
        )

    def _has_workers(self, job: str, workers: set[str]) -> bool:
        suffixes = self._cluster.new_spec.get("group", [""])
        return any(f"{job}{suffix}" in workers for suffix in suffixes)

    async def _see_to_jobs(self, present: int) -> None:
        jobs = {name: job for name, job in self._cluster.workers.items() if job.job_id is not None}
        ids = [job.job_id for job in jobs.values()]
        try:
            statuses = await self._system.statuses(ids) if ids else {}
        except QueueUnreachableError as error:
            self._waiting_for = str(error)
            return
        waiting: list[str] = []
        for name, job in jobs.items():
            status = statuses.get(job.job_id, JobStatus(JobState.OVER, "it is not known any more"))
            if status.state is JobState.OVER:
                self._on_over(name, job.job_id, status, present)
            elif status.state is JobState.WAITING:
                waiting.append(status.words)
        self._waiting_for = ""
        if waiting:
            why = ", ".join(dict.fromkeys(filter(None, waiting)))
            self._waiting_for = f"{len(waiting)} jobs in the queue" + (f" ({why})" if why else "")
        await self._submit_missing()

    def _on_over(self, name: str, job_id: str, status: JobStatus, present: int) -> None:
        """Forget a job that is over, so that another takes its place."""
        self._drop(name)
        self._guard.tell("ended", job_id)
        if name in self._started:
            self._started.discard(name)
            self._false_starts = 0
            LOG.warning("job %s is over (%s): another takes its place", job_id, status.words)
            return
        self._false_starts += 1
        said = self._tail(job_id)
        problem = f"job {job_id} was over ({status.words}) before its workers were there{said}"
        if self._false_starts >= MAX_FALSE_STARTS and not present:
            raise ClusterError(f"workers cannot start: {problem}")
        LOG.warning("%s", problem)
        self._wait_before_submitting(self._false_starts)

    def _drop(self, name: str) -> None:
        self._cluster.worker_spec.pop(name, None)
        self._cluster.workers.pop(name, None)

    def _wait_before_submitting(self, times: int) -> None:
        self._next_submission = time.monotonic() + min(_LONGEST_WAIT_S, LOOK_S * 2**times)

    def _tail(self, job_id: str) -> str:
        """Quote the end of what a job wrote."""
        number = job_id.partition(".")[0]
        files = sorted(self._log_folder.glob(f"*{number}*"), key=lambda path: path.stat().st_size)
        for path in reversed(files):
            lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
            told = [line.strip() for line in lines if line.strip()][-_TAIL_LINES:]
            if told:
                return f"; {path} ends with: {' / '.join(told)}"
        return f"; it wrote nothing in {self._log_folder}"

    async def _submit_missing(self) -> None:
        """Submit as many jobs as are missing.

        Raises
        ------
        ClusterError
            When the batch system takes none at all.
        """
        cluster = self._cluster
        if len(cluster.worker_spec) >= self._jobs or time.monotonic() < self._next_submission:
            return
        while len(cluster.worker_spec) < self._jobs:
            cluster.worker_spec.update(cluster.new_worker_spec())
        problem = ""
        try:
            await cluster
        except (RuntimeError, ValueError, OSError) as error:
            problem = _said_by_command(error)
        for name, job in list(cluster.workers.items()):
            if job.job_id is None:
                self._drop(name)
            else:
                self._guard.tell("job", job.job_id)
        for name in set(cluster.worker_spec) - set(cluster.workers):
            self._drop(name)
        if not problem:
            self._refusals = 0
            return
        if not cluster.workers:
            raise ClusterError(f"jobs cannot be submitted: {problem}")
        if not self._refusals:
            LOG.warning("%d of %d jobs are granted: %s", len(cluster.workers), self._jobs, problem)
        self._refusals += 1
        self._wait_before_submitting(self._refusals)


class _Guard:
    """The process that cancels the jobs: when it is told to, and when this one is killed."""

    def __init__(self, cancel: tuple[str, ...]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, guard.__file__, *cancel],
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,  # Ctrl-C in the terminal is not for it
        )
        self._told: set[str] = set()

    def tell(self, kind: str, name: str) -> None:
        """Tell of a job, or a folder, once."""
        line = f"{kind} {name}\n"
        if line in self._told or self._process.stdin is None:
            return
        self._told.add(line)
        self._process.stdin.write(line)
        self._process.stdin.flush()

    def close(self) -> None:
        """Have all cancelled and removed."""
        try:
            _, problem = self._process.communicate(timeout=_GUARD_S)
        except subprocess.TimeoutExpired:
            problem = "the batch system does not answer; cancelling goes on in the background"
        if problem:
            LOG.warning("%s", problem.strip())


def _security(config: JobsConfig, folder: Path, keeper: _Guard) -> Security | None:
    """Make the certificates of this run, in files that only this user can read."""
    if not config.tls:
        warnings.warn(
            "tls: false: whoever reaches the network of the workers can read the data, and have"
            " them run any program",
            stacklevel=2,
        )
        return None
    temporary = Security.temporary()
    private = Path(tempfile.mkdtemp(prefix=".batuta-tls-", dir=folder))
    keeper.tell("folder", str(private))
    files: dict[str, str] = {}
    for role in ("tls_ca_file", "tls_worker_cert", "tls_worker_key"):
        path = private / f"{role}.pem"
        path.touch(mode=0o600)
        path.write_text(getattr(temporary, role), encoding="ascii")
        files[role] = str(path)
    return Security(
        require_encryption=True,
        tls_client_cert=temporary.tls_client_cert,
        tls_client_key=temporary.tls_client_key,
        tls_scheduler_cert=temporary.tls_scheduler_cert,
        tls_scheduler_key=temporary.tls_scheduler_key,
        **files,
    )


def _plain_folder(folder: Path) -> Path:
    """Give a folder whose path the script of a job can hold.

    Raises
    ------
    ConfigurationError
        If it has a space, or another character that means something to a shell.
    """
    folder = folder.resolve()
    if shlex.quote(str(folder)) != str(folder):
        raise ConfigurationError(
            f"out_dir: {str(folder)!r} given, a path without spaces and characters of the shell"
            " expected: the scripts of batch jobs cannot hold it"
        )
    return folder


def _job_options(config: JobsConfig) -> dict[str, Any]:
    """Give the options of dask-jobqueue that all batch systems share."""
    return {
        "cores": config.cores,
        "processes": config.processes_per_job,
        "memory": f"{math.ceil(config.max_ram_per_worker * MB) * config.processes_per_job}B",
        "walltime": config.walltime,
        "account": config.account if isinstance(config, SlurmDaskConfig | PbsDaskConfig) else None,
        "python": shlex.quote(config.python or sys.executable),
        "interface": config.interface,
        "death_timeout": DEATH_S,
        "local_directory": config.local_directory,
        "job_extra_directives": list(config.job_extra_directives),
        "job_script_prologue": [
            _NO_PAGES,
            *_thread_settings(config),
            *config.job_script_prologue,
        ],
        "worker_extra_args": [*_worker_arguments(config), *config.worker_extra_args],
    }


def _thread_settings(config: JobsConfig) -> list[str]:
    """Let the libraries of a worker use its cores: it runs one task at a time."""
    threads = config.cores // config.processes_per_job
    if threads == 1:
        return []  # as dask sets by itself
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    return [f"export {name}={threads}" for name in names]


def _worker_arguments(config: JobsConfig) -> list[str]:
    """Give the options of ``dask worker``; where dask-jobqueue gives one too, the last counts."""
    walltime_s = seconds_of(config.walltime)
    margin_s = min(max(30, walltime_s // 10), 300, walltime_s // 2)
    return [
        *("--nthreads", "1"),
        *("--memory-limit", str(math.ceil(config.max_ram_per_worker * MB))),
        "--no-dashboard",
        # They leave before they are ended, and what they hold goes to others.
        *("--lifetime", f"{walltime_s - margin_s}s"),
        *("--lifetime-stagger", f"{margin_s // 3}s"),
    ]


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
        directives = [*qos, *config.job_extra_directives]
        options = {"queue": config.partition}
        given = config.model_copy(update={"job_extra_directives": tuple(directives)})
        return JobsDeployment(given, out_dir, SLURMCluster, Slurm(), options)


class PbsDaskCluster(DaskCluster):
    """Workers are in jobs of PBS."""

    config_model: ClassVar[type[CommonConfig]] = PbsDaskConfig

    def _deploy(self, config: PbsDaskConfig, out_dir: Path | None) -> Deployment:
        _check_there("qsub", config.mode)
        options = {"queue": config.queue, "resource_spec": config.resource_spec}
        return JobsDeployment(config, out_dir, PBSCluster, Pbs(), options)


def _check_there(command: str, mode: str) -> None:
    if shutil.which(command) is None:
        raise ClusterError(f"{command} is not there: {mode} runs where jobs can be submitted from")
