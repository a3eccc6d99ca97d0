"""Compare the time and memory of two runs."""

from collections.abc import Iterator
from dataclasses import dataclass

from batuta.formatting import format_bytes
from batuta.profiling.analysis.analyse import ProfileAnalysis
from batuta.profiling.analysis.attempts import TaskNameStats
from batuta.profiling.files.run_info import RunInfo


@dataclass(frozen=True)
class MetricPair:
    """One metric of both runs."""

    first: float
    second: float

    @property
    def ratio(self) -> float | None:
        """Second over first; None where the first is 0."""
        return self.second / self.first if self.first else None


@dataclass(frozen=True, kw_only=True)
class TaskNameComparison:
    """Tasks of one name in both runs."""

    name: str
    tasks: MetricPair
    total_s: MetricPair
    median_s: MetricPair
    peak_bytes: MetricPair


@dataclass(frozen=True, kw_only=True)
class RunComparison:
    """Two runs."""

    span_s: MetricPair
    worked_s: MetricPair
    idle_s: MetricPair
    peak_bytes: MetricPair
    names: tuple[TaskNameComparison, ...]
    """In both runs, the largest change of total time first."""
    only_first: tuple[TaskNameStats, ...]
    only_second: tuple[TaskNameStats, ...]
    differences: tuple[str, ...]
    """Other differences, a line each: the runs may not be comparable."""


def compare(first: ProfileAnalysis, second: ProfileAnalysis) -> RunComparison:
    """Compare two runs by the names of their tasks."""
    firsts = {name.name: name for name in first.names}
    seconds = {name.name: name for name in second.names}
    both = [_compare_name(firsts[name], seconds[name]) for name in firsts if name in seconds]
    return RunComparison(
        span_s=MetricPair(first.span_s, second.span_s),
        worked_s=MetricPair(first.worker_time.worked_s, second.worker_time.worked_s),
        idle_s=MetricPair(first.worker_time.idle_s, second.worker_time.idle_s),
        peak_bytes=MetricPair(first.peak_bytes, second.peak_bytes),
        names=tuple(sorted(both, key=lambda one: -abs(one.total_s.second - one.total_s.first))),
        only_first=tuple(one for one in first.names if one.name not in seconds),
        only_second=tuple(one for one in second.names if one.name not in firsts),
        differences=tuple(_differences(first, second)),
    )


def _compare_name(first: TaskNameStats, second: TaskNameStats) -> TaskNameComparison:
    return TaskNameComparison(
        name=first.name,
        tasks=MetricPair(first.tasks, second.tasks),
        total_s=MetricPair(first.total_s, second.total_s),
        median_s=MetricPair(first.median_s, second.median_s),
        peak_bytes=MetricPair(first.peak_bytes, second.peak_bytes),
    )


def _differences(first: ProfileAnalysis, second: ProfileAnalysis) -> Iterator[str]:
    for what, one, other in _facts(first, second):
        if one != other:
            yield f"{what}: {one}, then {other}"
    yield from _grid_differences(first.run, second.run)


def _facts(first: ProfileAnalysis, second: ProfileAnalysis) -> Iterator[tuple[str, object, object]]:
    yield "state", first.run.state.value, second.run.state.value
    yield "mode", first.run.mode, second.run.mode
    yield "workers", first.workers, second.workers
    yield "max_ram_per_worker", _limit(first.run), _limit(second.run)
    yield "tiles", first.run.tiles_total, second.run.tiles_total
    yield "tiles kept from an earlier run", first.run.tiles_kept, second.run.tiles_kept
    yield "host", first.run.host, second.run.host
    yield "cores", first.run.cores, second.run.cores
    yield "version", first.run.version, second.run.version


def _limit(run: RunInfo) -> str:
    return "none" if run.worker_limit_bytes is None else format_bytes(run.worker_limit_bytes)


def _grid_differences(first: RunInfo, second: RunInfo) -> Iterator[str]:
    ones = {grid.dataset: grid for grid in first.grids}
    others = {grid.dataset: grid for grid in second.grids}
    for dataset in sorted(ones.keys() | others.keys()):
        one, other = (
            f"{grid.rows} x {grid.cols} tiles of {grid.tile_rows_px} x {grid.tile_cols_px} px"
            if (grid := grids.get(dataset))
            else "none"
            for grids in (ones, others)
        )
        if one != other:
            yield f"grid of {dataset}: {one}, then {other}"
