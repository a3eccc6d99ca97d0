"""The rules by which old records are archived and dropped: the same words in every service.

What may be dropped is decided by functions of values, without database or clock; each service
has the work that carries it out.
"""

import math
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
)

from batuta.errors import describe_value
from batuta.messaging.subjects import ACTIVITY_STREAM, DATA_STREAM, DEAD_STREAM

DAY_S: Final = 86_400.0
NEVER: Final = "never"
PRUNE_INTERVAL_S: Final = DAY_S
"""How often a service looks for what is old enough, in seconds; first at its start."""


def _days(value: object) -> float:
    if value == NEVER:
        return math.inf
    try:
        # A truth is a number in Python, and none that anyone means.
        days = math.nan if isinstance(value, bool) else float(value)  # type: ignore[arg-type]  # tried
    except (TypeError, ValueError):
        days = math.nan
    if not days > 0:
        given = describe_value(value)
        raise ValueError(f"{given}: a number of days above 0, or {NEVER}, expected")
    return days


def _as_written(days: float) -> float | str:
    return NEVER if math.isinf(days) else days


Days = Annotated[float, BeforeValidator(_days), PlainSerializer(_as_written)]
"""A duration in days; infinite, and written ``never``, for what is not to happen."""


class RetentionRules(BaseModel):
    """How long records stay in a service's database, and where they go; see the fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    finished_days: Days = Field(
        math.inf,
        description="Days after which the records of what has succeeded are dropped, or never.",
    )
    failed_days: Days = Field(
        math.inf,
        description="Days after which the records of what has failed, or was cancelled, are "
        "dropped, or never.",
    )
    archive: Path | None = Field(
        None,
        description="Folder of the files that records are written to before they are dropped; "
        "without it, they are in no file.",
    )

    @property
    def drops(self) -> bool:
        """Whether anything is ever dropped."""
        return not math.isinf(min(self.finished_days, self.failed_days))

    def cutoff(self, now: float, *, succeeded: bool) -> float:
        """Return the time, in seconds, before which records are old enough to be dropped.

        Parameters
        ----------
        now : float
            Seconds since 1970.
        succeeded : bool
            Whether all that they tell of has succeeded.
        """
        return now - DAY_S * (self.finished_days if succeeded else self.failed_days)

    def latest_cutoff(self, now: float) -> float:
        """Return the time after which nothing is old enough, whatever became of it."""
        return now - DAY_S * min(self.finished_days, self.failed_days)


def _day_at_least(days: float) -> float:
    if days < 1:
        raise ValueError(f"{days:g}: at least 1 day, or {NEVER}, expected")
    return days


StreamDays = Annotated[Days, AfterValidator(_day_at_least)]
"""A duration in days, one at least: NATS recognises repeats by what it has stored lately."""


class StreamRules(BaseModel):
    """How much the streams hold, the oldest going first; what is not given stays as it is."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    data_days: StreamDays | None = Field(
        None, description="Days after which announcements go, or never."
    )
    data_messages: int | None = Field(None, ge=1, description="Announcements at most.")
    activity_days: StreamDays | None = Field(
        None, description="Days after which activity goes, or never."
    )
    activity_mb: int | None = Field(None, ge=1, description="Activity at most, in MB of 2**20.")
    dead_days: StreamDays | None = Field(
        None, description="Days after which dead letters go, or never."
    )
    dead_mb: int | None = Field(None, ge=1, description="Dead letters at most, in MB of 2**20.")

    def bounds(self) -> dict[str, dict[str, float | int]]:
        """Return the bounds of each stream that are given, by the names of NATS."""
        found: dict[str, dict[str, float | int]] = {}
        for stream, prefix in _STREAMS.items():
            for suffix, name, unit in _BOUNDS:
                value = getattr(self, f"{prefix}_{suffix}", None)
                if value is not None:
                    bound = 0 if math.isinf(value) else value * unit  # 0 is no bound
                    found.setdefault(stream, {})[name] = bound
        return found


_STREAMS: Final = {DATA_STREAM: "data", ACTIVITY_STREAM: "activity", DEAD_STREAM: "dead"}
_BOUNDS: Final = (
    ("days", "max_age", DAY_S),
    ("messages", "max_msgs", 1),
    ("mb", "max_bytes", 2**20),
)


class PruneReport(BaseModel):
    """What a service has dropped, or would drop now.

    Attributes
    ----------
    service : str
        Its name.
    rules : RetentionRules
        Its rules.
    applied : bool
        Whether it was dropped.
    observations : int or None
        Observations of which it was everything; None where records are dropped one by one.
    processings : int
        Records of processings.
    archive : list of str
        The files that they are in, relative to the folder of the archive.
    free_bytes : int or None
        Free space in the file of its database, which new records use; None where the database
        server looks after it.
    """

    service: str
    rules: RetentionRules
    applied: bool
    observations: int | None = None
    processings: int = 0
    archive: list[str] = []
    free_bytes: int | None = None


def archived_note(archived_at: float, file: str | None) -> str:
    """Return what is said of a record that was dropped at a time, to a file or to none."""
    day = datetime.fromtimestamp(archived_at, UTC).date().isoformat()
    if file is None:
        return f"its record was dropped on {day}"
    return f"its record was archived on {day}, in {file}"
