"""The tables of a report, shared by the text and the page."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Final

from batuta.formatting import format_bytes, format_count, format_percent, format_seconds
from batuta.profiling.analysis.analyse import ProfileAnalysis
from batuta.profiling.analysis.lanes import LaneStats
from batuta.profiling.analysis.schedule import ScheduleStep
from batuta.profiling.files.run_info import TileMishap
from batuta.profiling.merge.model import ProfilerReport
from batuta.profiling.report.headline import lost_time

_BUILT_IN: Final = "~"
"""What `pstats` gives as the file of built-in functions."""


@dataclass(frozen=True)
class Table:
    """A table whose cells are text."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    more: int = 0
    """Rows that are not shown."""
    left: int = 1
    """Number of leading columns that are words, aligned to the left."""

    def __bool__(self) -> bool:
        """Whether it has a row."""
        return bool(self.rows)


def make_table(
    rows: Sequence[tuple[str, ...]], columns: tuple[str, ...], most: int, left: int = 1
) -> Table:
    """Return a table of the first `most` rows."""
    return Table(columns, tuple(rows[:most]), max(0, len(rows) - most), left)


def name_table(analysis: ProfileAnalysis, most: int) -> Table:
    """Time by task name."""
    columns = (
        "task", "tasks", "tries", "total", "share", "median", "longest", "CPU", "waited each",
    )  # fmt: skip
    total_s = sum(name.total_s for name in analysis.names) or 1.0
    rows = [
        (
            name.name,
            f"{name.tasks:,}",
            f"{name.attempts:,}",
            format_seconds(name.total_s),
            format_percent(name.total_s / total_s),
            format_seconds(name.median_s),
            format_seconds(name.max_s),
            format_percent(name.cpu_share),
            "?" if name.waiting_s is None else format_seconds(name.waiting_s / name.attempts),
        )
        for name in analysis.names
    ]
    return make_table(rows, columns, most)


def memory_table(analysis: ProfileAnalysis, most: int) -> Table:
    """Memory and bytes moved by task name, the highest peak first."""
    rows = [
        (
            name.name,
            format_bytes(name.peak_bytes),
            format_bytes(name.growth_bytes / name.attempts),
            _known(name.bytes_in, name.attempts),
            _known(name.bytes_out, name.attempts),
        )
        for name in sorted(analysis.names, key=lambda name: -name.peak_bytes)
    ]
    return make_table(rows, ("task", "peak", "kept by each", "read by each", "given by each"), most)


def worker_time_table(analysis: ProfileAnalysis) -> Table:
    """Parts of the time of the workers."""
    total_s = analysis.worker_time.total_s
    parts = (("work", analysis.worker_time.worked_s), *lost_time(analysis)) if total_s > 0 else ()
    rows = [
        (label, format_seconds(value), format_percent(value / total_s)) for label, value in parts
    ]
    return make_table(rows, ("of the time of the workers", "time", "share"), len(rows))


def schedule_table(analysis: ProfileAnalysis) -> Table:
    """The measured time, and what bounds it."""
    schedule = analysis.schedule
    path = format_count(len(schedule.critical_path), "task")
    workers = format_count(schedule.workers, "worker")
    parts = (
        ("measured", schedule.measured_s),
        (f"a perfect schedule on {workers}", schedule.perfect_s),
        (f"the work, shared out evenly among {workers}", schedule.shared_s),
        (f"the longest chain of tasks ({path})", schedule.critical_s),
    )
    rows = [(label, format_seconds(value)) for label, value in parts]
    return make_table(rows, ("", "time"), len(rows))


def critical_path_table(analysis: ProfileAnalysis, most: int) -> Table:
    """The critical path; consecutive tasks of one name are one row."""
    rows: list[tuple[str, ...]] = []
    for name, steps in _steps_by_name(analysis):
        where = [tile_label(step.dataset, step.row, step.col) for step in (steps[0], steps[-1])]
        span = where[0] if where[0] == where[1] else f"{where[0]} to {where[1]}"
        rows.append((name, span, f"{len(steps):,}", format_seconds(sum(s.wall_s for s in steps))))
    return make_table(rows, ("longest chain", "for tile", "tasks", "time"), most, left=2)


def _steps_by_name(analysis: ProfileAnalysis) -> Iterator[tuple[str, list[ScheduleStep]]]:
    for name, steps in groupby(analysis.schedule.critical_path, key=lambda step: step.name):
        yield name, list(steps)


def tile_label(dataset: str | None, row: int | None, col: int | None) -> str:
    """Return the name of a tile, or ``no tile``."""
    return "no tile" if dataset is None else f"{dataset} ({row}, {col})"


