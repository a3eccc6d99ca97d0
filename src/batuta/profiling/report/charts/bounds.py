"""The measured time, a perfect schedule, and what no schedule can be shorter than."""

from collections.abc import Iterator
from itertools import groupby
from typing import Final

from bokeh.plotting import figure

from batuta.formatting import format_seconds
from batuta.profiling.analysis.analyse import ProfileAnalysis
from batuta.profiling.report.charts import style
from batuta.profiling.report.headline import lost_time
from batuta.profiling.report.tables import tile_label

WORK_COLOUR: Final = "#6c8ebf"
_MAX_STEPS: Final = 500
"""Of the longest chain: beyond, it is drawn in one."""

_COLUMNS: Final = ("bar", "left", "right", "colour", "alpha", "what")
_Part = tuple[str, float, str, float, str]
"""Bar, length (s), colour, opacity, what it is."""


def bounds_chart(analysis: ProfileAnalysis) -> figure | None:
    """Draw the measured time against its bounds; None without work."""
    if analysis.worker_time.worked_s <= 0 or analysis.span_s <= 0:
        return None
    parts = list(_parts(analysis))
    labels = list(dict.fromkeys(part[0] for part in parts))
    plot = style.chart(60 + 40 * len(labels), y_range=labels[::-1])
    ends = dict.fromkeys(labels, 0.0)
    drawn_parts = []
    for bar, length, colour, alpha, what in parts:
        left, ends[bar] = ends[bar], ends[bar] + length
        drawn_parts.append((bar, 1000 * left, 1000 * ends[bar], colour, alpha, what))
    columns = zip(_COLUMNS, zip(*drawn_parts, strict=True), strict=True)
    style.time_axis(plot, 1.02 * max(ends.values()))
    drawn = plot.hbar(
        y="bar", left="left", right="right", height=0.66, color="colour", alpha="alpha",
        source=style.source(dict(columns)), line_width=0.4, line_color="#00000055",
    )  # fmt: skip
    texts = [format_seconds(end) for end in ends.values()]
    style.add_figures(plot, labels, list(ends.values()), texts)
    style.add_hover(plot, [("@what", "")], [drawn])
    return plot


def _parts(analysis: ProfileAnalysis) -> Iterator[_Part]:
    schedule, workers = analysis.schedule, analysis.workers
    yield _part("measured", analysis.worker_time.worked_s / workers, WORK_COLOUR, "work")
    for label, seconds in lost_time(analysis):
        failed = label.startswith("attempts")
        colour = style.FAILED_COLOUR if failed else style.IDLE_COLOUR
        yield _part("measured", seconds / workers, colour, label, 1 if failed else 0.45)
    yield _part("perfect schedule", schedule.perfect_s, WORK_COLOUR, "simulated")
    yield _part("work / workers", schedule.shared_s, WORK_COLOUR, "all work, shared out evenly")
    yield from _chain(analysis)


def _part(bar: str, seconds: float, colour: str, what: str, alpha: float = 1) -> _Part:
    return bar, seconds, colour, alpha, f"{what}: {format_seconds(seconds)}"


def _chain(analysis: ProfileAnalysis) -> Iterator[_Part]:
    path, colours = analysis.schedule.critical_path, style.colours(analysis)
    if len(path) > _MAX_STEPS:
        what = f"longest chain, {len(path):,} tasks"
        yield _part("longest chain", analysis.schedule.critical_s, WORK_COLOUR, what)
        return
    for name, steps in groupby(path, key=lambda step: step.name):
        for step in steps:
            what = f"{name}, {tile_label(step.dataset, step.row, step.col)}"
            colour = colours.get(name, style.OTHER_COLOUR)
            yield _part("longest chain", step.wall_s, colour, what)
