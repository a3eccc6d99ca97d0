"""How the conductor's records and the sdb differ, as values."""

from enum import StrEnum

from pydantic import BaseModel, ConfigDict

from batuta.stages import Stage


class DifferenceKind(StrEnum):
    """How the conductor and the sdb differ about a product of an observation."""

    NOT_ARCHIVED = "not archived"
    """The conductor has recorded a version that the sdb does not hold."""
    NOT_MADE = "not made"
    """A processing has succeeded whose product the sdb does not hold."""
    NOT_RECORDED = "not recorded"
    """The sdb holds a version that the conductor has not recorded."""
    WITHDRAWN = "withdrawn"
    """The conductor takes for available, or for made, a version that was withdrawn in the sdb."""


class Difference(BaseModel):
    """One difference; `recorded` and `archived` are the newest versions of each side.

    `stage` is that of `archived`, and `archived_by` the processing that made it; None if it tells
    none. Of a version that was withdrawn, `recorded` is that version, `archived` the newest that is
    left, and `processing_id` the processing that has made the withdrawn one and nothing since.
    """

    model_config = ConfigDict(frozen=True)

    kind: DifferenceKind
    product: str
    obs_id: str
    recorded: int | None = None
    archived: int | None = None
    archived_by: str | None = None
    processing_id: str | None = None
    provider: str | None = None
    reason: str | None = None
    stage: Stage | None = None
