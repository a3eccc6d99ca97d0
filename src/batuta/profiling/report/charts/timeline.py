"""The timeline of the workers: tasks in the colours of their names, and idle time."""

from collections import defaultdict
from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd
from bokeh.models import FixedTicker
from bokeh.plotting import figure
from numpy.typing import NDArray

from batuta.formatting import format_seconds
from batuta.profiling.analysis.analyse import ProfileAnalysis
from batuta.profiling.analysis.binning import busy_time_per_bin
from batuta.profiling.report.charts import style
from batuta.profiling.report.tables import tile_label

_MAX_BARS: Final = 3000
"""Beyond so many tasks, they are merged in bins."""
_MAX_ROWS: Final = 60
"""Beyond so many lanes, those of one machine are one row; beyond so many machines, all."""
_MAX_BINS: Final = 900
_MAX_QUADS: Final = 24_000
_ROW: Final = 0.82
"""Of a row is drawn on."""


@dataclass(frozen=True)
class Timeline:
    """The chart, and whether its tasks were merged."""

    plot: figure
    merged_s: float | None
    """Time that each bin stands for; None where each task is drawn."""
    grouped: bool
    """Whether a row is many workers."""


@dataclass(frozen=True)
class _Rows:
    """Which row each lane is drawn in."""

    of_lane: NDArray[np.int64]
    labels: list[str]
    lanes: NDArray[np.int64]
    """How many lanes each row has."""


def timeline_chart(analysis: ProfileAnalysis) -> Timeline | None:
    """Draw the lanes over time; None without tasks."""
    if not analysis.lanes:
        return None
    rows = _rows(analysis)
    plot = style.chart(
        min(90 + 26 * max(len(rows.labels), 2), 900),
        y_range=(len(rows.labels) - 0.5, -0.5),
    )
    style.time_axis(plot, analysis.span_s)
    style.add_zoom(plot)
    _draw_idle(plot, analysis, len(rows.labels))
    grouped = len(rows.labels) < len(analysis.lanes)
    merged_s = None
    if grouped or len(analysis.attempts) > _MAX_BARS:
        merged_s = _draw_bins(plot, analysis, rows)
    else:
        _draw_tasks(plot, analysis, rows)
    plot.yaxis.ticker = FixedTicker(ticks=list(range(len(rows.labels))))
    plot.yaxis.major_label_overrides = dict(enumerate(rows.labels))
    plot.yaxis.major_tick_line_color = None
    plot.xaxis.axis_label = "time since the start of the run, s or [h:]min:s"
    return Timeline(plot, merged_s, grouped)


def _rows(analysis: ProfileAnalysis) -> _Rows:
    hosts = sorted({lane.host for lane in analysis.lanes})
    several = len(hosts) > 1
    if len(analysis.lanes) <= _MAX_ROWS:
        order = sorted(analysis.lanes, key=lambda lane: (lane.host, lane.lane))
        of_lane = np.zeros(len(order), dtype=np.int64)
        for row, lane in enumerate(order):
            of_lane[lane.lane] = row
        labels = [
            f"{lane.lane + 1} {lane.host}" if several else f"{lane.lane + 1}" for lane in order
        ]
    elif several and len(hosts) <= _MAX_ROWS:
        of_lane = np.array([hosts.index(lane.host) for lane in analysis.lanes])
        labels = hosts
    else:
        of_lane = np.zeros(len(analysis.lanes), dtype=np.int64)
        labels = ["all workers"]
    return _Rows(of_lane, labels, np.bincount(of_lane, minlength=len(labels)))


def _draw_idle(plot: figure, analysis: ProfileAnalysis, rows: int) -> None:
    """The ground of each row: what is left of it is idle."""
    plot.hbar(
        y=list(range(rows)),
        left=0,
        right=analysis.span_s * 1000,
        height=_ROW,
        color=style.IDLE_COLOUR,
        alpha=style.IDLE_ALPHA,
    )


