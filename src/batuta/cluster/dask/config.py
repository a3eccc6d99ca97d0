"""The configuration of the dask modes."""

import re
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from batuta.cluster.config import CommonConfig
from batuta.cluster.config_keys import Accepts, PositiveInt, PositiveNumber, is_whole_number
from batuta.cluster.resources import RAM_PER_WORKER_MB

_WALLTIME = re.compile(r"(\d{2,}):([0-5]\d):([0-5]\d)")
_ADDRESS = re.compile(r"(?!https?:)[a-z]+://[^\s/]\S*")
"""Of a scheduler: not the one of its dashboard, which is easily taken for it."""
_NAME = re.compile(r"[^\s,]+")


def seconds_of(walltime: str) -> int:
    """Return the seconds of a duration in the form ``HH:MM:SS``."""
    hours, minutes, seconds = walltime.split(":")
    return 3600 * int(hours) + 60 * int(minutes) + int(seconds)


def _is_walltime(value: Any) -> bool:
    return (
        isinstance(value, str) and _WALLTIME.fullmatch(value) is not None and seconds_of(value) > 0
    )


def _is_address(value: Any) -> bool:
    return isinstance(value, str) and _ADDRESS.fullmatch(value) is not None


def _is_one_line(value: Any) -> bool:
    """Refuse what would start another line of the script of batch jobs."""
    return isinstance(value, str) and value.strip() != "" and not {"\n", "\r"} & set(value)


def _are_names(value: Any) -> bool:
    return isinstance(value, str) and all(_NAME.fullmatch(each) for each in value.split(","))


def _is_port(value: Any) -> bool:
    return is_whole_number(value) and value in range(1, 1 << 16)


Walltime = Annotated[str, Accepts("a non-zero duration as 'HH:MM:SS'", _is_walltime)]
Address = Annotated[str, Accepts("an address such as tls://host:8786", _is_address)]
Text = Annotated[str, Accepts("a single-line string", _is_one_line)]
NameList = Annotated[str, Accepts("names separated by commas, without spaces", _are_names)]
Port = Annotated[int, Accepts("a port from 1 to 65535", _is_port)]
Lines = Annotated[tuple[Text, ...], Accepts("a list of single-line strings", bool)]


@dataclass(frozen=True, kw_only=True)
class DaskConfig(CommonConfig):
    """The keys of every dask mode."""

    use_memory_logger: bool = False
    """Whether the memory of workers over time is written to the output folder."""


@dataclass(frozen=True, kw_only=True)
class WorkersConfig(DaskConfig):
    """The keys of the modes that start workers."""

    nb_workers: PositiveInt = 2
    max_ram_per_worker: PositiveNumber = RAM_PER_WORKER_MB
    """MB that a worker may hold; also what a batch job requests for each of its workers."""
    walltime: Walltime = "00:59:00"
    """How long a batch job may last, HH:MM:SS; workers of this machine have no limit."""
    activate_dashboard: bool = False
    """Whether dask's dashboard is served, on the loopback address."""
    python: Text | None = None
    """Python of the workers in batch jobs; the one of this process by default."""
    local_directory: Text | None = None
    """Folder of the workers' own machine where they spill what does not fit in memory."""


@dataclass(frozen=True, kw_only=True)
class LocalDaskConfig(WorkersConfig):
    """Workers are processes of this machine."""

    mode: Literal["local_dask"] = "local_dask"
    mp_mode: Literal["forkserver", "spawn"] = "forkserver"
    """How processes are started."""


@dataclass(frozen=True, kw_only=True)
class BatchJobsConfig(WorkersConfig):
    """Workers are in batch jobs."""

    interface: Text | None = None
    """Network interface that connects the workers and this machine, such as ``ib0``."""
    job_extra_directives: Lines = ()
    """Directives of the batch system, added to the script of batch jobs."""
    job_script_prologue: Lines = ()
    """Shell commands that a batch job runs before its workers, such as ``module load``."""
    worker_extra_args: Lines = ()
    """Options for ``dask worker``."""
    processes_per_job: PositiveInt = 1
    """Workers in each batch job."""
    cores_per_job: PositiveInt | None = None
    """Cores of each batch job, shared by its workers; one per worker by default."""
    scheduler_port: Port | None = None
    """Port of this machine that workers connect to; any free port by default."""
    tls: bool = True
    """Whether traffic between machines is encrypted, and only this user takes part in it."""

    def __post_init__(self) -> None:
        if self.cores < self.processes_per_job:
            raise ValueError(
                f"cores_per_job: {self.cores_per_job} given, a whole number of at least"
                f" {self.processes_per_job} (processes_per_job) expected"
            )

    @property
    def cores(self) -> int:
        """Cores of a batch job."""
        return self.cores_per_job or self.processes_per_job


@dataclass(frozen=True, kw_only=True)
class PbsDaskConfig(BatchJobsConfig):
    """Workers are in batch jobs of PBS."""

    mode: Literal["pbs_dask"] = "pbs_dask"
    account: Text | None = None
    queue: Text | None = None
    resource_spec: Text | None = None
    """What a batch job requests, for ``#PBS -l``; by default ``select=1:ncpus=...:mem=...``."""


@dataclass(frozen=True, kw_only=True)
class SlurmDaskConfig(BatchJobsConfig):
    """Workers are in batch jobs of Slurm."""

    mode: Literal["slurm_dask"] = "slurm_dask"
    account: Text
    qos: NameList | None = None
    partition: Text | None = None


@dataclass(frozen=True, kw_only=True)
class ExistingDaskConfig(DaskConfig):
    """Workers are those of a dask cluster that runs already."""

    mode: Literal["dask"] = "dask"
    scheduler_address: Address
    tls_ca_file: Text | None = None
    """The authority that signs the certificates; given with ``tls_cert`` and ``tls_key``."""
    tls_cert: Text | None = None
    tls_key: Text | None = None

    def __post_init__(self) -> None:
        given = {name: getattr(self, name) for name in ("tls_ca_file", "tls_cert", "tls_key")}
        missing = [name for name, value in given.items() if value is None]
        if len(missing) in {1, 2}:
            raise ValueError(f"{', '.join(missing)}: missing, required with the other TLS keys")
        if not missing and self.scheduler_address.startswith("tcp:"):
            raise ValueError(
                f"scheduler_address: {self.scheduler_address!r} given, a TLS address such as"
                " tls://host:8786 expected: certificates are configured"
            )
