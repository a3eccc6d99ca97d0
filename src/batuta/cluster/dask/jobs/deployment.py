"""`slurm_dask` and `pbs_dask`: workers in batch jobs."""

import logging
import math
import random
import shutil
import string
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Final

from distributed import Client

from batuta.cluster.config import CommonConfig
from batuta.cluster.contract import WorkerCount
from batuta.cluster.dask.cluster import DaskCluster
from batuta.cluster.dask.config import BatchJobsConfig, PbsDaskConfig, SlurmDaskConfig
from batuta.cluster.dask.jobs.batch_system import BatchSystem, Pbs, Slurm
from batuta.cluster.dask.jobs.certificates import temporary_security, warn_unencrypted
from batuta.cluster.dask.jobs.jobqueue import (
    JobQueueCluster,
    LoggedPbsJob,
    PBSCluster,
    SLURMCluster,
)
from batuta.cluster.dask.jobs.options import batch_job_options, check_folder
from batuta.cluster.dask.jobs.reaper import JobReaper
from batuta.cluster.dask.jobs.scaler import JobScaler
from batuta.cluster.dask.monitor import Deployment
from batuta.cluster.dask.settings import (
    check_port,
    dashboard_port_may_differ,
    log_dashboard_address,
    scheduler_options,
)
from batuta.cluster.environment import current_folder
from batuta.cluster.errors import ClusterError
from batuta.profiling.capture.layout import LOGS_FOLDER

LOG: Final = logging.getLogger(__name__)


class BatchDeployment:
    """Workers in batch jobs, dask's scheduler in this process, and a process that reaps the jobs.

    Parameters
    ----------
    config : BatchJobsConfig
        Of the mode.
    out_dir : Path or None
        Where batch jobs write, and find the keys of this run: a folder that they share with this
        machine. The current folder where there is none.
    cluster_class : type
        Of dask-jobqueue.
    batch_system : BatchSystem
        Knows the status of batch jobs.
    options : mapping
        For `cluster_class`, besides those of every batch system.
    """

    def __init__(
        self,
        config: BatchJobsConfig,
        out_dir: Path | None,
        cluster_class: type[JobQueueCluster],
        batch_system: BatchSystem,
        options: Mapping[str, Any],
    ) -> None:
        check_port(config.scheduler_port)
        folder = check_folder(out_dir or current_folder())
        log_folder = folder / LOGS_FOLDER
        run_name = _run_name()
        # Closed in reverse: the client leaves, dask is left no batch job to cancel one by one, its
        # scheduler stops, then the reaper cancels all of them with a few commands. The reaper
        # starts first, so that whatever fails from then on is cleaned up.
        with ExitStack() as stack:
            cancel_by_name = batch_system.cancel_by_name_command(run_name)
            reaper = JobReaper(batch_system.cancel_command, cancel_by_name)
            stack.callback(reaper.close)
            security = temporary_security(folder, reaper) if config.tls else None
            with dashboard_port_may_differ():
                cluster: Any = cluster_class(
                    security=security,
                    protocol="tls://" if config.tls else "tcp://",
                    log_directory=str(log_folder),
                    scheduler_options={
                        **scheduler_options(dashboard=config.activate_dashboard),
                        "port": config.scheduler_port or 0,
                    },
                    silence_logs=False,  # otherwise it silences the loggers of the program too
                    name=run_name,
                    job_name=run_name,
                    **batch_job_options(config),
                    **options,
                )
            stack.callback(cluster.close)
            self._scaler = JobScaler(
                cluster,
                batch_system,
                reaper,
                job_count=math.ceil(config.nb_workers / config.processes_per_job),
                log_folder=log_folder,
            )
            stack.callback(self._scaler.detach_jobs)
            self.client: Any = stack.enter_context(
                Client(cluster, direct_to_workers=True, set_as_default=False)
            )
            self._resources = stack.pop_all()
        if not config.tls:
            warn_unencrypted()
        LOG.debug("script of each batch job:\n%s", cluster.job_script())
        if config.activate_dashboard:
            log_dashboard_address(cluster)

    def close(self) -> None:
        """Cancel every batch job, and stop the scheduler."""
        self._resources.close()

    async def reconcile(self, present: int) -> WorkerCount:
        """Submit the batch jobs that are missing; return what those in the queue wait for."""
        return await self._scaler.reconcile(present)


def _run_name() -> str:
    """Return a random name for the batch jobs of this run, without digits: numbers follow it."""
    letters = random.SystemRandom().choices(string.ascii_lowercase, k=8)
    return f"batuta-{''.join(letters)}"  # PBS allows 15 characters


class SlurmDaskCluster(DaskCluster):
    """Workers are in batch jobs of Slurm."""

    config_model: ClassVar[type[CommonConfig]] = SlurmDaskConfig

    def _deploy(self, config: SlurmDaskConfig, out_dir: Path | None) -> Deployment:
        _check_installed("sbatch", config.mode)
        qos = [] if config.qos is None else [f"--qos={config.qos}"]
        # A batch job whose node is lost is not to run again: the scaler submits another.
        directives = ("--no-requeue", *qos, *config.job_extra_directives)
        options = {"queue": config.partition}
        extended = replace(config, job_extra_directives=directives)
        return BatchDeployment(extended, out_dir, SLURMCluster, Slurm(), options)


class PbsDaskCluster(DaskCluster):
    """Workers are in batch jobs of PBS."""

    config_model: ClassVar[type[CommonConfig]] = PbsDaskConfig

    def _deploy(self, config: PbsDaskConfig, out_dir: Path | None) -> Deployment:
        _check_installed("qsub", config.mode)
        options = {
            "queue": config.queue,
            "resource_spec": config.resource_spec,
            "job_cls": LoggedPbsJob,
        }
        directives = ("-r n", *config.job_extra_directives)  # as --no-requeue of Slurm
        extended = replace(config, job_extra_directives=directives)
        return BatchDeployment(extended, out_dir, PBSCluster, Pbs(), options)


def _check_installed(command: str, mode: str) -> None:
    if shutil.which(command) is None:
        raise ClusterError(
            f"{command}: command not found; {mode} needs a machine from which batch jobs can be"
            " submitted"
        )
