"""JSON documents of a profile, and of the comparison of two."""

from dataclasses import asdict
from typing import Any

from batuta.profiling.analysis.analyse import ProfileAnalysis
from batuta.profiling.analysis.compare import MetricPair, compare
from batuta.profiling.analysis.tiles import TileGrid

_SLOWEST = 10


def profile_document(analysis: ProfileAnalysis) -> dict[str, Any]:
    """Return the analysis of a profile as JSON: durations in s, memory in bytes, Unix times."""
    run = analysis.run
    return {
        "folder": str(analysis.folder),
        "state": run.state.value,
        "ended": analysis.ended,
        "error": run.error,
        "mode": run.mode,
        "host": run.host,
        "begin_s": analysis.begin_s,
        "span_s": analysis.span_s,
        "workers": analysis.workers,
        "worker_limit_bytes": run.worker_limit_bytes,
        "tiles": {"total": run.tiles_total, "done": run.tiles_done, "kept": run.tiles_kept},
        "advice": [asdict(one) for one in analysis.advice],
        "lost": asdict(analysis.worker_time) | {"total_s": analysis.worker_time.total_s},
        "names": [asdict(one) for one in analysis.names],
        "lanes": [asdict(one) for one in analysis.lanes],
        "schedule": _schedule(analysis),
        "datasets": [_dataset(grid) for grid in analysis.tiles],
        "retried": [asdict(tile) for tile in run.retried],
        "failed": [asdict(tile) for tile in run.failed],
        "loops": [asdict(one) | {"leaks": one.leaks} for one in analysis.loops],
        "notes": list(run.notes),
    }


def comparison_document(first: ProfileAnalysis, second: ProfileAnalysis) -> dict[str, Any]:
    """Return the comparison of two profiles as JSON; each metric with its ratio."""
    comparison = compare(first, second)
    return {
        "first": str(first.folder),
        "second": str(second.folder),
        "differences": list(comparison.differences),
        "span_s": _pair(comparison.span_s),
        "worked_s": _pair(comparison.worked_s),
        "idle_s": _pair(comparison.idle_s),
        "peak_bytes": _pair(comparison.peak_bytes),
        "names": [
            {
                "name": one.name,
                "tasks": _pair(one.tasks),
                "total_s": _pair(one.total_s),
                "median_s": _pair(one.median_s),
                "peak_bytes": _pair(one.peak_bytes),
            }
            for one in comparison.names
        ],
        "only_first": [asdict(one) for one in comparison.only_first],
        "only_second": [asdict(one) for one in comparison.only_second],
    }


def _schedule(analysis: ProfileAnalysis) -> dict[str, Any]:
    schedule = analysis.schedule
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


def _pair(pair: MetricPair) -> dict[str, float | None]:
    return {"first": pair.first, "second": pair.second, "ratio": pair.ratio}
