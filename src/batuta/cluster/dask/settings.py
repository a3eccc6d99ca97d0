"""Settings of dask that hold for all modes, and what a scheduler in this process needs."""

import contextlib
import logging
import os
import socket
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any, Final

import dask

from batuta.cluster.dask.config import DaskConfig, WorkersConfig
from batuta.cluster.dask.process_state import SharedProcessState, State
from batuta.cluster.errors import ClusterError

LOG: Final = logging.getLogger(__name__)

SCHEDULER_CONFIG: Final[dict[str, Any]] = {
    # Few jobs are submitted ahead: the scheduler may pass all of them on to workers.
    "distributed.scheduler.worker-saturation": float("inf"),
    # A worker that dies counts against all jobs that it had been given, though it ran only one.
    # `WorkerLossTracker` knows which; dask's own count is to stay out of the way.
    "distributed.scheduler.allowed-failures": 30,
    "distributed.admin.large-graph-warning-threshold": "1 TiB",
    # dask would close for good what starts a worker, should the worker be missing this long after
    # it was lost, even if it has been replaced and lost again since. Workers are replaced by their
    # nannies and by `Deployment.reconcile`, which also knows what a batch system says of its jobs.
    "distributed.deploy.lost-worker-timeout": "1000 days",
    # dask keeps its last thousand messages for debugging, with the arguments of tasks in them.
    "distributed.admin.low-level-log-length": 10,
    # Processes that start here print their warnings, and nothing more.
    "distributed.nanny.pre-spawn-environ.DASK_LOGGING__DISTRIBUTED": "warning",
}

_PROFILE: Final = "distributed.worker.profile.enabled"
_START_METHOD: Final = "distributed.worker.multiprocessing-method"
_ABSENT: Final = object()


def dask_settings(config: DaskConfig) -> dict[str, Any]:
    """Return what is set in dask's configuration while a cluster is open."""
    dashboard = isinstance(config, WorkersConfig) and config.activate_dashboard
    # Workers sample the stack of their task a hundred times a second, for the dashboard only.
    return {**SCHEDULER_CONFIG, _PROFILE: dashboard}


def _read_config() -> State:
    keys = (*SCHEDULER_CONFIG, _PROFILE, _START_METHOD)
    return {key: dask.config.get(key, _ABSENT) for key in keys}


def _write_config(state: State) -> None:
    for key, value in state.items():
        if value is _ABSENT:
            dask.config.pop(key, None)
        else:
            dask.config.set({key: value})


_CONFIG: Final = SharedProcessState(_read_config, _write_config)


def dask_configured(config: DaskConfig) -> AbstractContextManager[None]:
    """Set dask's configuration for a cluster, whichever others open and close meanwhile."""
    settings = dask_settings(config)
    return _CONFIG.changed(lambda before: {**before, **settings})


def worker_processes_started_by(method: str) -> AbstractContextManager[None]:
    """Set how the nannies of this process start their workers, for as long as a cluster is open."""
    return _CONFIG.changed(lambda before: {**before, _START_METHOD: method})


def worker_environment() -> dict[str, str]:
    """Return what a nanny sets in the environment before it starts the process of a worker.

    Libraries read it when they are imported, such as the number of threads of linear algebra.
    What the environment sets already counts, as it does for nannies.
    """
    variables = dask.config.get("distributed.nanny.pre-spawn-environ")
    # As nannies do: strings then have the same hash in all workers.
    return {"PYTHONHASHSEED": "6640"} | {
        name: os.environ.get(name, str(value))
        for name, value in variables.items()
        if value is not None
    }


ANY_PORT: Final = "127.0.0.1:0"
DASHBOARD: Final = "127.0.0.1:8787"
"""Where users expect dask's dashboard; another port if this one is taken."""


def scheduler_options(*, dashboard: bool) -> dict[str, Any]:
    """Return the options of a scheduler, whose dashboard is on the loopback address, if at all."""
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


_ENVIRONMENT: Final = SharedProcessState(_read_environment, _write_environment)


def environment_restored() -> AbstractContextManager[None]:
    """Restore, in the end, what dask sets in the environment of this process for its workers."""
    return _ENVIRONMENT.changed(lambda before: before)


def _is_free(address: str) -> bool:
    host, _, port = address.partition(":")
    with socket.socket() as probe:
        try:
            probe.bind((host, int(port)))
        except OSError:
            return False
    return True


def check_port(port: int | None) -> None:
    """Check that a port can be listened on, before anything is started.

    Raises
    ------
    ClusterError
        With what the system says.
    """
    if port is None:
        return
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except OSError as exc:
            raise ClusterError(
                f"scheduler_port: cannot listen on port {port}: {exc.strerror}"
            ) from exc


@contextlib.contextmanager
def dashboard_port_may_differ() -> Iterator[None]:
    """Ignore dask's warning that the dashboard is on another port: its address is logged."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Port .* is already in use")
        yield


def log_dashboard_address(cluster: Any) -> None:
    """Log where the dashboard is; dask itself would name the host of its scheduler instead."""
    port = cluster.scheduler_info["services"]["dashboard"]
    LOG.info("dask's dashboard is at http://127.0.0.1:%d/status", port, extra={"on_screen": True})
