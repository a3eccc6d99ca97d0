"""`dask`: the workers of a cluster that is there, however it was made."""

import contextlib
import logging
import os
from contextlib import ExitStack
from pathlib import Path
from typing import Any, ClassVar, Final

from distributed import Client, Security
from distributed.comm.core import connect

from batuta.cluster.config import CommonConfig
from batuta.cluster.contract import WorkerCount
from batuta.cluster.dask.cluster import DaskCluster
from batuta.cluster.dask.config import ExistingDaskConfig
from batuta.cluster.dask.monitor import Deployment
from batuta.cluster.dask.telemetry.worker_plugin import BatutaPlugin
from batuta.cluster.errors import ClusterError
from batuta.errors import ConfigurationError, describe_error

LOG: Final = logging.getLogger(__name__)

CONNECT_S: Final = 30
_REACH_S: Final = 3
_LEAVE_S: Final = 2.0
"""How long the workers may take to forget a run."""


class ExistingDeployment:
    """A cluster of others: nothing of it is started or ended here."""

    def __init__(self, config: ExistingDaskConfig) -> None:
        self._reach_known = False
        self._address = address = config.scheduler_address
        security = _security(config)
        with ExitStack() as stack:
            self.client: Any
            try:
                self.client = stack.enter_context(
                    Client(
                        address,
                        security=security,
                        direct_to_workers=True,
                        set_as_default=False,
                        timeout=CONNECT_S,
                    )
                )
            except (OSError, ValueError, RuntimeError) as exc:
                raise ClusterError(
                    f"scheduler_address: no dask scheduler answers at {address}:"
                    f" {describe_error(exc)}"
                ) from exc
            self._open = stack.pop_all()

    async def look(self, present: int) -> WorkerCount:
        """Tell how many workers there are, and find out once whether they can be reached."""
        if present and not self._reach_known:
            self._reach_known = True
            self.client.direct_to_workers = await self._reaches_a_worker()
        return WorkerCount(present, None)

    async def _reaches_a_worker(self) -> bool:
        """Whether results can be taken from workers, or must pass through the scheduler.

        Behind the gateway of a Kubernetes cluster, workers have addresses of their own network.
        """
        worker = next(iter(await self.client.scheduler.ncores()), None)
        if worker is None:
            return True
        arguments = self.client.security.get_connection_args("client")
        try:
            comm = await connect(worker, timeout=_REACH_S, **arguments)
        except (TimeoutError, OSError) as exc:
            LOG.info("results pass through the scheduler: %s", describe_error(exc))
            return False
        comm.abort()
        return True

    def prepare(self, plugin: BatutaPlugin) -> None:
        """Have the workers set up, as long as this run lasts.

        Raises
        ------
        ClusterError
            If one cannot be: Batuta, or a module of the program, is not there.
        """
        self._open.callback(self._forget, plugin.name)
        try:
            self.client.register_plugin(plugin)
        except Exception as exc:
            raise ClusterError(
                f"scheduler_address: the workers of {self._address} need Batuta, of the version"
                f" that runs here, and the modules of this program: {describe_error(exc)}"
            ) from exc

    def _forget(self, plugin: str) -> None:
        """Have the workers left as they were; those that do not answer in time may be later."""
        if self.client.status != "running":
            return
        forget = self.client.scheduler.unregister_worker_plugin
        # A scheduler that was started again in between does not know the plugin: ValueError.
        with contextlib.suppress(TimeoutError, OSError, ValueError):
            self.client.sync(forget, name=plugin, callback_timeout=_LEAVE_S)

    def close(self) -> None:
        """Leave; what was computed for us is forgotten there."""
        self._open.close()


def _security(config: ExistingDaskConfig) -> Security:
    """Return the certificates to show: those of the configuration, else those of dask's own.

    Raises
    ------
    ConfigurationError
        If one cannot be read, or if there is none and the address needs them.
    """
    if config.tls_ca_file is None:
        security = Security()
        context = security.get_connection_args("client").get("ssl_context")
        if context is None and config.scheduler_address.startswith("tls:"):
            raise ConfigurationError(
                f"scheduler_address: {config.scheduler_address!r} given, which needs tls_ca_file,"
                " tls_cert and tls_key"
            )
        return security
    problems = [
        f"{name}: {file!r} given, a file that can be read expected"
        for name in ("tls_ca_file", "tls_cert", "tls_key")
        if not os.access(file := str(getattr(config, name)), os.R_OK)
    ]
    if problems:
        raise ConfigurationError(problems)
    return Security(
        require_encryption=True,
        tls_ca_file=config.tls_ca_file,
        tls_client_cert=config.tls_cert,
        tls_client_key=config.tls_key,
    )


class ExistingDaskCluster(DaskCluster):
    """Workers are those of a cluster that is there."""

    config_model: ClassVar[type[CommonConfig]] = ExistingDaskConfig

    def _deploy(self, config: ExistingDaskConfig, out_dir: Path | None) -> Deployment:  # noqa: ARG002
        return ExistingDeployment(config)

    def _prepare_workers(self, deployment: ExistingDeployment, plugin: BatutaPlugin) -> None:
        deployment.prepare(plugin)
