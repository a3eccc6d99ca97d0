"""Advice on the tile size."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

from batuta.formatting import (
    format_bytes,
    format_count,
    format_percent,
    format_seconds,
)
from batuta.profiling.analysis.advice.model import Advice
from batuta.profiling.analysis.tiles import TileGrid

MAX_OVERHEAD: Final = 0.25
"""Tasks are too short where the overhead between them is more than this share of their time."""
TARGET_OVERHEAD: Final = 0.10
SHORT_TASK_S: Final = 1.0
"""Larger tiles are not proposed for longer tasks: their overhead is not due to their number."""
MAX_IDLE_AT_END: Final = 0.15
"""Tiles are too few, or too uneven, where workers are idle at the end for this share of the run."""
MIN_TILES_PER_WORKER: Final = 4
"""So that all workers end at about the same time."""
MAX_MEMORY_USE: Final = 0.8
"""Share of the memory limit that the proposed tile size may use."""
_LARGER: Final = (2, 3, 4, 6, 8, 12, 16)
_SMALLER: Final = (1.5, 2, 3, 4, 6, 8)


@dataclass(frozen=True, kw_only=True)
class TileCosts:
    """The measurements that the tile size is decided by."""

    workers: int
    tasks: int
    """Attempts that ran."""
    work_s: float
    """Of all tasks."""
    overhead_s: float
    """Idle between tasks although a task was ready to run."""
    idle_at_end: float
    """Share of the workers' time that was idle after their last task, or without any task."""
    peak_bytes: int
    limit_bytes: int | None


def advise_tile_size(grids: tuple[TileGrid, ...], costs: TileCosts) -> Advice | None:
    """Propose larger or smaller tiles for the dataset that took longest; None without datasets.

    Propose smaller tiles where a worker exceeded its memory limit, larger tiles where tasks are
    so short that the overhead between them is more than a quarter of their time, and smaller tiles
    where workers are idle at the end for lack of tiles.
    """
    if not grids:
        return None
    grid = grids[0]
    found = (
        _fit_memory(grid, costs) or _fewer_short_tasks(grid, costs) or _balance_workers(grid, costs)
    )
    return found or _advice(grid, None, _reason_to_keep(grid, costs))


def _fit_memory(grid: TileGrid, costs: TileCosts) -> Advice | None:
    limit = costs.limit_bytes
    if limit is None or costs.peak_bytes <= limit:
        return None
    by = _first(f for f in _SMALLER if costs.peak_bytes / f**2 <= MAX_MEMORY_USE * limit)
    by = by or _SMALLER[-1]
    return _advice(
        grid,
        1 / by,
        f"A worker held {format_bytes(costs.peak_bytes)}, over its {format_bytes(limit)}. If memory"
        f" is proportional to the area of a tile, tiles {by:g} times smaller in each direction need"
        f" {format_bytes(costs.peak_bytes / by**2)}. The alternative is more memory per worker.",
    )


def _fewer_short_tasks(grid: TileGrid, costs: TileCosts) -> Advice | None:
    mean_s, overhead_s = costs.work_s / costs.tasks, costs.overhead_s / costs.tasks
    if mean_s >= SHORT_TASK_S or overhead_s <= MAX_OVERHEAD * mean_s:
        return None
    facts = (
        f"A task takes {format_seconds(mean_s)} on average, and"
        f" {format_seconds(overhead_s)} pass before the next one although it could run"
    )
    wanted = _first(f for f in _LARGER if overhead_s <= TARGET_OVERHEAD * mean_s * f**2)
    possible = [f for f in _LARGER if _fits(grid, costs, f) and f <= (wanted or _LARGER[-1])]
    if not possible:
        return _advice(grid, None, f"{facts}; but there are only {format_count(grid.ran, 'tile')}.")
    by = possible[-1]
    return _advice(
        grid,
        float(by),
        f"{facts}. Tiles {by} times larger in each direction leave"
        f" {format_count(_tiles_left(grid, by), 'tile')} and bring this overhead from"
        f" {format_percent(overhead_s / mean_s)} of the tasks' time down to"
        f" {format_percent(overhead_s / (mean_s * by**2))}.",
    )


