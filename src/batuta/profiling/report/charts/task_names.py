"""What took the time, by task name."""

from collections.abc import Sequence
from typing import Any, Final

from bokeh.plotting import figure

from batuta.formatting import format_bytes, format_percent, format_seconds
from batuta.profiling.analysis.analyse import ProfileAnalysis
from batuta.profiling.analysis.attempts import TaskNameStats
from batuta.profiling.report.charts import style
from batuta.profiling.report.text_layout import shorten

_MOST: Final = 14
_LABEL: Final = 28


def names_chart(analysis: ProfileAnalysis) -> figure | None:
    """Draw a bar for each task name, as long as all its tasks took; None without tasks."""
    shown = analysis.names[:_MOST]
    if not shown:
        return None
    total_s = sum(name.total_s for name in analysis.names) or 1.0
    rest_s = total_s - sum(name.total_s for name in shown)
    # Names that are cut may become the same: the number tells them apart.
    labels = [_label(n, one.name) for n, one in enumerate(shown)]
    hidden = len(analysis.names) - len(shown)
    times = [one.total_s for one in shown]
    if hidden:
        labels.append(f"{hidden} others")
        times.append(rest_s)
    plot = style.chart(60 + 30 * len(labels), y_range=labels[::-1])
    style.time_axis(plot, 1.02 * max(times))
    columns = _columns(analysis, shown, labels, times, total_s)
    bars = plot.hbar(
        y="label", right="total", height=0.72, color="colour", source=style.source(columns)
    )
    style.add_figures(plot, labels, times, columns["figure"])
    plot.xaxis.axis_label = "time of all its tasks"
    rows = [
        ("task", "@name"),
        ("time", "@figure"),
        ("tasks, tries", "@tasks"),
        ("median, longest", "@each"),
        ("CPU", "@cpu"),
        ("peak", "@peak"),
    ]
    style.add_hover(plot, rows, [bars])
    return plot


def _label(number: int, name: str) -> str:
    return name if len(name) <= _LABEL else f"{number + 1}: {shorten(name, _LABEL)}"


def _columns(
    analysis: ProfileAnalysis,
    shown: tuple[TaskNameStats, ...],
    labels: list[str],
    times: list[float],
    total_s: float,
) -> dict[str, Sequence[Any]]:
    colours = style.colours(analysis)
    empty = [""] * (len(labels) - len(shown))
    return {
        "label": list(labels),
        "total": [1000 * time for time in times],
        "colour": [colours.get(one.name, style.OTHER_COLOUR) for one in shown]
        + [style.OTHER_COLOUR for _ in empty],
        "figure": [f"{format_seconds(time)}, {format_percent(time / total_s)}" for time in times],
        "name": [one.name for one in shown] + labels[len(shown) :],
        "tasks": [f"{one.tasks:,}, {one.attempts:,}" for one in shown] + empty,
        "each": [f"{format_seconds(one.median_s)}, {format_seconds(one.max_s)}" for one in shown]
        + empty,
        "cpu": [format_percent(one.cpu_share) for one in shown] + empty,
        "peak": [format_bytes(one.peak_bytes) for one in shown] + empty,
    }
