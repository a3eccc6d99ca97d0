"""The record of a processing, as all services and events show it."""

import re
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Final

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from batuta.clock import now_s
from batuta.errors import printable, shortened


class ProcessingState(StrEnum):
    """The state of a processing.

    A pipeline uses `QUEUED`, `RUNNING`, `SUCCEEDED`, `FAILED` and `CANCELLED`; only the conductor
    uses `UNAPPROVED`, `WAITING`, `REQUESTED`, `RETRYING` and `HELD`.
    """

    UNAPPROVED = "unapproved"
    """Claimed; waiting for a person's approval."""
    WAITING = "waiting"
    """Claimed; waiting for its turn, for an optional input, or for capacity at its provider."""
    REQUESTED = "requested"
    """Being sent to its provider, or sent and not answered yet."""
    QUEUED = "queued"
    RUNNING = "running"
    RETRYING = "retrying"
    """Failed; will be requested again at a known time."""
    HELD = "held"
    """Kept back by an operator."""
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def ended(self) -> bool:
        """Whether the state is final unless a person intervenes."""
        return self in _ENDED


AT_PIPELINE = (
    ProcessingState.QUEUED,
    ProcessingState.RUNNING,
    ProcessingState.SUCCEEDED,
    ProcessingState.FAILED,
    ProcessingState.CANCELLED,
)
"""The states that a pipeline may publish; the others are the conductor's."""

_ENDED = frozenset({ProcessingState.SUCCEEDED, ProcessingState.FAILED, ProcessingState.CANCELLED})


MAX_COUNT: Final = 2**31 - 1

Count = Annotated[int, Field(ge=0, le=MAX_COUNT)]
"""A number that fits an INTEGER column of every supported database."""

MAX_ERROR_LENGTH: Final = 4000

Text = Annotated[str, AfterValidator(printable)]
"""Text that every database can store and every terminal can print, others escaped."""

ShortText = Annotated[Text, StringConstraints(max_length=500)]

LongText = Annotated[Text, StringConstraints(max_length=4000)]

ErrorText = Annotated[Text, AfterValidator(lambda text: shortened(text, MAX_ERROR_LENGTH))]
"""What went wrong; a long one is cut in its middle, since events have a limited size."""


FIRST_INSTANT: Final = datetime(1970, 1, 1, tzinfo=UTC)
LAST_INSTANT: Final = datetime(2200, 1, 1, tzinfo=UTC)


def _check_instant(value: datetime) -> datetime:
    if value.tzinfo is None:
        raise ValueError("a time with its zone expected, such as 2026-11-28T12:00:00Z")
    if not FIRST_INSTANT <= value < LAST_INSTANT:
        raise ValueError("a time between 1970 and 2200 expected")
    return value.astimezone(UTC)


Instant = Annotated[datetime, AfterValidator(_check_instant)]
"""A time that every clock and database of an orchestra can represent, in UTC."""


def instant_of(seconds: float) -> datetime:
    """Return a recorded time, in seconds since 1970, as an `Instant`.

    What an earlier version recorded of a wrong clock is moved into the accepted range: one row
    must not make a whole list unreadable.
    """
    if not seconds > FIRST_INSTANT.timestamp():  # NaN too
        return FIRST_INSTANT
    return datetime.fromtimestamp(min(seconds, LAST_INSTANT.timestamp() - 1), UTC)


class Progress(BaseModel):
    """How many tiles, or other steps, are done out of how many."""

    model_config = ConfigDict(frozen=True)

    done: Count = 0
    total: Count = 0


class Processing(BaseModel):
    """The record of one processing, as in REST bodies and ``activity.*`` events.

    Times are UTC. `error` states in one line what failed and why. `profile` is the location of
    the profile of the last attempt, or None if it has no profile. `code` is the version of the code
    that the last attempt ran, where its pipeline knows it.
    """

    model_config = ConfigDict(frozen=True)

    id: ShortText
    product: str
    obs_id: str
    state: ProcessingState
    attempt: Count = 1
    progress: Progress = Progress()
    error: ErrorText | None = None
    started: Instant | None = None
    ended: Instant | None = None
    profile: ShortText | None = None
    code: ShortText | None = None


def attempt_id(processing_id: str, attempt: int) -> str:
    """Return the id of one attempt at a processing, for whoever does not count attempts."""
    return f"{processing_id}.{attempt}"


def split_attempt_id(text: str) -> tuple[str, int | None]:
    """Return the processing and the attempt that `text` names; any other id as it is, and None."""
    found = _ATTEMPT_ID.fullmatch(text)
    return (found["processing"], int(found["attempt"])) if found else (text, None)


_ATTEMPT_ID: Final = re.compile(
    r"(?P<processing>[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12})\.(?P<attempt>[1-9][0-9]{0,8})"
)


def utc_now() -> datetime:
    """Return the current time as an aware datetime in UTC."""
    return datetime.fromtimestamp(now_s(), UTC)
