"""Memory of the workers over time, against their limit."""

from typing import Final

import numpy as np
import pandas as pd
from bokeh.models.annotations import Label, Span
from bokeh.plotting import figure
from numpy.typing import NDArray

from batuta.profiling.analysis.analyse import ProfileAnalysis
from batuta.profiling.analysis.binning import peak_memory_per_bin
from batuta.profiling.report.charts import style

_MAX_LINES: Final = 12
"""Beyond so many workers, the highest of all and half of them are drawn."""
_BINS: Final = 240
_COLOURS: Final = (*style.NAME_COLOURS, "#6b8e23", "#a05195", "#2f9e9e", "#c08552")


def memory_chart(analysis: ProfileAnalysis) -> figure | None:
    """Draw the peak of the tasks of each worker over time, and the limit; None without tasks."""
    if not analysis.lanes:
        return None
    limit = analysis.run.worker_limit_bytes
    highest = max(analysis.peak_bytes, limit or 0)
    unit, unit_name = (1e9, "GB") if highest >= 1e9 else (1e6, "MB")
    plot = style.chart(260, y_range=(0, 1.12 * highest / unit or 1))
    style.time_axis(plot, analysis.span_s)
    style.add_zoom(plot)
    plot.ygrid.grid_line_color = "#7d8590"
    bins = min(_BINS, max(1, len(analysis.attempts)))
    edges = np.linspace(analysis.begin_s, analysis.end_s, bins + 1)
    lanes = {lane: v / unit for lane, v in peak_memory_per_bin(analysis.attempts, edges).items()}
    times = (edges - analysis.begin_s) * 1000
    if len(lanes) <= _MAX_LINES:
        _draw_lanes(plot, lanes, times, unit_name)
    else:
        _draw_spread(plot, lanes, times)
    _draw_memory(plot, analysis, unit)
    if limit is not None:
        _draw_limit(plot, limit / unit)
    plot.yaxis.axis_label = f"held by a worker, {unit_name}"
    plot.xaxis.axis_label = "time since the start of the run, s or [h:]min:s"
    return plot


def _draw_lanes(
    plot: figure, lanes: dict[int, NDArray[np.float64]], times: NDArray[np.float64], unit: str
) -> None:
    for lane, values in lanes.items():
        held = _forward_filled(values)
        columns = {
            "time": times.tolist(),
            "held": [*held, held[-1]],
            "worker": [f"{lane + 1}"] * len(times),
        }
        colour = _COLOURS[lane % len(_COLOURS)]
        line = plot.step(
            "time",
            "held",
            mode="after",
            source=style.source(columns),
            line_width=1.6,
            color=colour,
            alpha=0.85,
        )
        rows = [("worker", "@worker"), ("peak", f"@held{{0.00}} {unit}")]
        style.add_hover(plot, rows, [line])


def _draw_spread(
    plot: figure, lanes: dict[int, NDArray[np.float64]], times: NDArray[np.float64]
) -> None:
    held = np.array([_forward_filled(values) for values in lanes.values()])
    held = np.column_stack([held, held[:, -1:]])
    known = np.nan_to_num(held)
    top, middle = known.max(axis=0), np.median(known, axis=0)
    plot.varea_step(times, middle, top, step_mode="after", color=_COLOURS[0], alpha=0.3)
    plot.step(times, top, mode="after", color=_COLOURS[0], line_width=1.8)
    plot.step(times, middle, mode="after", color=_COLOURS[0], line_width=1.2, line_dash="dotted")


def _forward_filled(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Where no task began, the worker runs, or holds, what it had."""
    return np.asarray(pd.Series(values).ffill(), dtype=np.float64)


def _draw_memory(plot: figure, analysis: ProfileAnalysis, unit: float) -> None:
    """What was recorded once a second, of each process, thin and grey."""
    for _, rows in analysis.memory.groupby(["host", "pid"], sort=False):
        thinned = rows.iloc[:: max(1, len(rows) // _BINS)]
        plot.line(
            (thinned["time_s"] - analysis.begin_s).to_numpy() * 1000,
            thinned["process_bytes"].to_numpy() / unit,
            color=style.OTHER_COLOUR,
            line_width=1.6,
        )


def _draw_limit(plot: figure, limit: float) -> None:
    colour = style.LIMIT_COLOUR
    plot.add_layout(Span(location=limit, dimension="width", line_color=colour, line_dash="dashed"))
    plot.add_layout(
        Label(
            x=6, y=limit, x_units="screen", y_offset=3, text="max_ram_per_worker",
            text_color=colour, text_font_size="12px",
        )
    )  # fmt: skip
