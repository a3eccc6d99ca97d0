"""The cores and the memory of the machine that this process may use.

The machine is shared: control groups, a batch system's allocation, CPU affinity and resource
limits may each leave less than it has. The least counts.
"""

import os
import resource
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

from batuta.errors import ConfigurationError

MB: Final = 1_000_000
RAM_PER_WORKER_MB: Final = 2000
"""The memory of a worker, unless it is configured."""
_MIB: Final = 1 << 20
_GROUPS: Final = Path("/sys/fs/cgroup")
_OWN_GROUPS: Final = Path("/proc/self/cgroup")
_UNLIMITED_V1: Final = 1 << 60
"""Control groups of version 1 say "no limit" by a number just below 2 ** 63."""


@dataclass(frozen=True, order=True)
class Bound:
    """An amount that may be used, and what sets it."""

    amount: int
    source: str


def usable_cores(environment: Mapping[str, str] = os.environ) -> Bound:
    """Count the cores that this process may run on, at least one.

    Parameters
    ----------
    environment : mapping
        Variables of the process, in which a batch system says what it granted.
    """
    bounds = [_affinity(), *_group_cores(), *_granted_cores(environment)]
    least = min(bounds)
    return Bound(max(1, least.amount), least.source)


def available_ram_bytes(environment: Mapping[str, str] = os.environ) -> Bound:
    """Return the memory that this process and its workers may still use.

    Parameters
    ----------
    environment : mapping
        As for `usable_cores`.
    """
    return min(
        [
            Bound(int(psutil.virtual_memory().available), "free on the machine"),
            *_group_ram(),
            *_granted_ram(environment),
            *_process_limits(),
        ]
    )


def _affinity() -> Bound:
    if hasattr(os, "sched_getaffinity"):
        return Bound(len(os.sched_getaffinity(0)), "CPU affinity")
    return Bound(os.cpu_count() or 1, "cores of the machine")


# Control groups


def _own_groups() -> Iterator[tuple[str, Path]]:
    """Iterate over the control groups of this process and their parents.

    Each is a controller, "" in version 2, and a folder.
    """
    try:
        lines = _OWN_GROUPS.read_text(encoding="ascii").splitlines()
    except OSError:
        return  # not Linux
    for line in lines:
        _, controllers, path = line.split(":", 2)
        for controller in controllers.split(","):
            root = _GROUPS / controller
            folder = root / path.lstrip("/")
            for each in (folder, *folder.parents):
                if each == root or root in each.parents:
                    yield controller, each


def _number(path: Path) -> int | None:
    """Read a number; None where the file holds none, which means no limit."""
    try:
        return int(path.read_text(encoding="ascii").split()[0])
    except (OSError, ValueError, IndexError):
        return None


def _group_cores() -> Iterator[Bound]:
    for controller, folder in _own_groups():
        if controller == "":
            quota, period = _number(folder / "cpu.max"), _second_number(folder / "cpu.max")
        elif controller == "cpu":
            quota, period = (
                _number(folder / "cpu.cfs_quota_us"),
                _number(folder / "cpu.cfs_period_us"),
            )
        else:
            continue
        if quota is not None and quota > 0 and period:
            yield Bound(quota // period, f"CPU quota of the control group {folder}")


def _second_number(path: Path) -> int | None:
    try:
        return int(path.read_text(encoding="ascii").split()[1])
    except (OSError, ValueError, IndexError):
        return None


def _group_ram() -> Iterator[Bound]:
    for controller, folder in _own_groups():
        if controller == "":
            limit, used = _number(folder / "memory.max"), _number(folder / "memory.current")
            cached = _statistic(folder / "memory.stat", "inactive_file")
        elif controller == "memory":
            limit = _number(folder / "memory.limit_in_bytes")
            used = _number(folder / "memory.usage_in_bytes")
            cached = _statistic(folder / "memory.stat", "total_inactive_file")
        else:
            continue
        if limit is not None and used is not None and limit < _UNLIMITED_V1:
            # The system frees cached files before anything else.
            room = max(0, limit - used + cached)
            yield Bound(room, f"memory limit of the control group {folder}")


def _statistic(path: Path, name: str) -> int:
    try:
        lines = path.read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith(f"{name} ")), 0)


# Batch systems


def _granted_cores(environment: Mapping[str, str]) -> Iterator[Bound]:
    if "SLURM_JOB_ID" in environment:
        yield from _first_of(("SLURM_CPUS_PER_TASK", "SLURM_CPUS_ON_NODE"), environment, int)
    if "PBS_JOBID" in environment:
        yield from _first_of(("NCPUS", "PBS_NUM_PPN"), environment, int)


def _granted_ram(environment: Mapping[str, str]) -> Iterator[Bound]:
    if "SLURM_JOB_ID" not in environment:
        return
    cores = next(_granted_cores(environment), Bound(1, ""))
    per_node = list(_first_of(("SLURM_MEM_PER_NODE",), environment, lambda mb: int(mb) * _MIB))
    per_cpu = _first_of(
        ("SLURM_MEM_PER_CPU",), environment, lambda mb: int(mb) * _MIB * cores.amount
    )
    own = psutil.Process().memory_info().rss
    for bound in per_node or per_cpu:
        if bound.amount:  # 0 is all that the node has
            yield Bound(max(0, bound.amount - own), bound.source)


def _first_of(
    names: Iterable[str], environment: Mapping[str, str], read: Callable[[str], int]
) -> Iterator[Bound]:
    for name in names:
        if name in environment:
            try:
                yield Bound(read(environment[name]), name)
            except ValueError:
                raise ConfigurationError(
                    f"{name}: {environment[name]!r} in the environment, a whole number expected"
                ) from None
            return


def _process_limits() -> Iterator[Bound]:
    """Iterate over the limits on this process; some batch systems set them to grant memory."""
    for name in ("RLIMIT_AS", "RLIMIT_DATA", "RLIMIT_RSS"):
        limit, _ = resource.getrlimit(getattr(resource, name))
        if limit not in {resource.RLIM_INFINITY, 0}:
            yield Bound(limit, f"limit {name} of the process")


def workers_that_fit(ram: Bound, cores: Bound) -> int:
    """Count the workers of 2000 MB that fit, at most one per core.

    Raises
    ------
    ConfigurationError
        If not even one fits.
    """
    fitting = ram.amount // (RAM_PER_WORKER_MB * MB)
    if fitting < 1:
        raise ConfigurationError(
            f"mode: auto needs {RAM_PER_WORKER_MB} MB of free memory, {ram.amount // MB} MB are"
            f' available ({ram.source}); use mode "multiprocessing" with nb_workers and'
            ' max_ram_per_worker, or mode "sequential"'
        )
    return int(min(fitting, cores.amount))
