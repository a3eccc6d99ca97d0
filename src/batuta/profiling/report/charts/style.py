"""What all charts share: colours, axes, hover."""

from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal

from bokeh.models import (
    ColumnDataSource,
    CustomJSTickFormatter,
    DatetimeTicker,
    HoverTool,
    PanTool,
    Range1d,
    ResetTool,
    WheelZoomTool,
)
from bokeh.models.annotations import Title
from bokeh.plotting import figure

from batuta.profiling.analysis.analyse import ProfileAnalysis

NAME_COLOURS: Final = (
    "#4c78a8",
    "#f58518",
    "#54a24b",
    "#b279a2",
    "#e0b52c",
    "#3fa7a1",
    "#9d755d",
    "#ff8fa3",
)
"""Distinguishable on light and on dark backgrounds."""
OTHER: Final = "other tasks"
OTHER_COLOUR: Final = "#8d96a3"
FAILED_COLOUR: Final = "#e5383b"
IDLE_COLOUR: Final = "#9aa3af"
IDLE_ALPHA: Final = 0.22
LIMIT_COLOUR: Final = FAILED_COLOUR
_GREY: Final = "#7d8590"
"""Until the page paints text for light or dark."""

_CLOCK: Final = """
    const two = (n) => String(n).padStart(2, "0"), all = tick / 1000;
    if (all < 60) return `${Number(all.toPrecision(6))} s`;
    const h = Math.floor(all / 3600), m = Math.floor(all / 60) % 60, s = all % 60;
    const rest = Number.isInteger(s) ? two(s) : s.toFixed(2).padStart(5, "0");
    return h ? `${h}:${two(m)}:${rest}` : `${m}:${rest}`;
"""


def colours(analysis: ProfileAnalysis) -> dict[str, str]:
    """Return the colours of the task names that have one of their own."""
    names = [name.name for name in analysis.names]
    shown = names if len(names) <= len(NAME_COLOURS) else names[: len(NAME_COLOURS) - 1]
    return dict(zip(shown, NAME_COLOURS, strict=False))


def chart(height: int, title: str = "", **options: Any) -> figure:
    """Make an empty figure in our style: as wide as the page."""
    plot = figure(
        height=height,
        sizing_mode="stretch_width",
        background_fill_alpha=0,
        border_fill_alpha=0,
        outline_line_color=None,
        toolbar_location=None,
        **options,
    )
    plot.toolbar.tools = []
    plot.toolbar.logo = None
    plot.toolbar.autohide = True
    for axis in plot.axis:
        axis.axis_line_color = None
        axis.major_tick_line_color = _GREY
        axis.minor_tick_line_color = None
        axis.major_label_text_color = _GREY
        axis.axis_label_text_color = _GREY
        axis.axis_label_text_font_style = "normal"
        axis.major_label_text_font_size = "12px"
        axis.axis_label_text_font_size = "12px"
    plot.grid.grid_line_color = _GREY
    plot.grid.grid_line_alpha = 0.18
    plot.min_border_right = 24
    plot.title = Title(
        text=title, text_color=_GREY, text_font_style="normal", text_font_size="13px"
    )
    return plot


def source(columns: Mapping[str, Any]) -> ColumnDataSource:
    """Return a data source of columns of the same length."""
    return ColumnDataSource(dict[str, Any](columns))


def add_zoom(plot: figure, dimensions: Literal["width", "both"] = "width") -> None:
    """Add panning and zooming; the wheel scrolls the page until wheel zoom is switched on."""
    plot.toolbar_location = "above"
    plot.add_tools(
        PanTool(dimensions=dimensions), WheelZoomTool(dimensions=dimensions), ResetTool()
    )


def add_figures(
    plot: figure, bars: Sequence[str], ends_s: Sequence[float], texts: Sequence[str]
) -> None:
    """Write a figure at the end of each bar: inside of long ones, for narrow pages too."""
    longest_s = max(ends_s)
    for inside in (True, False):
        chosen = [n for n, end_s in enumerate(ends_s) if (end_s > 0.5 * longest_s) is inside]
        plot.text(
            x=[1000 * ends_s[n] for n in chosen],
            y=[bars[n] for n in chosen],
            text=[texts[n] for n in chosen],
            x_offset=-7 if inside else 7,
            text_align="right" if inside else "left",
            text_baseline="middle",
            text_font_size="12px",
            text_color=_GREY,
        )


def add_hover(
    plot: figure,
    rows: Sequence[tuple[str, str]],
    renderers: Sequence[Any],
    formatters: dict[str, Any] | None = None,
) -> None:
    """Show a tooltip; its values are escaped, never interpreted as HTML."""
    hover = HoverTool(tooltips=list(rows), renderers=list(renderers), formatters=formatters or {})
    hover.visible = False
    plot.add_tools(hover)


def time_axis(plot: figure, longest_s: float) -> None:
    """Make the horizontal axis one of time, in ms, from 0 to `longest_s`."""
    longest = max(longest_s, 1e-6) * 1000
    plot.x_range = Range1d(start=0, end=longest, bounds=(0, longest))
    plot.xaxis.ticker = DatetimeTicker(desired_num_ticks=8, num_minor_ticks=0)
    plot.xaxis.formatter = CustomJSTickFormatter(code=_CLOCK)
    plot.ygrid.grid_line_color = None
