"""What tile size the measures call for."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

from batuta.profiling.analysis.advice.model import Advice
from batuta.profiling.analysis.formatting import (
    bytes_text,
    counted,
    seconds_text,
    share_text,
)
from batuta.profiling.analysis.tiles import TileGrid

AROUND: Final = 0.25
"""Tasks are too short where what is around them takes more than this share of their time."""
AROUND_WANTED: Final = 0.10
SHORT_S: Final = 1.0
"""Around longer tasks it is not their number that costs."""
IDLE: Final = 0.15
"""Tiles are too few where workers idle this share of the run at its end."""
PER_WORKER: Final = 4
"""Tiles that each worker should have, at least, so that all end at about the same time."""
MEMORY_USED: Final = 0.8
"""Of the limit, at most, with the tile size that is proposed."""
_LARGER: Final = (2, 3, 4, 6, 8, 12, 16)
_SMALLER: Final = (1.5, 2, 3, 4, 6, 8)


@dataclass(frozen=True, kw_only=True)
class TileCosts:
    """What the tile size depends on."""

    workers: int
    tasks: int
    """Attempts that ran."""
    work_s: float
    """Of all tasks."""
    around_s: float
    """Between tasks, while some could have run."""
    idle_at_end: float
    """Share of the run that workers idled at its end, or had no task at all."""
    peak_bytes: int
    limit_bytes: int | None


def advise_tile_size(grids: tuple[TileGrid, ...], costs: TileCosts) -> Advice | None:
    """Propose larger or smaller tiles for the dataset that took most; None if there is none.

    Smaller ones where workers hold more than they may; larger ones where tasks are so short that
    what is around them costs more than a quarter of their time; smaller ones where workers idle
    at the end for want of tiles.
    """
    if not grids:
        return None
    grid = grids[0]
    found = (
        _for_memory(grid, costs) or _for_short_tasks(grid, costs) or _for_idle_workers(grid, costs)
    )
    return found or _advice(grid, None, _no_reason(grid, costs))


def _for_memory(grid: TileGrid, costs: TileCosts) -> Advice | None:
    limit = costs.limit_bytes
    if limit is None or costs.peak_bytes <= limit:
        return None
    by = _first(f for f in _SMALLER if costs.peak_bytes / f**2 <= MEMORY_USED * limit)
    by = by or _SMALLER[-1]
    return _advice(
        grid,
        1 / by,
        f"A worker held {bytes_text(costs.peak_bytes)}, over its {bytes_text(limit)}. If memory"
        f" goes with the area of a tile, tiles {by:g} times smaller each way hold"
        f" {bytes_text(costs.peak_bytes / by**2)}; more memory for each worker is the other way.",
    )


def _for_short_tasks(grid: TileGrid, costs: TileCosts) -> Advice | None:
    mean_s, around_s = costs.work_s / costs.tasks, costs.around_s / costs.tasks
    if mean_s >= SHORT_S or around_s <= AROUND * mean_s:
        return None
    facts = (
        f"A task takes {seconds_text(mean_s)} on average, and {seconds_text(around_s)} pass before"
        " the next although one could run"
    )
    wanted = _first(f for f in _LARGER if around_s <= AROUND_WANTED * mean_s * f**2)
    possible = [f for f in _LARGER if _fits(grid, costs, f) and f <= (wanted or _LARGER[-1])]
    if not possible:
        return _advice(grid, None, f"{facts}; but there are only {counted(grid.ran, 'tile')}.")
    by = possible[-1]
    return _advice(
        grid,
        float(by),
        f"{facts}. With tiles {by} times larger each way, {counted(_left(grid, by), 'tile')} are"
        f" left, and that is {share_text(around_s / (mean_s * by**2))} of their time rather than"
        f" {share_text(around_s / mean_s)}.",
    )


def _fits(grid: TileGrid, costs: TileCosts, by: int) -> bool:
    """Whether larger tiles leave enough of them for the workers, and memory for each."""
    limit = costs.limit_bytes
    roomy = limit is None or costs.peak_bytes * by**2 <= MEMORY_USED * limit
    return roomy and _left(grid, by) >= PER_WORKER * costs.workers


def _left(grid: TileGrid, by: int) -> int:
    return int(np.ceil(grid.ran / by**2))


def _for_idle_workers(grid: TileGrid, costs: TileCosts) -> Advice | None:
    if costs.workers == 1 or costs.idle_at_end < IDLE:
        return None
    longest_s = float(np.nanmax(grid.wall_s))
    share_s = grid.total_s / costs.workers
    uneven = longest_s > share_s / 2
    if not uneven and grid.ran >= PER_WORKER * costs.workers:
        return None
    by = _first(f for f in _SMALLER[1:] if _even(grid, costs, f)) or _SMALLER[-1]
    slowest = grid.slowest(1)[0]
    facts = f"At the end, workers idle {share_text(costs.idle_at_end)} of the run's time. "
    median_s = float(np.nanmedian(grid.wall_s))
    if grid.ran >= PER_WORKER * costs.workers:
        facts += (
            f"Tile ({slowest.row}, {slowest.col}) takes {seconds_text(longest_s)}, most tiles"
            f" {seconds_text(median_s)}"
        )
    else:
        facts += f"There are {counted(grid.ran, 'tile')} for {counted(costs.workers, 'worker')}"
    around_s = costs.around_s / costs.tasks
    if around_s > AROUND * costs.work_s / costs.tasks / by**2:
        return _advice(grid, None, f"{facts}; but smaller ones cost more than they would gain.")
    return _advice(grid, 1 / by, f"{facts}; tiles {by:g} times smaller each way share out better.")


def _even(grid: TileGrid, costs: TileCosts, by: float) -> bool:
    """Whether tiles so much smaller are enough for all workers, none of them for too long."""
    tiles = grid.ran * by**2
    longest_s = float(np.nanmax(grid.wall_s)) / by**2
    return tiles >= PER_WORKER * costs.workers and longest_s <= grid.total_s / costs.workers / 2


def _no_reason(grid: TileGrid, costs: TileCosts) -> str:
    around = costs.around_s / costs.work_s if costs.work_s > 0 else 0.0
    return (
        f"{counted(grid.ran, 'tile')} for {counted(costs.workers, 'worker')}; between tasks that"
        f" could run, {share_text(around)} of their time passes; at the end, workers idle"
        f" {share_text(costs.idle_at_end)} of the run's time."
    )


def _advice(grid: TileGrid, factor: float | None, reason: str) -> Advice:
    px = grid.tile_px
    values: tuple[float, ...] = ()
    proposed = None
    if factor is not None:
        values = tuple(float(_rounded(side * factor)) for side in px) if px else ()
        times = f"{factor:g} times larger" if factor > 1 else f"{1 / factor:g} times smaller"
        proposed = _px_text(values) if values else f"{times} each way"
    return Advice(
        subject=f"tile size of {grid.dataset}",
        current=_px_text(px) if px else None,
        proposed=proposed,
        values=values,
        reason=reason,
    )


def _rounded(px: float) -> int:
    """A whole number of blocks of 16 px, which is what TIFF files have."""
    return max(16, round(px / 16) * 16) if px >= 32 else max(1, round(px))


def _px_text(px: tuple[float, ...]) -> str:
    return " x ".join(f"{side:.0f}" for side in px) + " px"


def _first(factors: Iterator[float]) -> float | None:
    return next(factors, None)
