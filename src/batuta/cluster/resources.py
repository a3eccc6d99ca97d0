"""What this process may use of the machine."""

import os
from pathlib import Path
from typing import Final

import psutil

from batuta.cluster.config import RAM_PER_WORKER_MB
from batuta.errors import ConfigurationError

MB: Final = 1_000_000


def usable_cores() -> int:
    """Cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def available_ram_bytes() -> int:
    """Memory that this process may still take: the machine's, or its control group's if less."""
    machine = int(psutil.virtual_memory().available)
    group = _control_group_room()
    return machine if group is None else min(machine, group)


def _control_group_room() -> int | None:
    """Room left in the control group (v2) of this process, in bytes; None without a limit."""
    try:
        line = Path("/proc/self/cgroup").read_text(encoding="ascii").splitlines()[-1]
        folder = Path("/sys/fs/cgroup") / line.split(":", 2)[2].lstrip("/")
        limit = (folder / "memory.max").read_text(encoding="ascii").strip()
        used = int((folder / "memory.current").read_text(encoding="ascii"))
    except (OSError, IndexError, ValueError):
        return None  # no control group of this kind here
    return None if limit == "max" else max(0, int(limit) - used)


def workers_that_fit(ram_bytes: int, cores: int) -> int:
    """Count the workers of 2000 MB that fit, at most one per core.

    Raises
    ------
    ConfigurationError
        If not even one fits.
    """
    fitting = ram_bytes // (RAM_PER_WORKER_MB * MB)
    if fitting < 1:
        raise ConfigurationError(
            f"mode: auto needs {RAM_PER_WORKER_MB} MB of free memory, {ram_bytes // MB} MB are"
            ' available; use mode "multiprocessing" with nb_workers and max_ram_per_worker,'
            ' or mode "sequential"'
        )
    return int(min(fitting, cores))
