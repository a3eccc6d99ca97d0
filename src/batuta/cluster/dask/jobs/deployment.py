"""`slurm_dask` and `pbs_dask`: workers in the jobs of a batch system."""

import logging
import math
import random
import shutil
import string
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, ClassVar, Final

from distributed import Client

from batuta.cluster.config import CommonConfig
from batuta.cluster.contract import WorkerCount
from batuta.cluster.dask.certificates import temporary_security, warn_of_no_security
from batuta.cluster.dask.cluster import DaskCluster
from batuta.cluster.dask.config import JobsConfig, PbsDaskConfig, SlurmDaskConfig
from batuta.cluster.dask.jobs.batch_system import (
    BatchSystem,
    Pbs,
    Slurm,
)
from batuta.cluster.dask.jobs.jobqueue import (
    JobQueueCluster,
    LoggedPbsJob,
    PBSCluster,
    SLURMCluster,
)
from batuta.cluster.dask.jobs.options import job_options, plain_folder
from batuta.cluster.dask.jobs.reaper import Guard
from batuta.cluster.dask.jobs.scaler import JobKeeper
from batuta.cluster.dask.monitor import Deployment
from batuta.cluster.dask.settings import (
    another_port_is_fine,
    check_port,
    scheduler_options,
    tell_dashboard,
)
from batuta.cluster.errors import ClusterError
from batuta.cluster.graph_cluster import LOGS_FOLDER

LOG: Final = logging.getLogger(__name__)


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
        check_port(config.scheduler_port)
        folder = plain_folder(out_dir or Path.cwd())
        log_folder = folder / LOGS_FOLDER
        run_name = _run_name()
        with ExitStack() as stack:
            guard = Guard(batch_system.cancel, batch_system.cancel_named(run_name))
            stack.callback(guard.close)
            security = temporary_security(folder, guard) if config.tls else None
            with another_port_is_fine():
                cluster: Any = cluster_class(
                    security=security,
                    protocol="tls://" if config.tls else "tcp://",
                    log_directory=str(log_folder),
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
            stack.callback(cluster.close)
            jobs = math.ceil(config.nb_workers / config.processes_per_job)
            self._keeper = JobKeeper(cluster, batch_system, guard, jobs=jobs, log_folder=log_folder)
            stack.callback(self._keeper.forget_jobs)
            self.client: Any = stack.enter_context(
                Client(cluster, direct_to_workers=True, set_as_default=False)
            )
            self._open = stack.pop_all()
        if not config.tls:
            warn_of_no_security()
        LOG.debug("each job is:\n%s", cluster.job_script())
        if config.activate_dashboard:
            tell_dashboard(cluster)

    def close(self) -> None:
        """Cancel every job, and leave."""
        self._open.close()

    async def look(self, present: int) -> WorkerCount:
        """Submit the jobs that are missing, and tell what keeps those that wait."""
        return await self._keeper.look(present)


def _run_name() -> str:
    """Make up a name for the jobs of this run; digits are left to the numbers of jobs."""
    letters = random.SystemRandom().choices(string.ascii_lowercase, k=8)
    return f"batuta-{''.join(letters)}"  # PBS takes 15 characters


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
