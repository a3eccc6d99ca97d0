"""The events published on NATS: CloudEvents 1.0 in JSON, and their data.

``data.*`` carries `DataAvailable` and `DataWithdrawn`; ``activity.*`` carries `Activity`. A bare
``{"product": ..., "obs_id": ...}`` on ``data.*``, as published by hand, is accepted too.
"""

import re
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Final, Literal, Self

from pydantic import (
    AfterValidator,
    Base64Bytes,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    model_validator,
)
from pydantic_core import from_json

from batuta.errors import BatutaError, shortened
from batuta.messaging.processings import (
    AT_PIPELINE,
    Count,
    Instant,
    LongText,
    Processing,
    ShortText,
    Text,
    utc_now,
)
from batuta.names import NAME_PATTERN, SERVICE_PATTERN
from batuta.stages import Stage
from batuta.validation import statement_of
from batuta.work_classes import WorkClass

DATA_TYPE: Final = "batuta.data.available"
WITHDRAWN_TYPE: Final = "batuta.data.withdrawn"
ACTIVITY_TYPE: Final = "batuta.activity"

Name = Annotated[str, StringConstraints(pattern=NAME_PATTERN)]
ServiceName = Annotated[str, StringConstraints(pattern=SERVICE_PATTERN)]

Attribute = Annotated[str, StringConstraints(min_length=1)]
"""A required attribute of an envelope."""

NoticeText = Annotated[Text, AfterValidator(lambda text: shortened(text, 500))]


class MalformedEventError(BatutaError, ValueError):
    """A message that cannot be decoded as an event of its subject; the reason is one line."""


class DataAvailable(BaseModel):
    """An available product instance, as announced on ``data.*``.

    `version` is None if the source keeps no versions. `processing_id` is the id of the
    processing that made it, if one did. `work_class` (in JSON ``class``) is that of
    all that is made of it; None if it is not told. `stage` is how definitive it is; None if it is
    not told: final.
    """

    model_config = ConfigDict(frozen=True, populate_by_name=True)

    product: Name
    obs_id: Name
    version: int | None = Field(None, ge=1, le=2**31 - 1)
    processing_id: ShortText | None = None
    provider: ShortText | None = None
    size: Annotated[int, Field(ge=0, lt=2**63)] | None = None
    sha256: ShortText | None = None
    uri: LongText | None = None
    work_class: WorkClass | None = Field(None, alias="class")
    stage: Stage | None = None


class DataWithdrawn(BaseModel):
    """A version that is not to be used any more, as the sdb announces it on ``data.sdb``.

    `newest` is the newest version that is left; None if there is none.
    """

    model_config = ConfigDict(frozen=True)

    product: Name
    obs_id: Name
    version: int = Field(ge=1, le=2**31 - 1)
    withdrawn: Instant
    reason: ShortText | None = None
    newest: int | None = Field(None, ge=1, le=2**31 - 1)


DataEvent = DataAvailable | DataWithdrawn
"""What ``data.*`` carries."""


@dataclass(frozen=True, slots=True)
class Notification:
    """A message of ``data.*``: the id of its envelope, if it has one; its event, or a problem.

    `time` is its own, in seconds since 1970; None if it gives none that can be read.
    """

    id: str | None
    event: DataEvent | None
    problem: str | None = None
    time: float | None = None


_DATA_MODELS: "Final[Mapping[str, type[DataEvent]]]" = {
    DATA_TYPE: DataAvailable,
    WITHDRAWN_TYPE: DataWithdrawn,
}


class ServiceStatus(BaseModel):
    """The status of a service, as published on ``activity.<name>``.

    `notice` is a line for people, such as that its code was edited since it was loaded.
    """

    model_config = ConfigDict(frozen=True)

    name: ServiceName
    kind: Literal["sdb", "conductor", "pipeline"]
    state: Literal["up", "stopped"] = "up"
    url: LongText | None = None
    version: ShortText | None = None
    notice: NoticeText | None = None
    queued: Count = 0
    running: Count = 0


class LateProduct(BaseModel):
    """A product of an observation that is not available although it was `due`."""

    model_config = ConfigDict(frozen=True)

    product: Name
    obs_id: Name
    due: Instant


