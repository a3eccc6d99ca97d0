"""What an orchestrator tells while it computes, and to whom.

Observers are called in the thread that saves tiles, one event at a time, in order. They should
return quickly; what they raise ends the run.
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
    """Its task returned None: there is nothing there."""


@dataclass(frozen=True)
class RunStarted:
    """Tiles are going to be computed: one run for each `breakpoint`, and one at the end."""

    total: int


@dataclass(frozen=True)
class TileDone:
    """A tile was computed, and saved or replaced where asked."""

    dataset_name: str
    row: int
    col: int
    outcome: TileOutcome


@dataclass(frozen=True)
class TileKept:
    """A tile is there from an earlier run (`resume`), and is not computed again."""

    dataset_name: str
    row: int
    col: int
    outcome: TileOutcome


@dataclass(frozen=True)
class TileRetried:
    """A tile failed, and is computed once more after the others."""

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
    """Workers came or went, where they are waited for: jobs of a batch system, dask's workers."""

    present: int
    asked: int | None
    """None where others decide how many there are."""
    waiting_for: str
    """What keeps those that are not there; empty when nothing is known."""


@dataclass(frozen=True)
class RunEnded:
    """Nothing more comes from this run; `done + failed < total` where it was interrupted."""

    done: int
    failed: int
    total: int


Event: TypeAlias = (
    RunStarted | TileDone | TileKept | TileRetried | TileFailed | WorkersPresent | RunEnded
)


class Observer(Protocol):
    """Whoever wants to know."""

    def on_event(self, event: Event) -> None:
        """Take an event."""


@dataclass(frozen=True)
class Progress:
    """How many tiles are done, of how many; over all runs of an orchestrator.

    ``progress = progress.after(event)`` for each event keeps it true.
    """

    done: int = 0
    total: int = 0

    def after(self, event: Event) -> "Progress":
        """Return the progress once `event` has happened."""
        if isinstance(event, RunStarted):
            return Progress(self.done, self.total + event.total)
        if isinstance(event, TileDone | TileKept):
            return Progress(self.done + 1, self.total)
        return self
