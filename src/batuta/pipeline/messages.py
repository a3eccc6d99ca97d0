"""Messages over REST, and from warden and worker to their service."""

from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, TypeAdapter

from batuta.messaging import Processing
from batuta.messaging.processings import Count
from batuta.names import NAME_PATTERN
from batuta.pipeline.tile_codes import TileGridRecord
from batuta.stages import Stage

Name = Annotated[str, StringConstraints(pattern=NAME_PATTERN)]
VERSION_PATTERN: Final = r"^[!-~]([ -~]{0,198}[!-~])?$"


class ProcessingRequest(BaseModel):
    """Body of ``POST /processing``.

    `processing_id` makes repeated requests start one processing only; a higher `attempt`
    restarts a failed one, and with `remake` one that succeeded, whose product was lost.

    `inputs` are the versions to make it from, 0 where their source keeps none; None leaves it to
    the pipeline. `graph_version` is that of the product graph under which it is asked for. `stage`
    is that of what it makes; None where none is told: final.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    product: Name
    obs_id: Name
    processing_id: Name | None = None
    attempt: int = Field(1, ge=1, le=2**31 - 1)
    remake: bool = False
    inputs: dict[Name, Annotated[int, Field(ge=0, le=2**31 - 1)]] | None = None
    graph_version: Annotated[str, StringConstraints(pattern=VERSION_PATTERN)] | None = None
    stage: Stage | None = None


class ProductVersion(BaseModel):
    """One version of a product of the processing's observation."""

    model_config = ConfigDict(frozen=True)

    product: str
    version: int


class PipelineProcessing(Processing):
    """A processing's record at a pipeline.

    `inputs` and `outputs` are what it used and archived, `log` and `profile` the paths of its log
    and of its profile.
    """

    provider: str
    inputs: tuple[ProductVersion, ...] = ()
    outputs: tuple[ProductVersion, ...] = ()
    log: str | None = None


class Outcome(BaseModel):
    """How a run of a processing ended; `error` is one line, None when all is archived."""

    model_config = ConfigDict(frozen=True)

    kind: Literal["outcome"] = "outcome"
    error: str | None = None
    inputs: tuple[ProductVersion, ...] = ()
    outputs: tuple[ProductVersion, ...] = ()
    code: str | None = None


class WorkerStarted(BaseModel):
    """The worker process has started."""

    kind: Literal["worker_started"] = "worker_started"
    pid: int


class ProgressUpdate(BaseModel):
    """Steps done, out of a total."""

    kind: Literal["progress"] = "progress"
    done: Count
    total: Count


class TilesPlanned(BaseModel):
    """Where the tiles of a dataset lie, after those before; `present`: which cells have one."""

    kind: Literal["tiles_planned"] = "tiles_planned"
    grid: TileGridRecord
    present: str | None = None


class TilesChanged(BaseModel):
    """What became of tiles, and the workers that were not named before."""

    kind: Literal["tiles_changed"] = "tiles_changed"
    workers: tuple[Annotated[str, StringConstraints(max_length=200)], ...] = ()
    changes: str


class WorkerExited(BaseModel):
    """The worker process has exited, and none of its descendants is left."""

    kind: Literal["worker_exited"] = "worker_exited"
    exit_code: int


Message = Annotated[
    Outcome | WorkerStarted | ProgressUpdate | TilesPlanned | TilesChanged | WorkerExited,
    Field(discriminator="kind"),
]

MESSAGE_ADAPTER: TypeAdapter[Message] = TypeAdapter(Message)


def encode(message: Message) -> bytes:
    """Encode `message` as one line of JSON."""
    return message.model_dump_json().encode() + b"\n"
