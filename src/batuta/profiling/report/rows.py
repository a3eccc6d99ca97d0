"""The tables of a report, as text: the same in a terminal and on the page."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Final

from batuta.profiling.analysis.figures import Figures
from batuta.profiling.analysis.formatting import bytes_text, counted, seconds_text, share_text
from batuta.profiling.analysis.lanes import LaneFigures
from batuta.profiling.analysis.schedule import Step
from batuta.profiling.files.run_info import TileMishap
from batuta.profiling.merge.model import ProfilerReport
from batuta.profiling.report.headline import losses

_BUILT_IN: Final = "~"
"""The file of functions that are not in Python, as `pstats` names it."""


@dataclass(frozen=True)
class Rows:
    """A table of text."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    more: int = 0
    """Rows that are not shown."""
    left: int = 1
    """How many columns, from the first, are words rather than figures."""

    def __bool__(self) -> bool:
        """Whether it has a row."""
        return bool(self.rows)


def cut(
    rows: Sequence[tuple[str, ...]], columns: tuple[str, ...], most: int, left: int = 1
) -> Rows:
    """Make a table of the first `most` rows."""
    return Rows(columns, tuple(rows[:most]), max(0, len(rows) - most), left)


def name_rows(figures: Figures, most: int) -> Rows:
    """What time each task name took."""
    columns = (
        "task", "tasks", "tries", "total", "share", "median", "longest", "CPU", "waited each",
    )  # fmt: skip
    total_s = sum(name.total_s for name in figures.names) or 1.0
    rows = [
        (
            name.name,
            f"{name.tasks:,}",
            f"{name.attempts:,}",
            seconds_text(name.total_s),
            share_text(name.total_s / total_s),
            seconds_text(name.median_s),
            seconds_text(name.max_s),
            share_text(name.cpu_share),
            "?" if name.waiting_s is None else seconds_text(name.waiting_s / name.attempts),
        )
        for name in figures.names
    ]
    return cut(rows, columns, most)


def memory_rows(figures: Figures, most: int) -> Rows:
    """What each task name held, kept and moved, what held most first."""
    rows = [
        (
            name.name,
            bytes_text(name.peak_bytes),
            bytes_text(name.growth_bytes / name.attempts),
            _known(name.bytes_in, name.attempts),
            _known(name.bytes_out, name.attempts),
        )
        for name in sorted(figures.names, key=lambda name: -name.peak_bytes)
    ]
    return cut(rows, ("task", "peak", "kept by each", "read by each", "given by each"), most)


def loss_rows(figures: Figures) -> Rows:
    """What became of the time of the workers."""
    total_s = figures.lost.total_s
    parts = (("work", figures.lost.worked_s), *losses(figures)) if total_s > 0 else ()
    rows = [(label, seconds_text(value), share_text(value / total_s)) for label, value in parts]
    return cut(rows, ("of the time of the workers", "time", "share"), len(rows))


def schedule_rows(figures: Figures) -> Rows:
    """The measured time, and what bounds it."""
    schedule = figures.schedule
    path = counted(len(schedule.critical_path), "task")
    workers = counted(schedule.workers, "worker")
    parts = (
        ("measured", schedule.measured_s),
        (f"a perfect schedule on {workers}", schedule.perfect_s),
        (f"the work, shared out evenly among {workers}", schedule.shared_s),
        (f"the longest chain of tasks ({path})", schedule.critical_s),
    )
    rows = [(label, seconds_text(value)) for label, value in parts]
    return cut(rows, ("", "time"), len(rows))


def path_rows(figures: Figures, most: int) -> Rows:
    """The longest chain, task by task, those of one name that follow each other together."""
    rows: list[tuple[str, ...]] = []
    for name, steps in _runs(figures):
        where = [place(step.dataset, step.row, step.col) for step in (steps[0], steps[-1])]
        span = where[0] if where[0] == where[1] else f"{where[0]} to {where[1]}"
        rows.append((name, span, f"{len(steps):,}", seconds_text(sum(s.wall_s for s in steps))))
    return cut(rows, ("longest chain", "for tile", "tasks", "time"), most, left=2)


def _runs(figures: Figures) -> Iterator[tuple[str, list[Step]]]:
    for name, steps in groupby(figures.schedule.critical_path, key=lambda step: step.name):
        yield name, list(steps)


def place(dataset: str | None, row: int | None, col: int | None) -> str:
    """Name a tile, or what has none."""
    return "no tile" if dataset is None else f"{dataset} ({row}, {col})"