class ApprovalNews(BaseModel):
    """That something waits for a person's approval, or what became of that.

    `gate` is ``before`` or ``after``, or ``late`` of a late result; `version` of the product, or
    those of the inputs that it is to be made from; `state` is ``pending``, ``approved`` or
    ``refused``.
    """

    model_config = ConfigDict(frozen=True)

    product: Name
    obs_id: Name
    gate: ShortText
    version: LongText
    state: ShortText
    by: ShortText | None = None
    reason: LongText | None = None


class HoldChange(BaseModel):
    """What became of work that an operator holds back.

    `what` is all of it: ``provider maker, class backfill``. `by` and `reason` are those of its
    release once it is released, at `rate` if it has one.
    """

    model_config = ConfigDict(frozen=True)

    number: Count
    what: ShortText
    state: Literal["scheduled", "in force", "releasing", "released"]
    since: Instant
    by: ShortText
    reason: ShortText | None = None
    rate: ShortText | None = None


class CampaignStatus(BaseModel):
    """How far a campaign is: of `total` processings, how many have ended, and how."""

    model_config = ConfigDict(frozen=True)

    number: int
    name: ShortText | None = None
    state: ShortText
    total: Count
    made: Count
    failed: Count
    skipped: Count
    cancelled: Count
    estimated_end: Instant | None = None


class GraphInForce(BaseModel):
    """A version of the product graph that was put in force."""

    model_config = ConfigDict(frozen=True)

    number: Count
    digest: ShortText
    by: LongText
    note: LongText | None = None


class CircuitChange(BaseModel):
    """That an address of a provider is left alone because it keeps failing, or is no longer.

    `retry_at` is from when it is tried again; `lost` whether it is taken for lost.
    """

    model_config = ConfigDict(frozen=True)

    provider: ServiceName
    instance: LongText
    state: Literal["open", "closed"]
    since: Instant | None = None
    retry_at: Instant | None = None
    reason: LongText | None = None
    lost: bool = False


class StaleProduct(BaseModel):
    """A product of an observation that is stale `since` then, and why."""

    model_config = ConfigDict(frozen=True)

    product: Name
    obs_id: Name
    since: Instant
    because: str


class Activity(BaseModel):
    """The data of ``activity.*``: a service's status, and what it tells besides.

    That is a processing whose record changed, a product that is late or stale, a hold that changed,
    an approval, how a campaign is, a graph that was put in force, or a provider that is left alone.
    """

    model_config = ConfigDict(frozen=True)

    service: ServiceStatus
    processing: Processing | None = None
    late: LateProduct | None = None
    hold: HoldChange | None = None
    approval: ApprovalNews | None = None
    campaign: CampaignStatus | None = None
    graph: GraphInForce | None = None
    circuit: CircuitChange | None = None
    stale: StaleProduct | None = None

    @model_validator(mode="after")
    def _require_pipeline_state(self) -> Self:
        processing = self.processing
        if self.service.kind == "pipeline" and processing and processing.state not in AT_PIPELINE:
            raise ValueError(f"state {processing.state!s} (accepted: {', '.join(AT_PIPELINE)})")
        return self


class CloudEvent(BaseModel):
    """The envelope that Batuta writes: CloudEvents 1.0, structured mode, JSON format."""

    model_config = ConfigDict(frozen=True)

    specversion: Literal["1.0"] = "1.0"
    id: Attribute
    source: Attribute
    type: Attribute
    time: datetime
    datacontenttype: Literal["application/json"] = "application/json"
    data: dict[str, Any]

    def encode(self) -> bytes:
        """Return the event as UTF-8 JSON."""
        return self.model_dump_json().encode()


