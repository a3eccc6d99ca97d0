"""A profile, and two of them compared, as documents for programs."""

from dataclasses import asdict
from typing import Any

from batuta.profiling.analysis.compare import Pair, compare
from batuta.profiling.analysis.figures import Figures
from batuta.profiling.analysis.tiles import TileGrid

_SLOWEST = 10


def profile_document(figures: Figures) -> dict[str, Any]:
    """Return the figures of a profile: times in s, memory in bytes, moments in Unix time."""
    run = figures.run
    return {
        "folder": str(figures.folder),
        "state": run.state.value,
        "ended": figures.ended,
        "error": run.error,
        "mode": run.mode,
        "host": run.host,
        "begin_s": figures.begin_s,
        "span_s": figures.span_s,
        "workers": figures.workers,
        "worker_limit_bytes": run.worker_limit_bytes,
        "tiles": {"total": run.tiles_total, "done": run.tiles_done, "kept": run.tiles_kept},
        "advice": [asdict(one) for one in figures.advice],
        "lost": asdict(figures.lost) | {"total_s": figures.lost.total_s},
        "names": [asdict(one) for one in figures.names],
        "lanes": [asdict(one) for one in figures.lanes],
        "schedule": _schedule(figures),
        "datasets": [_dataset(grid) for grid in figures.tiles],
        "retried": [tile.model_dump() for tile in run.retried],
        "failed": [tile.model_dump() for tile in run.failed],
        "loops": [asdict(one) | {"leaks": one.leaks} for one in figures.loops],
        "notes": list(run.notes),
    }


def comparison_document(first: Figures, second: Figures) -> dict[str, Any]:
    """Return two profiles compared; each pair of figures with the second over the first."""
    compared = compare(first, second)
    return {
        "first": str(first.folder),
        "second": str(second.folder),
        "differences": list(compared.differences),
        "span_s": _pair(compared.span_s),
        "worked_s": _pair(compared.worked_s),
        "idle_s": _pair(compared.idle_s),
        "peak_bytes": _pair(compared.peak_bytes),
        "names": [
            {
                "name": one.name,
                "tasks": _pair(one.tasks),
                "total_s": _pair(one.total_s),
                "median_s": _pair(one.median_s),
                "peak_bytes": _pair(one.peak_bytes),
            }
            for one in compared.names
        ],
        "only_first": [asdict(one) for one in compared.only_first],
        "only_second": [asdict(one) for one in compared.only_second],
    }


def _schedule(figures: Figures) -> dict[str, Any]:
    schedule = figures.schedule
    return asdict(schedule) | {"shared_s": schedule.shared_s}


def _dataset(grid: TileGrid) -> dict[str, Any]:
    return {
        "dataset": grid.dataset,
        "rows": grid.wall_s.shape[0],
        "cols": grid.wall_s.shape[1],
        "tile_px": grid.tile_px,
        "ran": grid.ran,
        "total_s": grid.total_s,
        "slowest": [asdict(tile) for tile in grid.slowest(_SLOWEST)],
    }


def _pair(pair: Pair) -> dict[str, float | None]:
    return {"first": pair.first, "second": pair.second, "ratio": pair.ratio}
