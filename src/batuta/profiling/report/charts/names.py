"""What took the time, by task name."""

from collections.abc import Sequence
from typing import Any, Final

from bokeh.plotting import figure

from batuta.profiling.analysis.attempts import NameFigures
from batuta.profiling.analysis.figures import Figures
from batuta.profiling.analysis.formatting import bytes_text, seconds_text, share_text
from batuta.profiling.report.charts import style
from batuta.profiling.report.tables import shortened

_MOST: Final = 14
_LABEL: Final = 28


def names_chart(figures: Figures) -> figure | None:
    """Draw a bar for each task name, as long as all its tasks took; None without tasks."""
    shown = figures.names[:_MOST]
    if not shown:
        return None
    total_s = sum(name.total_s for name in figures.names) or 1.0
    rest_s = total_s - sum(name.total_s for name in shown)
    # Names that are cut may become the same: the number tells them apart.
    labels = [_label(n, one.name) for n, one in enumerate(shown)]
    hidden = len(figures.names) - len(shown)
    times = [one.total_s for one in shown]
    if hidden:
        labels.append(f"{hidden} others")
        times.append(rest_s)
    plot = style.chart(60 + 30 * len(labels), y_range=labels[::-1])
    style.time_axis(plot, 1.02 * max(times))
    columns = _columns(figures, shown, labels, times, total_s)
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
    return name if len(name) <= _LABEL else f"{number + 1}: {shortened(name, _LABEL)}"


def _columns(
    figures: Figures,
    shown: tuple[NameFigures, ...],
    labels: list[str],
    times: list[float],
    total_s: float,
) -> dict[str, Sequence[Any]]:
    colours = style.colours(figures)
    empty = [""] * (len(labels) - len(shown))
    return {
        "label": list(labels),
        "total": [1000 * time for time in times],
        "colour": [colours.get(one.name, style.OTHER_COLOUR) for one in shown]
        + [style.OTHER_COLOUR for _ in empty],
        "figure": [f"{seconds_text(time)}, {share_text(time / total_s)}" for time in times],
        "name": [one.name for one in shown] + labels[len(shown) :],
        "tasks": [f"{one.tasks:,}, {one.attempts:,}" for one in shown] + empty,
        "each": [f"{seconds_text(one.median_s)}, {seconds_text(one.max_s)}" for one in shown]
        + empty,
        "cpu": [share_text(one.cpu_share) for one in shown] + empty,
        "peak": [bytes_text(one.peak_bytes) for one in shown] + empty,
    }
