"""What tells, in the data folder of an orchestra, that it is being made from a backup."""

from datetime import datetime
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict, ValidationError

from batuta.errors import ConfigurationError

MARK: Final = "restore-under-way.json"
"""There until both databases are restored."""


class RestoreUnderWay(BaseModel):
    """What an orchestra is being made from.

    Its two databases cannot be written in one transaction: a restore that is killed in between is
    given again, and goes on. Until then the orchestra does not start, as a conductor without
    records would have all products made again.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str
    """The backup."""
    at: str | None
    """The moment that was asked for, as it was given."""
    taken: datetime
    """When the snapshot of the sdb was taken."""

    def __str__(self) -> str:
        at = "" if self.at is None else f" --at {self.at}"
        return (
            f"a restore was interrupted (accepted: batuta restore {self.source}{at}; or remove"
            f" what was restored, and {MARK} last)"
        )


def read_mark(data_dir: Path) -> RestoreUnderWay | None:
    """Return what is being restored into a data folder; None if nothing is.

    Raises
    ------
    ConfigurationError
        If the mark is damaged.
    """
    mark = data_dir / MARK
    try:
        return RestoreUnderWay.model_validate_json(mark.read_bytes())
    except FileNotFoundError:
        return None
    except ValidationError as exc:
        raise ConfigurationError(
            f"{mark}: damaged (accepted: remove what was restored, and this file last)"
        ) from exc


def refuse_interrupted(data_dir: Path) -> None:
    """Refuse a data folder into which a restore was interrupted.

    Raises
    ------
    ConfigurationError
        With what it was restored from.
    """
    begun = read_mark(data_dir)
    if begun is not None:
        raise ConfigurationError(f"data_dir {data_dir}: {begun}")
