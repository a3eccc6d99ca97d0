"""The configuration of the modes: every key, type and default."""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar, get_args, get_type_hints

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StrictBool,
    StrictFloat,
    StrictInt,
    ValidationError,
)
from pydantic_core import ErrorDetails

from batuta.cluster.resources import RAM_PER_WORKER_MB
from batuta.errors import ConfigurationError
from batuta.profiling.capture.options import ProfileOptions


@dataclass(frozen=True)
class Expected:
    """In an annotation: what messages say that a key accepts."""

    text: str


PositiveInt = Annotated[StrictInt, Field(gt=0)]
PositiveNumber = Annotated[StrictInt | StrictFloat, Field(gt=0, allow_inf_nan=False)]


class ProfilingConfig(BaseModel):
    """How the time and the memory of tasks are profiled."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    mode: Literal["cars_profiling", "cprofile", "memray"] = "cars_profiling"
    loop_testing: StrictBool = False
    """Whether each task runs several times, to show whether its worker grows."""
    loops: Annotated[StrictInt, Field(ge=7), Expected("a whole number of at least 7")] = 10
    """How many times, with `loop_testing`; fewer points do not show a slope."""
    scope: Literal["worker", "task"] = "worker"
    """Whether `cprofile` and `memray` have a file for each worker, or for each task."""

    def options(self) -> ProfileOptions:
        """Return the options that are sent to workers."""
        return ProfileOptions(
            mode=self.mode, scope=self.scope, loops=self.loops if self.loop_testing else 1
        )


class CommonConfig(BaseModel):
    """The keys of every mode."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    mode: str
    task_timeout: PositiveInt = 600
    """Seconds without any task ending after which the cluster is restarted."""
    profiling: ProfilingConfig | None = None
    on_tile_failure: Literal["raise", "continue"] = "raise"
    """Whether tiles that are missing at the end are an error or a warning."""
    resume: StrictBool = False
    """Whether tiles that an interrupted run saved are kept, and only the others computed."""


class SequentialConfig(CommonConfig):
    """Tasks run in this process when they are created."""

    mode: Literal["sequential"] = "sequential"


class AutoConfig(CommonConfig):
    """`multiprocessing`, with workers of 2000 MB, as many as this process may use."""

    mode: Literal["auto"] = "auto"


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
    dump_to_disk: StrictBool = True
    """Whether results are stored under the output folder rather than in memory."""
    per_job_timeout: PositiveNumber = 600
    """Seconds after which a task is killed."""
    factorize_tasks: StrictBool = True
    """Whether a task whose only consumer is the next one runs with it."""


Model = TypeVar("Model", bound=BaseModel)


def validated(model: type[Model], given: Mapping[str, Any]) -> Model:
    """Check `given` against `model`.

    Raises
    ------
    ConfigurationError
        One line per mistake: the key, what was given, what is accepted.
    """
    try:
        return model.model_validate(dict(given))
    except ValidationError as exc:
        # A union has an error for each of its members: one line per key is enough.
        problems = {
            each["loc"][: _depth(model, each)]: _problem(model, each) for each in exc.errors()
        }
        raise ConfigurationError(problems.values()) from None


def _depth(model: type[BaseModel], error: ErrorDetails) -> int:
    if not error["loc"]:  # of several keys together
        return 0
    return 2 if error["loc"][0] == "profiling" and "profiling" in model.model_fields else 1


def _problem(model: type[BaseModel], error: ErrorDetails) -> str:
    if not error["loc"]:
        return str(error["ctx"]["error"])
    names = [str(part) for part in error["loc"]]
    nested = names[0] == "profiling" and len(names) > 1
    key = ".".join(names[:2]) if nested else names[0]
    owner: type[BaseModel] = ProfilingConfig if nested else model
    last = names[1] if nested else names[0]
    if model is AutoConfig and key in MultiprocessingConfig.model_fields.keys() - {"mode"}:
        return f"{key}: 'auto' chooses it itself; to set it, mode: multiprocessing"
    if error["type"] in {"extra_forbidden", "invalid_key"}:
        return f"{key}: unknown key{_suggestion(last, owner)}"
    if error["type"] == "missing":
        return f"{key}: missing, {expected(owner, last)} expected"
    return f"{key}: {error['input']!r} given, {expected(owner, last)} expected"


_FOREIGN_NAMES = {
    "queue": "partition",
    "partition": "queue",
    "n_workers": "nb_workers",
    "cores": "cores_per_job",
    "processes": "processes_per_job",
    "memory": "max_ram_per_worker",
    "memory_limit": "max_ram_per_worker",
    "project": "account",
    "address": "scheduler_address",
    "tls_ca": "tls_ca_file",
}
"""By the name of an option in dask or in another batch system, our key for it."""


def _suggestion(key: str, model: type[BaseModel]) -> str:
    known = list(model.model_fields)
    other = _FOREIGN_NAMES.get(key)
    close = [other] if other in known else difflib.get_close_matches(key, known, n=1)
    return f", did you mean {close[0]}?" if close else f" (known: {', '.join(known)})"


def expected(model: type[BaseModel], key: str) -> str:
    """Describe what a key accepts."""
    annotated = _find_expected(get_type_hints(model, include_extras=True)[key])
    if annotated is not None:
        return annotated.text
    annotation = repr(model.model_fields[key].rebuild_annotation())
    if "Literal[" in annotation:
        inside = annotation.split("Literal[", 1)[1].split("]", 1)[0]
        choices = [choice.strip().strip("'\"") for choice in inside.split(",")]
        return choices[0] if len(choices) == 1 else f"one of {', '.join(choices)}"
    if "ProfilingConfig" in annotation:
        return "a table of keys"
    if "bool" in annotation:
        return "true or false"
    return "a number above 0" if "float" in annotation else "a whole number above 0"


def _find_expected(annotation: Any) -> Expected | None:
    """Find an `Expected` in an annotation, the outermost first."""
    parts = get_args(annotation)
    here = next((part for part in parts if isinstance(part, Expected)), None)
    return here or next(filter(None, map(_find_expected, parts)), None)
