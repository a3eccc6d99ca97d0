"""The record of a processing, as all services and events show it."""

from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field


class ProcessingState(StrEnum):
    """The state of a processing.

    A pipeline uses `QUEUED`, `RUNNING`, `SUCCEEDED`, `FAILED` and `CANCELLED`; only the conductor
    uses `WAITING`, `REQUESTED`, `RETRYING` and `HELD`.
    """

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


Count = Annotated[int, Field(ge=0, le=2**31 - 1)]
"""A number that fits an INTEGER column of every supported database."""

Text = Annotated[str, AfterValidator(lambda text: text.replace("\0", "\\0"))]
"""Text without NUL, which PostgreSQL cannot store."""


class Progress(BaseModel):
    """How many tiles, or other steps, are done out of how many."""

    model_config = ConfigDict(frozen=True)

    done: Count = 0
    total: Count = 0


class Processing(BaseModel):
    """The record of one processing, as in REST bodies and ``activity.*`` events.

    Times are UTC. `error` states in one line what failed and why. `profile` is the location of
    the profile of the last attempt, or None if it has no profile.
    """

    model_config = ConfigDict(frozen=True)

    id: Text
    product: str
    obs_id: str
    state: ProcessingState
    attempt: Count = 1
    progress: Progress = Progress()
    error: Text | None = None
    started: datetime | None = None
    ended: datetime | None = None
    profile: Text | None = None


def utc_now() -> datetime:
    """Return the current time as an aware datetime in UTC."""
    return datetime.now(UTC)
