"""How dask is set, whatever it runs on."""

import contextlib
import logging
import os
import socket
import warnings
from collections.abc import Iterator
from typing import Any, Final

import dask

from batuta.cluster.dask.config import DaskConfig, WorkersConfig
from batuta.cluster.errors import ClusterError

LOG: Final = logging.getLogger(__name__)

SCHEDULER_CONFIG: Final[dict[str, Any]] = {
    # Jobs are handed to dask a few at a time: it may pass all of them on.
    "distributed.scheduler.worker-saturation": float("inf"),
    # Those that were given to a worker that dies, and did not run, have nothing to do with it.
    "distributed.scheduler.allowed-failures": 30,
    "distributed.admin.large-graph-warning-threshold": "1 TiB",
    # dask keeps its last thousand messages for those who look into it, arguments of tasks included.
    "distributed.admin.low-level-log-length": 10,
    # Processes that start here have their warnings on the screen, and no more.
    "distributed.nanny.pre-spawn-environ.DASK_LOGGING__DISTRIBUTED": "warning",
}


def in_force(config: DaskConfig) -> dict[str, Any]:
    """Give what is set in dask's configuration as long as a cluster is open."""
    shown = isinstance(config, WorkersConfig) and config.activate_dashboard
    # Workers look at the stack of their task a hundred times a second: for the page alone.
    return {**SCHEDULER_CONFIG, "distributed.worker.profile.enabled": shown}


ANY_PORT: Final = "127.0.0.1:0"
DASHBOARD: Final = "127.0.0.1:8787"
"""dask takes another port when this one is taken."""


def scheduler_options(*, dashboard: bool) -> dict[str, Any]:
    """Give the options of a scheduler: its page on the loopback address, if at all."""
    return {
        "dashboard": dashboard,
        "dashboard_address": DASHBOARD if dashboard else ANY_PORT,
    }


@contextlib.contextmanager
def environment_put_back() -> Iterator[None]:
    """Put back, in the end, what dask sets in the environment of this process for its workers."""
    names = (
        *dask.config.get("distributed.nanny.pre-spawn-environ"),
        "PYTHONHASHSEED",
        "__DASK_PARENT_PID",
    )
    before = {name: os.environ.get(name) for name in names}
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def check_port(port: int | None) -> None:
    """Find out that a port cannot be listened on before anything is started.

    Raises
    ------
    ClusterError
        With what the system says.
    """
    if port is None:
        return
    with socket.socket() as tried:
        tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            tried.bind(("", port))
        except OSError as error:
            raise ClusterError(
                f"scheduler_port: {port} cannot be listened on: {error.strerror}"
            ) from error


@contextlib.contextmanager
def another_port_is_fine() -> Iterator[None]:
    """Leave out dask's warning that the port of its page is taken: where it is, is told."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Port .* is already in use")
        yield


def tell_dashboard(cluster: Any) -> None:
    """Say where the page is: not where dask says, which is the host of its scheduler."""
    port = cluster.scheduler_info["services"]["dashboard"]
    LOG.info("dask's dashboard is at http://127.0.0.1:%d/status", port, extra={"on_screen": True})