def _fits(grid: TileGrid, costs: TileCosts, by: int) -> bool:
    """Whether enough tiles are left for the workers, and each worker has memory for them."""
    limit = costs.limit_bytes
    roomy = limit is None or costs.peak_bytes * by**2 <= MAX_MEMORY_USE * limit
    return roomy and _tiles_left(grid, by) >= MIN_TILES_PER_WORKER * costs.workers


def _tiles_left(grid: TileGrid, by: int) -> int:
    return int(np.ceil(grid.ran / by**2))


def _balance_workers(grid: TileGrid, costs: TileCosts) -> Advice | None:
    if costs.workers == 1 or costs.idle_at_end < MAX_IDLE_AT_END:
        return None
    longest_s = float(np.nanmax(grid.wall_s))
    share_s = grid.total_s / costs.workers
    uneven = longest_s > share_s / 2
    if not uneven and grid.ran >= MIN_TILES_PER_WORKER * costs.workers:
        return None
    by = _first(f for f in _SMALLER[1:] if _even(grid, costs, f)) or _SMALLER[-1]
    slowest = grid.slowest(1)[0]
    facts = f"Workers are idle at the end for {format_percent(costs.idle_at_end)} of the run. "
    median_s = float(np.nanmedian(grid.wall_s))
    if grid.ran >= MIN_TILES_PER_WORKER * costs.workers:
        facts += (
            f"Tile ({slowest.row}, {slowest.col}) takes {format_seconds(longest_s)}, most tiles"
            f" {format_seconds(median_s)}"
        )
    else:
        tiles, workers = format_count(grid.ran, "tile"), format_count(costs.workers, "worker")
        facts += f"There are {tiles} for {workers}"
    overhead_s = costs.overhead_s / costs.tasks
    if overhead_s > MAX_OVERHEAD * costs.work_s / costs.tasks / by**2:
        return _advice(grid, None, f"{facts}; but smaller tiles would cost more than they gain.")
    return _advice(
        grid, 1 / by, f"{facts}; tiles {by:g} times smaller in each direction balance better."
    )


def _even(grid: TileGrid, costs: TileCosts, by: float) -> bool:
    """Whether smaller tiles occupy all workers, and none of the tiles takes too long."""
    tiles = grid.ran * by**2
    longest_s = float(np.nanmax(grid.wall_s)) / by**2
    return (
        tiles >= MIN_TILES_PER_WORKER * costs.workers
        and longest_s <= grid.total_s / costs.workers / 2
    )


def _reason_to_keep(grid: TileGrid, costs: TileCosts) -> str:
    overhead = costs.overhead_s / costs.work_s if costs.work_s > 0 else 0.0
    return (
        f"{format_count(grid.ran, 'tile')} for {format_count(costs.workers, 'worker')};"
        f" the overhead between tasks is {format_percent(overhead)} of their time;"
        f" workers are idle at the end for {format_percent(costs.idle_at_end)} of the run."
    )


def _advice(grid: TileGrid, factor: float | None, reason: str) -> Advice:
    px = grid.tile_px
    values: tuple[float, ...] = ()
    proposed = None
    if factor is not None:
        values = tuple(float(_rounded(side * factor)) for side in px) if px else ()
        times = f"{factor:g} times larger" if factor > 1 else f"{1 / factor:g} times smaller"
        proposed = _px_text(values) if values else f"{times} in each direction"
    return Advice(
        subject=f"tile size of {grid.dataset}",
        current=_px_text(px) if px else None,
        proposed=proposed,
        values=values,
        reason=reason,
    )


def _rounded(px: float) -> int:
    """Round to a multiple of 16 px, the block size unit of TIFF files."""
    return max(16, round(px / 16) * 16) if px >= 32 else max(1, round(px))


def _px_text(px: tuple[float, ...]) -> str:
    return " x ".join(f"{side:.0f}" for side in px) + " px"


def _first(factors: Iterator[float]) -> float | None:
    return next(factors, None)
