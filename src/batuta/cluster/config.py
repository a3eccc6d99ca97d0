"""The configuration of the modes: every key, type and default."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Annotated, Any, ClassVar, Literal

from batuta.cluster.config_keys import (
    DERIVED,
    Accepts,
    PositiveInt,
    PositiveNumber,
    is_whole_number,
    keys_of,
)
from batuta.cluster.resources import RAM_PER_WORKER_MB
from batuta.profiling.capture.options import ProfileOptions

MIN_LOOPS = 7


@dataclass(frozen=True, kw_only=True)
class ProfilingConfig:
    """How the time and the memory of tasks are profiled."""

    mode: Literal["cars_profiling", "cprofile", "memray"] = "cars_profiling"
    loop_testing: bool = False
    """Whether each task runs several times, to show whether its worker grows."""
    loops: Annotated[
        int,
        Accepts(
            f"a whole number of at least {MIN_LOOPS}",
            lambda value: is_whole_number(value) and value >= MIN_LOOPS,
        ),
    ] = 10
    """How many times, with `loop_testing`; fewer points do not show a slope."""
    scope: Literal["worker", "task"] = "worker"
    """Whether `cprofile` and `memray` have a file for each worker, or for each task."""

    def options(self) -> ProfileOptions:
        """Return the options that are sent to workers."""
        return ProfileOptions(
            mode=self.mode, scope=self.scope, loops=self.loops if self.loop_testing else 1
        )


@dataclass(frozen=True, kw_only=True)
class CommonConfig:
    """The keys of every mode.

    What a key accepts is its annotation: `Accepts` of `batuta.cluster.config_keys`, a `Literal` of
    strings, a plain type, or one of these or None. What several keys have to be together,
    ``__post_init__`` checks: it raises `ValueError` with the line to tell.
    """

    elsewhere: ClassVar[Mapping[str, str]] = {}
    """By the name of a key of another mode, what to say where it is given to this one."""

    mode: str
    task_timeout: PositiveInt = 600
    """Seconds without any task ending after which the cluster is restarted."""
    profiling: ProfilingConfig | None = None
    on_tile_failure: Literal["raise", "continue"] = "raise"
    """Whether tiles that are missing at the end are an error or a warning."""
    resume: bool = False
    """Whether tiles that an interrupted run saved are kept, and only the others computed."""

    def as_dict(self) -> dict[str, Any]:
        """Return every key with its value; it is accepted as a configuration again."""
        values = asdict(self)
        return {key: values[key] for key in keys_of(self)}


@dataclass(frozen=True, kw_only=True)
class SequentialConfig(CommonConfig):
    """Tasks run in this process when they are created."""

    mode: Literal["sequential"] = "sequential"


@dataclass(frozen=True, kw_only=True)
class MultiprocessingConfig(CommonConfig):
    """Tasks run in processes of this machine."""

    mode: Literal["multiprocessing"] = "multiprocessing"
    mp_mode: Literal["forkserver", "fork", "spawn"] = "forkserver"
    """How processes are started."""
    nb_workers: PositiveInt = 2
    max_ram_per_worker: PositiveNumber = RAM_PER_WORKER_MB
    """MB that a worker should not exceed."""
    max_tasks_per_worker: PositiveInt = 10
    """Jobs after which a worker is renewed; tasks that are fused into one job count once.

    Where the key is not given, once it has worked for three seconds too: renewing it costs as much
    as many short ones, and the memory limit bounds what leaks in between."""
    dump_to_disk: bool = True
    """Whether results are stored under the output folder rather than in memory."""
    per_job_timeout: PositiveNumber = 600
    """Seconds after which a task is killed."""
    factorize_tasks: bool = True
    """Whether a task whose only consumer is the next one runs with it."""

    max_tasks_given: bool = field(default=False, compare=False, metadata=DERIVED)
    """Whether `max_tasks_per_worker` was given, and is to be kept to the letter."""


_CHOSEN = "'auto' chooses it itself; to set it, mode: multiprocessing"


@dataclass(frozen=True, kw_only=True)
class AutoConfig(CommonConfig):
    """`multiprocessing`, with workers of 2000 MB, as many as this process may use."""

    elsewhere: ClassVar[Mapping[str, str]] = dict.fromkeys(keys_of(MultiprocessingConfig), _CHOSEN)

    mode: Literal["auto"] = "auto"
