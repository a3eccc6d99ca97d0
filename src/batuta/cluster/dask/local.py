"""`local_dask`: workers are processes of this machine."""

import asyncio
import logging
import os
from contextlib import ExitStack
from pathlib import Path
from typing import Any, ClassVar, Final

from distributed import Client, LocalCluster
from distributed.core import Status

from batuta.cluster import preload
from batuta.cluster.config import CommonConfig
from batuta.cluster.contract import WorkerCount
from batuta.cluster.dask.cluster import DaskCluster
from batuta.cluster.dask.config import LocalDaskConfig
from batuta.cluster.dask.monitor import Deployment
from batuta.cluster.dask.settings import (
    dashboard_port_may_differ,
    environment_restored,
    log_dashboard_address,
    scheduler_options,
    worker_environment,
    worker_processes_started_by,
)
from batuta.cluster.dask.worker_family import worker_families_end
from batuta.cluster.environment import check_semaphores, check_start
from batuta.cluster.errors import ClusterError
from batuta.cluster.local.forkserver import start_forkserver
from batuta.cluster.main_script import GUARD_HINT
from batuta.cluster.resources import MB
from batuta.errors import chain_of, describe_error

LOG: Final = logging.getLogger(__name__)

FORKSERVER_MODULES: Final = (
    "distributed",
    "batuta.cluster.dask.engine.remote",
    "batuta.cluster.dask.telemetry.worker_plugin",
    "batuta.cluster.dask.worker_family",
    "batuta.datasets.for_programs",
    "batuta.cluster.local.forkserver_warm",
    "batuta.cluster.local.forkserver_warm_tiles",
    "pandas",
)
"""What every worker needs: imported once by the forkserver, rather than by each worker.

With all that `modules_for_tiles` names: a local cluster would replace a forkserver without it, and
dask's workers be spawned from then on."""
_GAVE_UP: Final = (Status.closed, Status.failed)
_NANNY_TIMEOUT_S: Final = 2.0
"""How long a worker may take to end before its nanny kills it."""


class LocalDeployment:
    """Worker processes, each under its nanny, and dask's scheduler in this process."""

    def __init__(self, config: LocalDaskConfig) -> None:
        self._asked = config.nb_workers
        check_start()
        check_semaphores()
        with ExitStack() as stack:
            stack.enter_context(environment_restored())
            stack.enter_context(worker_processes_started_by(_start_method(config)))
            stack.enter_context(worker_families_end())
            try:
                with dashboard_port_may_differ():
                    self._cluster: Any = stack.enter_context(_start_cluster(config))
            except RuntimeError as exc:
                raise ClusterError(
                    f"workers cannot start: {describe_error(exc).rstrip('.')}; {GUARD_HINT}"
                ) from exc
            self.client: Any = stack.enter_context(
                Client(self._cluster, direct_to_workers=True, set_as_default=False)
            )
            self._resources = stack.pop_all()
        if config.activate_dashboard:
            log_dashboard_address(self._cluster)

    async def reconcile(self, present: int) -> WorkerCount:
        """Return how many workers there are; their nannies replace those that end.

        A nanny gives up when it could not start a worker, as with no memory or no process left: it
        is replaced by another one.

        Raises
        ------
        ClusterError
            If that one cannot start a worker either.
        """
        nannies = self._cluster.workers
        closed = [name for name, nanny in nannies.items() if nanny.status in _GAVE_UP]
        if closed:
            LOG.warning("the nannies of %d workers have given up: starting others", len(closed))
            for name in closed:
                del nannies[name]
            try:
                await self._cluster  # starts those that are missing
            except RuntimeError as exc:
                # dask says that a nanny failed, the first exception of all why.
                *_, first = chain_of(exc)
                raise ClusterError(f"workers cannot start: {describe_error(first)}") from exc
        return WorkerCount(present, self._asked)

    def close(self) -> None:
        """Stop the workers, whatever they are doing."""
        with self._resources:
            self.client.sync(self._close_nannies)

    async def _close_nannies(self) -> None:
        # The cluster would close them too, and wait longer for the tasks that they run.
        nannies = self._cluster.workers.values()
        await asyncio.gather(*(nanny.close(timeout=_NANNY_TIMEOUT_S) for nanny in nannies))


def _start_method(config: LocalDaskConfig) -> str:
    """Return how workers are started, with the forkserver running if it is to fork them.

    A forkserver that another mode has started lacks dask, and the environment of dask's workers,
    which libraries that it imported have read already.
    """
    modules = (*FORKSERVER_MODULES, *preload.modules())
    if config.mp_mode == "forkserver" and start_forkserver(modules, worker_environment()):
        return "forkserver"
    return "spawn"


def _start_cluster(config: LocalDaskConfig) -> LocalCluster:
    return LocalCluster(
        n_workers=config.nb_workers,
        threads_per_worker=1,
        memory_limit=int(config.max_ram_per_worker * MB),
        local_directory=config.local_directory,
        dashboard_address=None,
        scheduler_kwargs=scheduler_options(dashboard=config.activate_dashboard),
        env=dict(os.environ),  # as it is now, not as it was when the forkserver started
        silence_logs=False,  # otherwise it silences the loggers of the program too
    )


class LocalDaskCluster(DaskCluster):
    """Workers are processes of this machine."""

    config_model: ClassVar[type[CommonConfig]] = LocalDaskConfig

    def _deploy(self, config: LocalDaskConfig, out_dir: Path | None) -> Deployment:  # noqa: ARG002
        return LocalDeployment(config)
