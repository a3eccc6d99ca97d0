"""What clusters tell of the tiles that their jobs compute: where one begins, and what it took.

A tile is whatever `Delayed.tile` holds; clusters only pass it on.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from batuta.profiling.capture.records import Measure


@dataclass(frozen=True, slots=True)
class TileStart:
    """A worker has begun a job that computes a tile."""

    tile: object
    worker: str


class TileCost(NamedTuple):
    """What a tile took, all of its jobs together."""

    worker: str
    """The one that ran the last job."""
    wall_s: float
    peak_bytes: int
    """The highest memory of a worker during one of its tasks."""


class TileCosts:
    """What tiles took, until their results are delivered.

    The thread of the scheduler adds the cost of a job before it queues the results; the thread of
    the program takes the cost of a tile after it has received its result. A tile is never added to
    and taken at the same time: no lock is needed.
    """

    def __init__(self) -> None:
        self._costs: dict[object, TileCost] = {}

    def add(self, tile: object, measures: Sequence[Measure], worker: str) -> None:
        """Add the measures of a job; a job that computes no tile counts for nothing."""
        if tile is None or not measures:
            return
        wall_s = sum(each.wall_s for each in measures)
        peak_bytes = max(each.peak_bytes for each in measures)
        if (before := self._costs.get(tile)) is not None:
            wall_s += before.wall_s
            peak_bytes = max(peak_bytes, before.peak_bytes)
        self._costs[tile] = TileCost(worker, wall_s, peak_bytes)

    def take(self, tile: object) -> TileCost | None:
        """Return what a tile took, and forget it; None where nothing measured it."""
        return self._costs.pop(tile, None)
