"""`local_dask`: workers are processes of this machine."""

import logging
from contextlib import ExitStack
from pathlib import Path
from typing import Any, ClassVar, Final

import dask
from distributed import Client, LocalCluster

from batuta.cluster.config import CommonConfig
from batuta.cluster.contract import WorkersThere
from batuta.cluster.dask.cluster import DaskCluster, Deployment
from batuta.cluster.dask.config import LocalDaskConfig
from batuta.cluster.errors import ClusterError
from batuta.cluster.raised import describe
from batuta.cluster.resources import MB

LOG: Final = logging.getLogger(__name__)

SCHEDULER_CONFIG: Final[dict[str, Any]] = {
    # Jobs are handed to dask a few at a time: it may pass all of them on.
    "distributed.scheduler.worker-saturation": float("inf"),
    # Those that were given to a worker that dies, and did not run, have nothing to do with it.
    "distributed.scheduler.allowed-failures": 30,
    "distributed.admin.large-graph-warning-threshold": "1 TiB",
}
ANY_PORT: Final = "127.0.0.1:0"
DASHBOARD: Final = "127.0.0.1:8787"
"""dask takes another port when this one is taken."""


class LocalDeployment:
    """Worker processes, each under its nanny, and the scheduler in this process."""

    def __init__(self, config: LocalDaskConfig) -> None:
        self._asked = config.nb_workers
        with ExitStack() as stack:
            stack.enter_context(dask.config.set(SCHEDULER_CONFIG))
            try:
                cluster = stack.enter_context(_cluster(config))
            except RuntimeError as error:
                raise ClusterError(f"workers cannot start: {describe(error)}") from error
            self.client: Any = stack.enter_context(
                Client(cluster, direct_to_workers=True, set_as_default=False)
            )
            self._open = stack.pop_all()
        if config.activate_dashboard:
            tell_dashboard(self.client)

    async def look(self, present: int) -> WorkersThere:
        """Tell how many there are; their nannies replace those that end."""
        return WorkersThere(present, self._asked)

    def close(self) -> None:
        """End the workers."""
        self._open.close()


def _cluster(config: LocalDaskConfig) -> LocalCluster:
    return LocalCluster(
        n_workers=config.nb_workers,
        threads_per_worker=1,
        memory_limit=int(config.max_ram_per_worker * MB),
        local_directory=config.local_directory,
        dashboard_address=None,
        scheduler_kwargs=scheduler_options(dashboard=config.activate_dashboard),
        silence_logs=logging.WARNING,
    )


def scheduler_options(*, dashboard: bool) -> dict[str, Any]:
    """Give the options of a scheduler: its page on the loopback address, if at all."""
    return {
        "dashboard": dashboard,
        "dashboard_address": DASHBOARD if dashboard else ANY_PORT,
    }


def tell_dashboard(client: Client) -> None:
    """Say where the page is."""
    LOG.info("dask's dashboard is at %s", client.dashboard_link, extra={"on_screen": True})


class LocalDaskCluster(DaskCluster):
    """Workers are processes of this machine."""

    config_model: ClassVar[type[CommonConfig]] = LocalDaskConfig

    def _deploy(self, config: LocalDaskConfig, out_dir: Path | None) -> Deployment:  # noqa: ARG002
        return LocalDeployment(config)