def _draw_tasks(plot: figure, analysis: ProfileAnalysis, rows: _Rows) -> None:
    attempts, colours = analysis.attempts, style.colours(analysis)
    begins = (attempts["start_s"] - analysis.begin_s).to_numpy()
    done = attempts["done"].to_numpy()
    named = attempts["name"].map(lambda name: colours.get(name, style.OTHER_COLOUR))
    source = style.source(
        {
            "row": rows.of_lane[attempts["lane"].to_numpy()],
            "left": begins * 1000,
            "right": (begins + attempts["wall_s"].to_numpy()) * 1000,
            "colour": np.where(done, named, style.FAILED_COLOUR),
            "name": attempts["name"].tolist(),
            "tile": _tile_labels(attempts),
            "time": [format_seconds(wall_s) for wall_s in attempts["wall_s"]],
            "outcome": [
                outcome if attempt == 1 else f"{outcome}, attempt {attempt}"
                for outcome, attempt in zip(attempts["outcome"], attempts["attempt"], strict=True)
            ],
            "worker": attempts["worker"].tolist(),
        }
    )
    # A line of the ground's colour around each tells apart those that follow without a gap.
    bars = plot.hbar(
        y="row", left="left", right="right", height=_ROW, color="colour", source=source,
        line_width=0.4, line_color="#00000055",
    )  # fmt: skip
    tooltip_rows = [
        ("task", "@name"),
        ("tile", "@tile"),
        ("time", "@time"),
        ("outcome", "@outcome"),
        ("worker", "@worker"),
    ]
    style.add_hover(plot, tooltip_rows, [bars])


def _tile_labels(attempts: pd.DataFrame) -> list[str]:
    return [
        tile_label(dataset, int(row), int(col))
        if isinstance(dataset, str)
        else tile_label(None, None, None)
        for dataset, row, col in zip(
            attempts["dataset"], attempts["row"], attempts["col"], strict=True
        )
    ]


def _draw_bins(plot: figure, analysis: ProfileAnalysis, rows: _Rows) -> float:
    """Stack in each bin of each row the shares of time that task names had; gives the bin, s."""
    colours = style.colours(analysis)
    kinds = [*colours, style.OTHER, "failed"]
    bins = int(np.clip(_MAX_QUADS // (len(rows.labels) * len(kinds)), 60, _MAX_BINS))
    edges = np.linspace(analysis.begin_s, analysis.end_s, bins + 1)
    attempts = analysis.attempts
    kind = attempts["name"].where(attempts["name"].isin(list(colours)), style.OTHER)
    drawn = attempts.assign(
        row_drawn=rows.of_lane[attempts["lane"].to_numpy()],
        kind=kind.where(attempts["done"], "failed"),
    )
    busy = busy_time_per_bin(drawn, ["row_drawn", "kind"], edges)
    width_s = (analysis.end_s - analysis.begin_s) / bins
    columns: dict[str, list[NDArray[np.generic]]] = defaultdict(list)
    for row, lanes in enumerate(rows.lanes.tolist()):
        floor = np.full(bins, row + _ROW / 2)
        for name in kinds:
            if (row, name) in busy:
                share = np.clip(busy[row, name] / (width_s * lanes), 0, 1)
                floor = _stack(columns, share, floor, name)
    plot_colours = colours | {style.OTHER: style.OTHER_COLOUR, "failed": style.FAILED_COLOUR}
    _draw_stacks(plot, columns, plot_colours, width_s)
    return width_s


def _stack(
    columns: dict[str, list[NDArray[np.generic]]],
    share: NDArray[np.float64],
    floor: NDArray[np.float64],
    name: str,
) -> NDArray[np.float64]:
    top = floor - share * _ROW
    seen = np.flatnonzero(share > 0.002)
    columns["bin"].append(seen)
    columns["bottom"].append(floor[seen])
    columns["top"].append(top[seen])
    columns["share"].append(share[seen])
    columns["name"].append(np.full(len(seen), name, dtype=object))
    return top


def _draw_stacks(
    plot: figure,
    columns: dict[str, list[NDArray[np.generic]]],
    colours: dict[str, str],
    width_s: float,
) -> None:
    joined = {key: np.concatenate(parts) for key, parts in columns.items()}
    names = joined["name"].tolist()
    left = joined["bin"].astype(np.float64) * width_s * 1000
    source = style.source(
        {
            "left": left.astype(np.float32),
            "right": (left + width_s * 1000).astype(np.float32),
            "top": joined["top"].astype(np.float32),
            "bottom": joined["bottom"].astype(np.float32),
            "share": (joined["share"].astype(np.float64) * 100).astype(np.float32),
            "colour": [colours[name] for name in names],
            "name": names,
        }
    )
    bars = plot.quad(
        left="left", right="right", top="top", bottom="bottom", color="colour", source=source,
        line_width=0,
    )  # fmt: skip
    style.add_hover(plot, [("task", "@name"), ("of this time", "@share{0.} %")], [bars])
