"""What is asked of the jobs: their resources, and the command of their workers."""

import math
import shlex
import sys
from pathlib import Path
from typing import Any, Final

import psutil

from batuta.cluster.dask.config import JobsConfig, PbsDaskConfig, SlurmDaskConfig, seconds_of
from batuta.cluster.resources import MB
from batuta.errors import ConfigurationError

DEATH_S: Final = 60
"""How long a worker looks for the scheduler before it ends by itself."""
_NO_PAGES: Final = "export DASK_DISTRIBUTED__WORKER__HTTP__ROUTES='[]'"
"""A worker opens a port for pages on its network whatever it is told: nothing is served there."""


def plain_folder(folder: Path) -> Path:
    """Return a folder whose path the script of a job can hold.

    Raises
    ------
    ConfigurationError
        If it has a space, or another character that means something to a shell.
    """
    folder = folder.resolve()
    if shlex.quote(str(folder)) != str(folder):
        raise ConfigurationError(
            f"out_dir: {str(folder)!r} given, a path without spaces and characters of the shell"
            " expected: the scripts of batch jobs cannot hold it"
        )
    return folder


def job_options(config: JobsConfig) -> dict[str, Any]:
    """Return the options of dask-jobqueue that all batch systems share."""
    return {
        "cores": config.cores,
        "processes": config.processes_per_job,
        "memory": f"{math.ceil(config.max_ram_per_worker * MB) * config.processes_per_job}B",
        "walltime": config.walltime,
        "account": config.account if isinstance(config, SlurmDaskConfig | PbsDaskConfig) else None,
        "python": shlex.quote(config.python or sys.executable),
        "interface": _interface_there(config.interface),
        "death_timeout": DEATH_S,
        "local_directory": config.local_directory,
        "job_extra_directives": list(config.job_extra_directives),
        "job_script_prologue": [
            f"cd {shlex.quote(str(Path.cwd()))}",  # PBS starts jobs at home
            _NO_PAGES,
            "export DASK_LOGGING__DISTRIBUTED=info",
            f"export DASK_DISTRIBUTED__WORKER__PROFILE__ENABLED={config.activate_dashboard}",
            *_thread_settings(config),
            *config.job_script_prologue,
        ],
        "worker_extra_args": [*_worker_arguments(config), *config.worker_extra_args],
    }


def _interface_there(name: str | None) -> str | None:
    """Return the name of a network interface.

    Raises
    ------
    ConfigurationError
        If this machine has none of that name; it names those that it has.
    """
    there = sorted(psutil.net_if_addrs())
    if name is not None and name not in there:
        raise ConfigurationError(f"interface: {name!r} given, one of {', '.join(there)} expected")
    return name


def _thread_settings(config: JobsConfig) -> list[str]:
    """Let the libraries of a worker use its cores: it runs one task at a time."""
    threads = config.cores // config.processes_per_job
    if threads == 1:
        return []  # as dask sets by itself
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    return [f"export {name}={threads}" for name in names]


def _worker_arguments(config: JobsConfig) -> list[str]:
    """Return the options of ``dask worker``; where dask-jobqueue gives one too, the last counts."""
    walltime_s = seconds_of(config.walltime)
    margin_s = min(max(30, walltime_s // 10), 300, walltime_s // 2)
    return [
        *("--nthreads", "1"),
        *("--memory-limit", str(math.ceil(config.max_ram_per_worker * MB))),
        "--no-dashboard",
        # They leave before they are ended, and what they hold goes to others.
        *("--lifetime", f"{walltime_s - margin_s}s"),
        *("--lifetime-stagger", f"{margin_s // 3}s"),
    ]
