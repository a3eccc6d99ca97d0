"""What batch jobs request, and the command of their workers."""

import itertools
import math
import shlex
import sys
from pathlib import Path
from typing import Any, Final

import dask
import psutil

from batuta.cluster.dask import worker_family
from batuta.cluster.dask.config import BatchJobsConfig, PbsDaskConfig, SlurmDaskConfig, seconds_of
from batuta.cluster.environment import current_folder
from batuta.cluster.resources import MB
from batuta.errors import ConfigurationError

DEATH_TIMEOUT_S: Final = 60
"""How long a worker tries to reach the scheduler before it ends by itself."""
_NO_HTTP_ROUTES: Final = "export DASK_DISTRIBUTED__WORKER__HTTP__ROUTES='[]'"
"""A worker opens an HTTP port on its network whatever its options: nothing is served there."""


def check_folder(folder: Path) -> Path:
    """Return the absolute path of a folder, which the script of a batch job must be able to hold.

    Raises
    ------
    ConfigurationError
        If it has a space, or another character that means something to a shell.
    """
    folder = folder.resolve()
    if shlex.quote(str(folder)) != str(folder):
        raise ConfigurationError(
            f"out_dir: {str(folder)!r} given, a path without spaces or shell metacharacters"
            " expected: it goes into the scripts of batch jobs"
        )
    return folder


def batch_job_options(config: BatchJobsConfig) -> dict[str, Any]:
    """Return the options of dask-jobqueue that all batch systems share."""
    return {
        "cores": config.cores,
        "processes": config.processes_per_job,
        "memory": f"{math.ceil(config.max_ram_per_worker * MB) * config.processes_per_job}B",
        "walltime": config.walltime,
        "account": config.account if isinstance(config, SlurmDaskConfig | PbsDaskConfig) else None,
        "python": shlex.quote(config.python or sys.executable),
        "interface": _check_interface(config.interface),
        "death_timeout": DEATH_TIMEOUT_S,
        "local_directory": config.local_directory,
        "job_extra_directives": list(config.job_extra_directives),
        "job_script_prologue": [
            f"cd {shlex.quote(str(current_folder()))}",  # PBS starts batch jobs in the home folder
            _NO_HTTP_ROUTES,
            "export DASK_LOGGING__DISTRIBUTED=info",
            f"export DASK_DISTRIBUTED__WORKER__PROFILE__ENABLED={config.activate_dashboard}",
            *_thread_settings(config),
            *config.job_script_prologue,
        ],
        "worker_extra_args": [*_worker_arguments(config), *config.worker_extra_args],
    }


def _check_interface(name: str | None) -> str | None:
    """Return the name of a network interface.

    Raises
    ------
    ConfigurationError
        If this machine has no interface of that name; lists those that it has.
    """
    available = sorted(psutil.net_if_addrs())
    if name is not None and name not in available:
        raise ConfigurationError(
            f"interface: {name!r} given, one of {', '.join(available)} expected"
        )
    return name


def _thread_settings(config: BatchJobsConfig) -> list[str]:
    """Let the libraries of a worker use all of its cores: it runs one task at a time."""
    threads = config.cores // config.processes_per_job
    if threads == 1:
        return []  # which dask sets by itself
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    return [f"export {name}={threads}" for name in names]


def _worker_arguments(config: BatchJobsConfig) -> list[str]:
    """Return options of ``dask worker``; they override those of dask-jobqueue, which come first."""
    walltime_s = seconds_of(config.walltime)
    margin_s = min(max(30, walltime_s // 10), 300, walltime_s // 2)
    return [
        *("--nthreads", "1"),
        *("--memory-limit", str(math.ceil(config.max_ram_per_worker * MB))),
        "--no-dashboard",
        # Workers leave before the batch system kills them, while others can still take over what
        # they hold; not all at once, or there would be no others.
        *("--lifetime", f"{walltime_s - margin_s}s"),
        *("--lifetime-stagger", f"{margin_s // 3}s"),
        # Given here, they replace those of dask's configuration, which are to be loaded too.
        *("--preload-nanny", worker_family.__name__),
        *itertools.chain.from_iterable(
            ("--preload-nanny", each) for each in dask.config.get("distributed.nanny.preload")
        ),
    ]
