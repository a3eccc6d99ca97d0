"""How dask is set, whatever it runs on."""

import contextlib
import logging
import os
import socket
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any, Final

import dask

from batuta.cluster.dask.config import DaskConfig, JobsConfig, WorkersConfig
from batuta.cluster.dask.process_state import Lent, State
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

_PROFILE: Final = "distributed.worker.profile.enabled"
_GIVEN_UP_AFTER: Final = "distributed.deploy.lost-worker-timeout"
_ABSENT: Final = object()


def in_force(config: DaskConfig) -> dict[str, Any]:
    """Return what is set in dask's configuration as long as a cluster is open."""
    shown = isinstance(config, WorkersConfig) and config.activate_dashboard
    # Workers look at the stack of their task a hundred times a second: for the page alone.
    given = {**SCHEDULER_CONFIG, _PROFILE: shown}
    if isinstance(config, JobsConfig):
        # Jobs are given up where it is known what becomes of them, and told.
        given[_GIVEN_UP_AFTER] = "1000 days"
    return given


def _read_config() -> State:
    keys = (*SCHEDULER_CONFIG, _PROFILE, _GIVEN_UP_AFTER)
    return {key: dask.config.get(key, _ABSENT) for key in keys}


def _write_config(state: State) -> None:
    for key, value in state.items():
        if value is _ABSENT:
            dask.config.pop(key, None)
        else:
            dask.config.set({key: value})


_CONFIG: Final = Lent(_read_config, _write_config)


def dask_configured(config: DaskConfig) -> AbstractContextManager[None]:
    """Have dask's configuration set for a cluster, whichever others open and close meanwhile."""
    given = in_force(config)
    return _CONFIG.changed(lambda before: {**before, **given})


ANY_PORT: Final = "127.0.0.1:0"
DASHBOARD: Final = "127.0.0.1:8787"
"""Where dask's page is looked for; any other port when this one is taken."""


def scheduler_options(*, dashboard: bool) -> dict[str, Any]:
    """Return the options of a scheduler: its page on the loopback address, if at all."""
    return {
        "dashboard": dashboard,
        "dashboard_address": DASHBOARD if dashboard and _is_free(DASHBOARD) else ANY_PORT,
    }


def _read_environment() -> State:
    names = (
        *dask.config.get("distributed.nanny.pre-spawn-environ"),
        "PYTHONHASHSEED",
        "__DASK_PARENT_PID",
    )
    return {name: os.environ.get(name) for name in names}


def _write_environment(state: State) -> None:
    for name, value in state.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


_ENVIRONMENT: Final = Lent(_read_environment, _write_environment)


def environment_put_back() -> AbstractContextManager[None]:
    """Put back, in the end, what dask sets in the environment of this process for its workers."""
    return _ENVIRONMENT.changed(lambda before: before)


def _is_free(address: str) -> bool:
    host, _, port = address.partition(":")
    with socket.socket() as tried:
        try:
            tried.bind((host, int(port)))
        except OSError:
            return False
    return True


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
        except OSError as exc:
            raise ClusterError(
                f"scheduler_port: {port} cannot be listened on: {exc.strerror}"
            ) from exc


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