class Envelope(BaseModel):
    """The envelope that Batuta reads: the attributes that it needs, whatever the others are."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    specversion: Literal["1.0"]
    id: Attribute
    source: Attribute
    type: Attribute
    time: Any = None
    data: Any = None
    data_base64: Base64Bytes | None = None


def data_event(news: DataEvent, source: str, event_id: str | None = None) -> CloudEvent:
    """Wrap an announcement of a product; a fixed `event_id` lets NATS drop a repeat."""
    kind = WITHDRAWN_TYPE if isinstance(news, DataWithdrawn) else DATA_TYPE
    return _wrap(news, source, kind, event_id)


def data_of_type(kind: str, data: Any) -> DataEvent:
    """Return the data of an event of ``data.*`` whose type is `kind`.

    Raises
    ------
    MalformedEventError
        If there is no such type, or its data are others.
    """
    model = _DATA_MODELS.get(kind)
    if model is None:
        raise _unknown_type(kind, _DATA_MODELS)
    try:
        return model.model_validate(data)
    except ValidationError as exc:
        raise MalformedEventError(_describe_validation_error(exc)) from exc


def activity_event(activity: Activity) -> CloudEvent:
    """Wrap the activity of a service."""
    return _wrap(activity, activity.service.name, ACTIVITY_TYPE, None)


def _wrap(data: BaseModel, source: str, kind: str, event_id: str | None) -> CloudEvent:
    return CloudEvent(
        id=event_id or uuid.uuid4().hex,
        source=f"/batuta/{source}",
        type=kind,
        time=utc_now(),
        data=data.model_dump(mode="json", exclude_none=True, by_alias=True),
    )


def decode_data(payload: bytes) -> DataEvent:
    """Decode a ``data.*`` message: a CloudEvent, or a bare ``{"product", "obs_id"}``.

    Raises
    ------
    MalformedEventError
        If it is neither.
    """
    opened = _opened(payload, DATA_TYPE)
    return data_of_type(opened.kind, opened.data)


def read_notification(payload: bytes) -> Notification:
    """Decode a ``data.*`` message as `decode_data` does; what cannot be decoded has a problem."""
    event_id = None
    try:
        opened = _opened(payload, DATA_TYPE)
        event_id = opened.id
        event = data_of_type(opened.kind, opened.data)
        return Notification(event_id, event, time=_seconds(opened.time))
    except MalformedEventError as exc:
        return Notification(event_id, None, str(exc))


def decode_activity(payload: bytes) -> Activity:
    """Decode an ``activity.*`` message.

    Raises
    ------
    MalformedEventError
        If it is not an `Activity` in a CloudEvent.
    """
    opened = _opened(payload, ACTIVITY_TYPE)
    if opened.kind != ACTIVITY_TYPE:
        raise _unknown_type(opened.kind, [ACTIVITY_TYPE])
    try:
        return Activity.model_validate(opened.data)
    except ValidationError as exc:
        raise MalformedEventError(_describe_validation_error(exc)) from exc


@dataclass(frozen=True, slots=True)
class _Opened:
    kind: str
    data: Any
    id: str | None = None
    time: Any = None


def _seconds(time: Any) -> float | None:
    """Return the time of an envelope, in seconds since 1970; None if it is none.

    What an event is about does not depend on it: a sender whose clock or spelling is wrong must
    not have its news refused. A leap second is taken for the one before it.
    """
    if not isinstance(time, str):
        return None
    try:
        read = datetime.fromisoformat(_LEAP_SECOND.sub(r"\g<1>59", time))
    except ValueError:
        return None
    return None if read.tzinfo is None else read.timestamp()


_LEAP_SECOND: Final = re.compile(r"^([^.]*:\d\d:)60")


def _opened(payload: bytes, bare: str) -> _Opened:
    """Open the envelope of an event; what has none is of the type `bare`."""
    document = _parse(payload)
    if not (isinstance(document, dict) and "specversion" in document):
        return _Opened(bare, document)
    try:
        envelope = Envelope.model_validate(document)
    except ValidationError as exc:
        raise MalformedEventError(_describe_validation_error(exc)) from exc
    if envelope.data_base64 is not None:
        return _Opened(envelope.type, _parse(envelope.data_base64), envelope.id, envelope.time)
    return _Opened(envelope.type, envelope.data, envelope.id, envelope.time)


def _unknown_type(kind: str, accepted: Iterable[str]) -> MalformedEventError:
    """Return the refusal of an event of another type: it may say the opposite."""
    return MalformedEventError(
        f"type {kind!r:.200}: not read here (accepted: {', '.join(accepted)})"
    )


def _parse(payload: bytes) -> Any:
    try:
        return from_json(payload, allow_inf_nan=False)
    except ValueError as exc:
        raise MalformedEventError(f"Invalid JSON: {exc}") from exc


def _describe_validation_error(exc: ValidationError) -> str:
    parts = []
    for error in exc.errors(include_url=False):
        where = ".".join(str(step) for step in error["loc"])
        statement = statement_of(error)
        parts.append(f"{where}: {statement}" if where else statement)
    return "; ".join(parts)
