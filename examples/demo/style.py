"""How the pictures look."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter

INK: Final = "#1d2b3a"
QUIET: Final = "#8a97a6"
BLUE: Final = "#1f6f9f"
SKY: Final = "#a9cfe4"
RED: Final = "#c8402f"
SAND: Final = "#e9a23b"
MISSING: Final = "#d9dde2"

COLOUR_MAP: Final = "viridis"
"""Perceptually uniform, and readable without colours."""

_SETTINGS: Final[Any] = {
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "font.size": 10.5,
    "axes.titlesize": 12,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 22,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e3e7ec",
    "grid.linewidth": 0.7,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
    "legend.fontsize": 9.5,
}


@contextmanager
def styled() -> Iterator[None]:
    """Draw in this style, whatever style is set outside the block."""
    with mpl.rc_context(_SETTINGS):
        yield


def new_figure(width_in: float, height_in: float) -> Figure:
    """Make a figure without a window and without pyplot's global state."""
    figure = Figure(figsize=(width_in, height_in), layout="constrained")
    FigureCanvasAgg(figure)
    engine = figure.get_layout_engine()
    if engine is not None:
        engine.set(w_pad=0.12, h_pad=0.1)  # type: ignore[call-arg]  # of the constrained layout
    return figure


def save(figure: Figure, path: Path) -> Path:
    """Write the figure as PNG."""
    figure.savefig(path, dpi=150, format="png")
    return path


def note(axes: Axes, text: str) -> None:
    """Write a remark between the title and the axes."""
    axes.annotate(
        text,
        (0, 1),
        xytext=(0, 5),
        xycoords="axes fraction",
        textcoords="offset points",
        fontsize=9.5,
        color=QUIET,
    )


def title(axes: Axes, text: str, source: str = "") -> None:
    """Write the title at the left, and what was observed at the right."""
    axes.set_title(text)
    axes.set_title(source, loc="right", fontsize=9.5, fontweight="normal")


def as_image(axes: Axes) -> None:
    """Make ready for an image: closed frame, no grid, grey where there is no value."""
    axes.grid(visible=False)
    axes.spines[:].set_visible(True)
    axes.set_facecolor(MISSING)


def points(axes: Axes, x: Any, y: Any, error: Any, colour: str, label: str | None) -> None:
    """Draw measures with their 1-sigma errors."""
    axes.errorbar(
        x, y, error, fmt="o", ms=3.6, color=colour, elinewidth=0.9, capsize=0, label=label
    )


def plain_ticks(axes: Axes, axis: str, ticks: Sequence[float]) -> None:
    """Label a logarithmic axis with these numbers, as they are read."""
    chosen = axes.xaxis if axis == "x" else axes.yaxis
    chosen.set_major_locator(FixedLocator(ticks))
    chosen.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    chosen.set_minor_formatter(NullFormatter())


def colour_bar(axes: Axes, mapped: ScalarMappable, label: str, extend: str = "neither") -> None:
    """Add the scale of colours, as high as the axes."""
    figure = axes.get_figure()
    if figure is not None:
        bar = figure.colorbar(mapped, ax=axes, pad=0.015, fraction=0.045, extend=extend)
        bar.set_label(label)
        bar.outline.set_linewidth(0.6)