def lane_table(analysis: ProfileAnalysis, most: int) -> Table:
    """Statistics of each lane of workers."""
    limit = analysis.run.worker_limit_bytes
    span_s = analysis.span_s or 1.0
    rows = [
        (
            f"{lane.lane + 1}",
            lane.host,
            f"{lane.processes:,}",
            f"{lane.attempts:,}",
            format_seconds(lane.busy_s),
            format_percent(lane.busy_s / span_s),
            format_seconds(_longest_idle(analysis, lane)),
            format_bytes(lane.peak_bytes),
            format_percent(lane.peak_bytes / limit) if limit else "no limit",
        )
        for lane in analysis.lanes
    ]
    columns = (
        "worker", "host", "processes", "tasks", "busy", "share", "longest idle", "peak",
        "of limit",
    )  # fmt: skip
    return make_table(rows, columns, most, left=2)


def _longest_idle(analysis: ProfileAnalysis, lane: LaneStats) -> float:
    return max(
        lane.first_s - analysis.begin_s, lane.longest_gap_s, analysis.end_s - lane.last_s, 0.0
    )


def tile_table(analysis: ProfileAnalysis, most: int) -> Table:
    """The slowest tiles of each dataset."""
    rows = [
        (
            tile_label(tile.dataset, tile.row, tile.col),
            format_seconds(tile.wall_s),
            f"{tile.wall_s * grid.ran / grid.total_s:.1f}" if grid.total_s > 0 else "1.0",
            format_bytes(tile.peak_bytes),
        )
        for grid in analysis.tiles
        for tile in grid.slowest(most)
    ]
    return make_table(rows, ("slowest tiles", "time", "times the mean", "peak"), len(rows))


def mishap_table(analysis: ProfileAnalysis, most: int) -> Table:
    """Tiles that failed or were retried, with causes."""
    run = analysis.run
    failed = {_key(tile) for tile in run.failed}
    rows = [(tile_label(*_key(tile)), "failed", tile.cause) for tile in run.failed]
    rows += [
        (tile_label(*_key(tile)), "retried", tile.cause)
        for tile in run.retried
        if _key(tile) not in failed
    ]
    return make_table(rows, ("tile", "what", "cause"), most, left=3)


def failed_attempt_table(analysis: ProfileAnalysis, most: int) -> Table:
    """Unsuccessful attempts by task name and cause."""
    bad = analysis.attempts[~analysis.attempts["done"]]
    causes = bad.assign(error=bad["error"].fillna("")).groupby(["name", "outcome", "error"])
    summed = causes.agg(tries=("task", "size"), lost_s=("wall_s", "sum")).reset_index()
    ordered = summed.sort_values("tries", ascending=False, kind="stable")
    rows = [
        (name, outcome, f"{tries:,}", format_seconds(lost_s), error)
        for name, outcome, error, tries, lost_s in ordered.itertuples(index=False)
    ]
    return make_table(rows, ("task", "outcome", "tries", "time lost", "cause"), most, left=5)


def memory_growth_table(analysis: ProfileAnalysis, most: int) -> Table:
    """Memory growth of repeated tasks."""
    rows = [
        (
            loop.name,
            f"{loop.tasks:,}",
            f"{loop.repetitions:,}",
            "too few to tell" if loop.slope_bytes is None else format_bytes(loop.slope_bytes),
            "?"
            if loop.low_bytes is None or loop.high_bytes is None
            else f"{format_bytes(loop.low_bytes)} to {format_bytes(loop.high_bytes)}",
            "leaks" if loop.leaks else "",
        )
        for loop in analysis.loops
    ]
    columns = ("task", "tasks", "repetitions", "kept by each", "95 % sure", "")
    return make_table(rows, columns, most)


def leaking_line_table(analysis: ProfileAnalysis, most: int) -> Table:
    """Lines of source that leak."""
    rows = [
        (f"{line.file}:{line.line}", line.function, loop.name, format_bytes(line.bytes_per_loop))
        for loop in analysis.loops
        for line in loop.lines
    ]
    columns = ("line that leaks", "function", "task", "kept by each repetition")
    return make_table(rows, columns, most, left=3)


def function_table(profilers: ProfilerReport, most: int) -> Table:
    """The functions with most time of their own, in all tasks; none without cprofile."""
    functions = profilers.times[0].by_own if profilers.times else ()
    rows = [
        (
            each.function,
            "" if each.file == _BUILT_IN else f"{each.file}:{each.line}",
            f"{each.calls:,}",
            format_seconds(each.own_s),
            format_seconds(each.total_s),
        )
        for each in functions
    ]
    return make_table(
        rows, ("function", "where", "calls", "own time", "with what it called"), most, left=2
    )


def memory_line_table(profilers: ProfilerReport, most: int) -> Table:
    """The lines that held most at the peak of a worker or a task; none without memray."""
    rows = [
        (
            f"{each.line.file}:{each.line.line}",
            each.line.function,
            format_bytes(each.held_bytes),
            f"{each.allocations:,}",
        )
        for each in profilers.lines
    ]
    return make_table(rows, ("line", "function", "held at most", "blocks"), most, left=2)


def _key(tile: TileMishap) -> tuple[str, int, int]:
    return tile.dataset, tile.row, tile.col


def _known(size: int | None, count: int) -> str:
    return "?" if size is None else format_bytes(size / count)