def lane_rows(figures: Figures, most: int) -> Rows:
    """What each place of a worker did."""
    limit = figures.run.worker_limit_bytes
    span_s = figures.span_s or 1.0
    rows = [
        (
            f"{lane.lane + 1}",
            lane.host,
            f"{lane.processes:,}",
            f"{lane.attempts:,}",
            seconds_text(lane.busy_s),
            share_text(lane.busy_s / span_s),
            seconds_text(_longest_idle(figures, lane)),
            bytes_text(lane.peak_bytes),
            share_text(lane.peak_bytes / limit) if limit else "no limit",
        )
        for lane in figures.lanes
    ]
    columns = (
        "worker", "host", "processes", "tasks", "busy", "share", "longest idle", "peak",
        "of limit",
    )  # fmt: skip
    return cut(rows, columns, most, left=2)


def _longest_idle(figures: Figures, lane: LaneFigures) -> float:
    return max(lane.first_s - figures.begin_s, lane.longest_gap_s, figures.end_s - lane.last_s, 0.0)


def tile_rows(figures: Figures, most: int) -> Rows:
    """The slowest tiles of each dataset."""
    rows = [
        (
            place(tile.dataset, tile.row, tile.col),
            seconds_text(tile.wall_s),
            f"{tile.wall_s * grid.ran / grid.total_s:.1f}" if grid.total_s > 0 else "1.0",
            bytes_text(tile.peak_bytes),
        )
        for grid in figures.tiles
        for tile in grid.slowest(most)
    ]
    return cut(rows, ("slowest tiles", "time", "times the mean", "peak"), len(rows))


def mishap_rows(figures: Figures, most: int) -> Rows:
    """Tiles that failed or were retried; then attempts at tasks, where no tile is told of."""
    run = figures.run
    failed = {_key(tile) for tile in run.failed}
    rows = [(place(*_key(tile)), "failed", tile.cause) for tile in run.failed]
    rows += [
        (place(*_key(tile)), "retried", tile.cause)
        for tile in run.retried
        if _key(tile) not in failed
    ]
    return cut(rows, ("tile", "what", "cause"), most, left=3)


def attempt_rows(figures: Figures, most: int) -> Rows:
    """Why attempts did not give a result, each cause with its tasks."""
    bad = figures.attempts[~figures.attempts["done"]]
    causes = bad.assign(error=bad["error"].fillna("")).groupby(["name", "outcome", "error"])
    summed = causes.agg(tries=("task", "size"), lost_s=("wall_s", "sum")).reset_index()
    ordered = summed.sort_values("tries", ascending=False, kind="stable")
    rows = [
        (name, outcome, f"{tries:,}", seconds_text(lost_s), error)
        for name, outcome, error, tries, lost_s in ordered.itertuples(index=False)
    ]
    return cut(rows, ("task", "outcome", "tries", "time lost", "cause"), most, left=5)


def loop_rows(figures: Figures, most: int) -> Rows:
    """What the repetitions of tasks kept."""
    rows = [
        (
            loop.name,
            f"{loop.tasks:,}",
            f"{loop.repetitions:,}",
            "too few to tell" if loop.slope_bytes is None else bytes_text(loop.slope_bytes),
            "?"
            if loop.low_bytes is None or loop.high_bytes is None
            else f"{bytes_text(loop.low_bytes)} to {bytes_text(loop.high_bytes)}",
            "leaks" if loop.leaks else "",
        )
        for loop in figures.loops
    ]
    columns = ("task", "tasks", "repetitions", "kept by each", "95 % sure", "")
    return cut(rows, columns, most)


def line_rows(figures: Figures, most: int) -> Rows:
    """The lines that leak."""
    rows = [
        (f"{line.file}:{line.line}", line.function, loop.name, bytes_text(line.bytes_per_loop))
        for loop in figures.loops
        for line in loop.lines
    ]
    columns = ("line that leaks", "function", "task", "kept by each repetition")
    return cut(rows, columns, most, left=3)


def function_rows(modes: ProfilerReport, most: int) -> Rows:
    """The functions with most time of their own, in all tasks; none without cprofile."""
    functions = modes.times[0].by_own if modes.times else ()
    rows = [
        (
            each.function,
            "" if each.file == _BUILT_IN else f"{each.file}:{each.line}",
            f"{each.calls:,}",
            seconds_text(each.own_s),
            seconds_text(each.total_s),
        )
        for each in functions
    ]
    return cut(
        rows, ("function", "where", "calls", "own time", "with what it called"), most, left=2
    )


def held_rows(modes: ProfilerReport, most: int) -> Rows:
    """The lines that held most at the peak of a worker or a task; none without memray."""
    rows = [
        (
            f"{each.line.file}:{each.line.line}",
            each.line.function,
            bytes_text(each.held_bytes),
            f"{each.allocations:,}",
        )
        for each in modes.lines
    ]
    return cut(rows, ("line", "function", "held at most", "blocks"), most, left=2)


def _key(tile: TileMishap) -> tuple[str, int, int]:
    return tile.dataset, tile.row, tile.col


def _known(size: int | None, count: int) -> str:
    return "?" if size is None else bytes_text(size / count)
