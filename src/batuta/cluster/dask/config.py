"""The configuration of the dask modes: the keys of the specification, and those of real centres."""

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, StrictBool, StrictInt, StrictStr, model_validator

from batuta.cluster.config import (
    RAM_PER_WORKER_MB,
    CommonConfig,
    Expected,
    PositiveInt,
    PositiveNumber,
)

_WALLTIME = re.compile(r"(\d{2,}):([0-5]\d):([0-5]\d)")
_ADDRESS = re.compile(r"(?!https?:)[a-z]+://[^\s/]\S*")
"""Not that of dask's page, which is the address that people see."""
_OPTION = re.compile(r"[^\s,]+")


def seconds_of(walltime: str) -> int:
    """Count the seconds of a duration in the form ``HH:MM:SS``."""
    hours, minutes, seconds = walltime.split(":")
    return 3600 * int(hours) + 60 * int(minutes) + int(seconds)


def _walltime(value: str) -> str:
    if not _WALLTIME.fullmatch(value) or not seconds_of(value):
        raise ValueError
    return value


def _address(value: str) -> str:
    if not _ADDRESS.fullmatch(value):
        raise ValueError
    return value


def _one_line(value: str) -> str:
    """Refuse what would begin another line of the job script."""
    if not value.strip() or "\n" in value or "\r" in value:
        raise ValueError
    return value


def _list_of_options(value: str) -> str:
    if not all(_OPTION.fullmatch(each) for each in value.split(",")):
        raise ValueError
    return value


Walltime = Annotated[
    StrictStr, AfterValidator(_walltime), Expected("a duration above zero as 'HH:MM:SS'")
]
Address = Annotated[
    StrictStr, AfterValidator(_address), Expected("an address such as tls://host:8786")
]
Text = Annotated[StrictStr, AfterValidator(_one_line), Expected("a text of one line")]
OptionList = Annotated[
    StrictStr,
    AfterValidator(_list_of_options),
    Expected("names separated by commas alone"),
]
Port = Annotated[StrictInt, Field(ge=1, le=65535), Expected("a port from 1 to 65535")]
Lines = Annotated[tuple[Text, ...], Field(strict=False), Expected("a list of texts of one line")]


class DaskConfig(CommonConfig):
    """The keys of every dask mode."""

    use_memory_logger: StrictBool = False
    """Whether the memory of workers over time is written in the output folder."""


class WorkersConfig(DaskConfig):
    """The keys of the modes that start workers."""

    nb_workers: PositiveInt = 2
    max_ram_per_worker: PositiveNumber = RAM_PER_WORKER_MB
    """MB that a worker may hold; in a job, what is requested for each."""
    walltime: Walltime = "00:59:00"
    """How long a job may last, HH:MM:SS; workers of this machine have no limit."""
    activate_dashboard: StrictBool = False
    """Whether dask's own page is served, on the loopback address."""
    python: Text | None = None
    """Python of the workers in jobs; the one of this process by default."""
    local_directory: Text | None = None
    """Where workers write what does not fit in memory: a folder of their own machine."""


class LocalDaskConfig(WorkersConfig):
    """Workers are processes of this machine."""

    mode: Literal["local_dask"] = "local_dask"


class JobsConfig(WorkersConfig):
    """Workers are in jobs of a batch system."""

    interface: Text | None = None
    """Network interface that joins the workers and this machine, such as ``ib0``."""
    job_extra_directives: Lines = ()
    """Directives of the batch system, added to the script of the jobs."""
    job_script_prologue: Lines = ()
    """Shell commands that run in a job before its workers, such as ``module load``."""
    worker_extra_args: Lines = ()
    """Options for ``dask worker``."""
    processes_per_job: PositiveInt = 1
    """Workers in each job."""
    cores_per_job: PositiveInt | None = None
    """Cores of each job, shared by its workers; one a worker by default."""
    scheduler_port: Port | None = None
    """Port of this machine that workers connect to; any free one by default."""
    tls: StrictBool = True
    """Whether what passes between machines is encrypted, and only this user's."""

    @model_validator(mode="after")
    def _cores_for_each(self) -> "JobsConfig":
        if self.cores < self.processes_per_job:
            raise ValueError(
                f"cores_per_job: {self.cores_per_job} given, a whole number of at least"
                f" {self.processes_per_job} (processes_per_job) expected"
            )
        return self

    @property
    def cores(self) -> int:
        """Cores of a job."""
        return self.cores_per_job or self.processes_per_job


class PbsDaskConfig(JobsConfig):
    """Workers are in jobs of PBS."""

    mode: Literal["pbs_dask"] = "pbs_dask"
    account: Text | None = None
    queue: Text | None = None
    resource_spec: Text | None = None
    """What a job requests, for ``#PBS -l``; by default ``select=1:ncpus=...:mem=...``."""


class SlurmDaskConfig(JobsConfig):
    """Workers are in jobs of Slurm."""

    mode: Literal["slurm_dask"] = "slurm_dask"
    account: Text
    qos: OptionList | None = None
    partition: Text | None = None


class ExistingDaskConfig(DaskConfig):
    """Workers are those of a dask cluster that is there."""

    mode: Literal["dask"] = "dask"
    scheduler_address: Address
    tls_ca_file: Text | None = None
    """Who signs the certificates of the cluster; with ``tls_cert`` and ``tls_key``."""
    tls_cert: Text | None = None
    tls_key: Text | None = None

    @model_validator(mode="after")
    def _all_of_tls(self) -> "ExistingDaskConfig":
        given = {name: getattr(self, name) for name in ("tls_ca_file", "tls_cert", "tls_key")}
        missing = [name for name, value in given.items() if value is None]
        if len(missing) in {1, 2}:
            raise ValueError(f"{', '.join(missing)}: missing, needed with the other keys of TLS")
        if not missing and self.scheduler_address.startswith("tcp:"):
            raise ValueError(
                f"scheduler_address: {self.scheduler_address!r} given, an address of TLS such as"
                " tls://host:8786 expected: there are certificates"
            )
        return self
