"""The events of a run, and the observers that receive them.

Observers are called in the thread that saves tiles, one event at a time, in order. No tile is
saved meanwhile: an observer should return quickly. An exception that it raises ends the run.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol, TypeAlias


class TileOutcome(StrEnum):
    """What became of a tile."""

    SAVED = "saved"
    REPLACED = "replaced"
    COMPUTED = "computed"
    EMPTY = "empty"
    """Its task returned None."""


@dataclass(frozen=True)
class RunStarted:
    """A run starts: one for each `breakpoint`, and one at the end of the block."""

    total: int


@dataclass(frozen=True)
class TileDone:
    """A tile was computed, and saved or replaced where requested."""

    dataset_name: str
    row: int
    col: int
    outcome: TileOutcome


@dataclass(frozen=True)
class TileKept:
    """A tile was done by an earlier run (`resume`), and is not computed again."""

    dataset_name: str
    row: int
    col: int
    outcome: TileOutcome


@dataclass(frozen=True)
class TileRetried:
    """A tile failed, and will be computed once more after the others."""

    dataset_name: str
    row: int
    col: int
    cause: str


@dataclass(frozen=True)
class TileFailed:
    """A tile is missing for good."""

    dataset_name: str
    row: int
    col: int
    cause: str


@dataclass(frozen=True)
class WorkersPresent:
    """The number of workers changed, in the modes on dask, where workers join and leave."""

    present: int
    asked: int | None
    """Number of workers requested; None in a cluster that others manage."""
    waiting_for: str
    """Why workers are missing, as the batch system says; empty when nothing is known."""


@dataclass(frozen=True)
class RunEnded:
    """The last event of a run; `done + failed < total` if it was interrupted."""

    done: int
    failed: int
    total: int


Event: TypeAlias = (
    RunStarted | TileDone | TileKept | TileRetried | TileFailed | WorkersPresent | RunEnded
)


class Observer(Protocol):
    """An object that is called with each event."""

    def on_event(self, event: Event) -> None:
        """Handle an event."""


@dataclass(frozen=True)
class Progress:
    """The number of tiles done and of all tiles, over all runs of an orchestrator.

    Keep it up to date by ``progress = progress.after(event)`` for each event.
    """

    done: int = 0
    total: int = 0

    def after(self, event: Event) -> "Progress":
        """Return the progress after `event`."""
        if isinstance(event, RunStarted):
            return Progress(self.done, self.total + event.total)
        if isinstance(event, TileDone | TileKept):
            return Progress(self.done + 1, self.total)
        return self
