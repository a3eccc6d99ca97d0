"""A processing as every service and every event shows it: one request to make one product."""

from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field


class ProcessingState(StrEnum):
    """Where a processing stands.

    At a pipeline it is one of `QUEUED`, `RUNNING`, `SUCCEEDED`, `FAILED`, `CANCELLED`; the
    conductor has `WAITING`, `REQUESTED`, `RETRYING` and `HELD` besides.
    """

    WAITING = "waiting"
    """Claimed; its turn, an optional input or a place at its provider has not come yet."""
    REQUESTED = "requested"
    """About to be sent, or sent and not answered yet."""
    QUEUED = "queued"
    RUNNING = "running"
    RETRYING = "retrying"
    """Failed, and to be requested again at a known time."""
    HELD = "held"
    """Kept back by an operator."""
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def ended(self) -> bool:
        """True when nothing more will happen unless a person asks."""
        return self in _ENDED


AT_PIPELINE = (
    ProcessingState.QUEUED,
    ProcessingState.RUNNING,
    ProcessingState.SUCCEEDED,
    ProcessingState.FAILED,
    ProcessingState.CANCELLED,
)
"""The states that a pipeline may tell; the others are the conductor's."""

_ENDED = frozenset({ProcessingState.SUCCEEDED, ProcessingState.FAILED, ProcessingState.CANCELLED})


Count = Annotated[int, Field(ge=0, le=2**31 - 1)]
"""A number that every database holds."""

Text = Annotated[str, AfterValidator(lambda text: text.replace("\0", "\\0"))]
"""PostgreSQL keeps no NUL."""


class Progress(BaseModel):
    """Tiles, or other steps, done out of a total."""

    model_config = ConfigDict(frozen=True)

    done: Count = 0
    total: Count = 0


class Processing(BaseModel):
    """One processing's record, as in REST bodies and ``activity.*`` events.

    Times are UTC. `error` is one line that says what failed, and why. `profile` tells where the
    profile of its last attempt is kept; None where there is none.
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
    """Tell the time, aware of being UTC."""
    return datetime.now(UTC)
