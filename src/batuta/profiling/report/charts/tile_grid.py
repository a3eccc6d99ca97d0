"""The tiles of a dataset, coloured by time or memory: which parts of the image are slow."""

from collections.abc import Sequence
from typing import Final

import numpy as np
from bokeh.models import (
    BasicTicker,
    BasicTickFormatter,
    CustomJSHover,
    LinearColorMapper,
)
from bokeh.models.annotations import ColorBar
from bokeh.models.glyphs import Image
from bokeh.palettes import Magma256, Viridis256
from bokeh.plotting import figure
from numpy.typing import NDArray

from batuta.profiling.analysis.binning import downsample
from batuta.profiling.analysis.tiles import TileGrid
from batuta.profiling.files.run_info import RunInfo, TileMishap
from batuta.profiling.report.charts import style

_MAX_CELLS: Final = 400
"""Each way: beyond, a cell is a block of tiles."""
_MAX_MARKS: Final = 2000
_WIDTH: Final = 440
"""About that of the drawn part, px."""
_CELL: Final = "$y{custom}, $x{custom}"
_DARKEST: Final = 20
"""Colours left out at the dark end, which a dark page would swallow."""


def grid_charts(grid: TileGrid, run: RunInfo) -> tuple[figure, figure]:
    """Draw the tiles of a dataset by time and by memory; row 0 is at the top."""
    time_unit, time_name = (1.0, "s") if np.nanmax(grid.wall_s) >= 1 else (1e-3, "ms")
    byte_unit, byte_name = (1e9, "GB") if np.nanmax(grid.peak_bytes) >= 1e9 else (1e6, "MB")
    return (
        _chart(grid, grid.wall_s / time_unit, f"time, {time_name}", Viridis256[_DARKEST:], run),
        _chart(grid, grid.peak_bytes / byte_unit, f"peak, {byte_name}", Magma256[40:], run),
    )


def _chart(
    grid: TileGrid,
    values: NDArray[np.float64],
    label: str,
    palette: Sequence[str],
    run: RunInfo,
) -> figure:
    rows, cols = values.shape
    cells, side = downsample(values, _MAX_CELLS)
    plot = style.chart(
        int(np.clip(_WIDTH * rows / cols, 110, 560)) + 60,
        label,
        x_range=(-0.5, cols - 0.5),
        y_range=(rows - 0.5, -0.5),
    )
    style.add_zoom(plot, "both")
    low, high = float(np.nanmin(cells)), float(np.nanmax(cells))
    mapper = LinearColorMapper(
        palette=list(palette),
        low=min(low, 0.6 * high),
        high=high if high > 0 else 1.0,
        nan_color="rgba(0, 0, 0, 0)",
    )
    # The first row of the array is drawn at y, where the axis, which is turned, has its top.
    drawn = Image(
        image="image",
        x=-0.5,
        y=-0.5,
        dw=cells.shape[1] * side,
        dh=cells.shape[0] * side,
        color_mapper=mapper,
    )
    image = plot.add_glyph(style.source({"image": [cells.astype(np.float32)]}), drawn)
    plot.add_layout(_colour_bar(mapper), "right")
    _mark(plot, [tile for tile in run.retried if tile.dataset == grid.dataset], failed=False)
    _mark(plot, [tile for tile in run.failed if tile.dataset == grid.dataset], failed=True)
    plot.grid.visible = False
    plot.xaxis.axis_label, plot.yaxis.axis_label = "column", "row"
    for axis in plot.axis:
        axis.ticker = BasicTicker(min_interval=1, num_minor_ticks=0)
        axis.formatter = BasicTickFormatter(use_scientific=False)
    described = [("row, column", _CELL), (label, "@image{0.[000]}")]
    style.add_hover(plot, described, [image], {"$x": _floor(side), "$y": _floor(side)})
    return plot


def _floor(side: int) -> CustomJSHover:
    """The first tile of a cell, by where the mouse is."""
    return CustomJSHover(
        args={"side": side}, code="return String(Math.floor((value + 0.5) / side) * side)"
    )


def _colour_bar(mapper: LinearColorMapper) -> ColorBar:
    return ColorBar(
        color_mapper=mapper,
        width=12,
        padding=4,
        background_fill_alpha=0,
        major_tick_line_color=None,
        major_label_text_font_size="12px",
    )


def _mark(plot: figure, tiles: Sequence[TileMishap], *, failed: bool) -> None:
    """Mark tiles: a cross on those that failed, a ring on those that were retried."""
    shown = tiles[:_MAX_MARKS]
    if not shown:
        return
    marks = {
        "x": [tile.col for tile in shown],
        "y": [tile.row for tile in shown],
        "cause": [tile.cause for tile in shown],
        "what": ["failed" if failed else "retried" for _ in shown],
    }
    # A dark line under a light one is seen on every colour.
    for width, colour in ((4.5, "#000000b0"), (2.2, style.FAILED_COLOUR if failed else "#ffffff")):
        drawn = plot.scatter(
            "x",
            "y",
            marker="x" if failed else "circle",
            size=13,
            fill_alpha=0,
            line_color=colour,
            line_width=width,
            source=style.source(marks),
        )
    style.add_hover(plot, [("@what", "@cause")], [drawn])
