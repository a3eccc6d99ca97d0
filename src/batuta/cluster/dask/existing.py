"""`dask`: the workers of a dask cluster that runs already, however it was started."""

import contextlib
import logging
import os
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any, ClassVar, Final

from distributed import Client, Security
from distributed.comm.core import CommClosedError, connect

from batuta.cluster.config import CommonConfig
from batuta.cluster.contract import WorkerCount
from batuta.cluster.dask.cluster import DaskCluster
from batuta.cluster.dask.config import ExistingDaskConfig
from batuta.cluster.dask.monitor import Deployment
from batuta.cluster.dask.telemetry.worker_plugin import BatutaPlugin
from batuta.cluster.errors import ClusterError
from batuta.errors import ConfigurationError, describe_error

LOG: Final = logging.getLogger(__name__)

CONNECT_TIMEOUT_S: Final = 30
_REACH_TIMEOUT_S: Final = 3
_UNREGISTER_TIMEOUT_S: Final = 2.0
"""How long workers may take to unregister the plugin of a run."""
_REGISTER_TRIES: Final = 5
_REGISTER_PAUSE_S: Final = 0.5
"""Between two tries: a nanny starts another worker in the place of one that died."""


class ExistingDeployment:
    """A dask cluster of others: none of it is started or stopped here."""

    def __init__(self, config: ExistingDaskConfig) -> None:
        self._reachability_known = False
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
                        timeout=CONNECT_TIMEOUT_S,
                    )
                )
            except (OSError, ValueError, RuntimeError) as exc:
                raise ClusterError(
                    f"scheduler_address: could not connect to a dask scheduler at {address}:"
                    f" {describe_error(exc)}"
                ) from exc
            self._resources = stack.pop_all()

    async def reconcile(self, present: int) -> WorkerCount:
        """Return how many workers there are; find out once whether they can be reached."""
        if present and not self._reachability_known:
            self._reachability_known = True
            self.client.direct_to_workers = await self._can_reach_worker()
        return WorkerCount(present, None)

    async def _can_reach_worker(self) -> bool:
        """Whether results can be fetched from workers, or must pass through the scheduler.

        The scheduler of a Kubernetes cluster may be reached through a forwarded port, while its
        workers have addresses of a network of their own.
        """
        worker = next(iter(await self.client.scheduler.ncores()), None)
        if worker is None:
            return True
        arguments = self.client.security.get_connection_args("client")
        try:
            comm = await connect(worker, timeout=_REACH_TIMEOUT_S, **arguments)
        except (TimeoutError, OSError) as exc:
            LOG.info(
                "workers not reachable, results pass through the scheduler: %s", describe_error(exc)
            )
            return False
        comm.abort()
        return True

    def register_plugin(self, plugin: BatutaPlugin) -> None:
        """Set up the workers for as long as this run lasts.

        Raises
        ------
        ClusterError
            If a worker cannot be set up: it lacks Batuta, or a module of the program; or if the
            connection is lost each time.
        """
        # Before registering: the scheduler keeps a plugin even if it failed in a worker.
        self._resources.callback(self._unregister_plugin, plugin.name)
        try:
            self._register(plugin)
        except CommClosedError as exc:
            raise ClusterError(
                f"scheduler_address: the connection to {self._address} was lost while workers were"
                f" set up: {describe_error(exc)}"
            ) from exc
        except Exception as exc:
            raise ClusterError(
                f"scheduler_address: the workers of {self._address} need this version of Batuta"
                f" and the modules of this program: {describe_error(exc)}"
            ) from exc

    def _register(self, plugin: BatutaPlugin) -> None:
        """Register a plugin, again where a worker was lost meanwhile: the scheduler then hangs up.

        To register it twice changes nothing: it has a name.
        """
        for attempt in range(_REGISTER_TRIES):
            try:
                self.client.register_plugin(plugin)
            except CommClosedError:
                if attempt == _REGISTER_TRIES - 1 or self.client.status != "running":
                    raise
                time.sleep(_REGISTER_PAUSE_S)
            else:
                return

    def _unregister_plugin(self, name: str) -> None:
        """Leave the workers as they were; those that do not answer in time follow later."""
        if self.client.status != "running":
            return
        unregister = self.client.scheduler.unregister_worker_plugin
        # A scheduler that was restarted meanwhile does not know the plugin: ValueError.
        with contextlib.suppress(TimeoutError, OSError, ValueError):
            self.client.sync(unregister, name=name, callback_timeout=_UNREGISTER_TIMEOUT_S)

    def close(self) -> None:
        """Disconnect; the scheduler drops what was computed for this client."""
        self._resources.close()


def _security(config: ExistingDaskConfig) -> Security:
    """Return the certificates of the configuration, or else those of dask's own.

    Raises
    ------
    ConfigurationError
        If one cannot be read, or if the address needs certificates and there are none.
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
        f"{name}: {file!r} given, a readable file expected"
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
    """Workers are those of a dask cluster that runs already."""

    config_model: ClassVar[type[CommonConfig]] = ExistingDaskConfig

    def _deploy(self, config: ExistingDaskConfig, out_dir: Path | None) -> Deployment:  # noqa: ARG002
        return ExistingDeployment(config)

    def _register_plugin(self, deployment: ExistingDeployment, plugin: BatutaPlugin) -> None:
        deployment.register_plugin(plugin)
