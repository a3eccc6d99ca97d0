"""The events of a run, and the observers that receive them.

Observers are called in the thread that saves tiles, one event at a time, in order. No tile is
saved meanwhile: an observer should return quickly. An exception that it raises ends the run.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol, TypeAlias


class TileOutcome(StrEnum):
    """What became of a tile."""

    SAVED = "saved"
    REPLACED = "replaced"
    COMPUTED = "computed"
    EMPTY = "empty"
    """Its task returned None."""


@dataclass(frozen=True, eq=False)
class TileLayout:
    """Where the tiles of a dataset lie."""

    dataset_name: str
    rows: int
    cols: int
    present: bytes
    """For each cell, row by row: 1 where it has a tile, 0 where it is empty."""
    windows: Any
    """The dataset's `tiling_grid`: of shape (rows, columns, 4), the first row of pixels of each
    tile, the end of its rows, its first column and the end of its columns. None without one."""


@dataclass(frozen=True)
class RunStarted:
    """A run starts: one for each `breakpoint`, and one at the end of the block."""

    total: int
    layouts: tuple[TileLayout, ...] = ()
    """Of each dataset, in the order of their registration."""


@dataclass(frozen=True)
class TileStarted:
    """A worker computes a tile.

    Workers are looked at twenty times a second: what takes less may be done without having been
    seen to start. A tile of several tasks that run on several workers starts on each. The modes on
    dask do not report it.
    """

    dataset_name: str
    row: int
    col: int
    worker: str


@dataclass(frozen=True)
class TileDone:
    """A tile was computed, and saved or replaced where requested.

    What it took is None where it is not known: in the modes on dask, which measure tasks later,
    and in the sequential mode without `resume`.
    """

    dataset_name: str
    row: int
    col: int
    outcome: TileOutcome
    worker: str | None = None
    """The one that ran its last task."""
    wall_s: float | None = None
    """The time of all its tasks."""
    peak_bytes: int | None = None
    """The highest memory of a worker during one of its tasks."""


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
    refused: bool = False
    """Whether it was computed, but is not what its dataset or its file expects (`TileError`)."""


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
    RunStarted
    | TileStarted
    | TileDone
    | TileKept
    | TileRetried
    | TileFailed
    | WorkersPresent
    | RunEnded
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
