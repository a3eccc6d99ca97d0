"""The configuration of the dask modes."""

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, StrictBool, StrictInt, StrictStr, model_validator

from batuta.cluster.config import (
    CommonConfig,
    Expected,
    PositiveInt,
    PositiveNumber,
)
from batuta.cluster.resources import RAM_PER_WORKER_MB

_WALLTIME = re.compile(r"(\d{2,}):([0-5]\d):([0-5]\d)")
_ADDRESS = re.compile(r"(?!https?:)[a-z]+://[^\s/]\S*")
"""Of a scheduler: not the one of its dashboard, which is easily taken for it."""
_NAME = re.compile(r"[^\s,]+")


def seconds_of(walltime: str) -> int:
    """Return the seconds of a duration in the form ``HH:MM:SS``."""
    hours, minutes, seconds = walltime.split(":")
    return 3600 * int(hours) + 60 * int(minutes) + int(seconds)


def _check_walltime(value: str) -> str:
    if not _WALLTIME.fullmatch(value) or not seconds_of(value):
        raise ValueError
    return value


def _check_address(value: str) -> str:
    if not _ADDRESS.fullmatch(value):
        raise ValueError
    return value


def _check_one_line(value: str) -> str:
    """Refuse what would start another line of the script of batch jobs."""
    if not value.strip() or "\n" in value or "\r" in value:
        raise ValueError
    return value


def _check_names(value: str) -> str:
    if not all(_NAME.fullmatch(each) for each in value.split(",")):
        raise ValueError
    return value


Walltime = Annotated[
    StrictStr, AfterValidator(_check_walltime), Expected("a non-zero duration as 'HH:MM:SS'")
]
Address = Annotated[
    StrictStr, AfterValidator(_check_address), Expected("an address such as tls://host:8786")
]
Text = Annotated[StrictStr, AfterValidator(_check_one_line), Expected("a single-line string")]
NameList = Annotated[
    StrictStr,
    AfterValidator(_check_names),
    Expected("names separated by commas, without spaces"),
]
Port = Annotated[StrictInt, Field(ge=1, le=65535), Expected("a port from 1 to 65535")]
Lines = Annotated[tuple[Text, ...], Field(strict=False), Expected("a list of single-line strings")]


class DaskConfig(CommonConfig):
    """The keys of every dask mode."""

    use_memory_logger: StrictBool = False
    """Whether the memory of workers over time is written to the output folder."""


class WorkersConfig(DaskConfig):
    """The keys of the modes that start workers."""

    nb_workers: PositiveInt = 2
    max_ram_per_worker: PositiveNumber = RAM_PER_WORKER_MB
    """MB that a worker may hold; also what a batch job requests for each of its workers."""
    walltime: Walltime = "00:59:00"
    """How long a batch job may last, HH:MM:SS; workers of this machine have no limit."""
    activate_dashboard: StrictBool = False
    """Whether dask's dashboard is served, on the loopback address."""
    python: Text | None = None
    """Python of the workers in batch jobs; the one of this process by default."""
    local_directory: Text | None = None
    """Folder of the workers' own machine where they spill what does not fit in memory."""


class LocalDaskConfig(WorkersConfig):
    """Workers are processes of this machine."""

    mode: Literal["local_dask"] = "local_dask"
    mp_mode: Literal["forkserver", "spawn"] = "forkserver"
    """How processes are started."""


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
    tls: StrictBool = True
    """Whether traffic between machines is encrypted, and only this user takes part in it."""

    @model_validator(mode="after")
    def _check_cores(self) -> "BatchJobsConfig":
        if self.cores < self.processes_per_job:
            raise ValueError(
                f"cores_per_job: {self.cores_per_job} given, a whole number of at least"
                f" {self.processes_per_job} (processes_per_job) expected"
            )
        return self

    @property
    def cores(self) -> int:
        """Cores of a batch job."""
        return self.cores_per_job or self.processes_per_job


class PbsDaskConfig(BatchJobsConfig):
    """Workers are in batch jobs of PBS."""

    mode: Literal["pbs_dask"] = "pbs_dask"
    account: Text | None = None
    queue: Text | None = None
    resource_spec: Text | None = None
    """What a batch job requests, for ``#PBS -l``; by default ``select=1:ncpus=...:mem=...``."""


class SlurmDaskConfig(BatchJobsConfig):
    """Workers are in batch jobs of Slurm."""

    mode: Literal["slurm_dask"] = "slurm_dask"
    account: Text
    qos: NameList | None = None
    partition: Text | None = None


class ExistingDaskConfig(DaskConfig):
    """Workers are those of a dask cluster that runs already."""

    mode: Literal["dask"] = "dask"
    scheduler_address: Address
    tls_ca_file: Text | None = None
    """The authority that signs the certificates; given with ``tls_cert`` and ``tls_key``."""
    tls_cert: Text | None = None
    tls_key: Text | None = None

    @model_validator(mode="after")
    def _check_tls(self) -> "ExistingDaskConfig":
        given = {name: getattr(self, name) for name in ("tls_ca_file", "tls_cert", "tls_key")}
        missing = [name for name, value in given.items() if value is None]
        if len(missing) in {1, 2}:
            raise ValueError(f"{', '.join(missing)}: missing, required with the other TLS keys")
        if not missing and self.scheduler_address.startswith("tcp:"):
            raise ValueError(
                f"scheduler_address: {self.scheduler_address!r} given, a TLS address such as"
                " tls://host:8786 expected: certificates are configured"
            )
        return self
