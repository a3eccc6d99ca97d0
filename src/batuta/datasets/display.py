"""How a CarsDataset is displayed in a notebook, and what other displays are made of."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any, Final

import numpy as np

from batuta.datasets.grid import Grid

_MAX_CELLS: Final = 64
"""Of a drawing, on each side: more would be too small to be seen."""
_WIDTH_PX: Final = 240
_MAX_TEXT: Final = 200

NO_FILL: Final = "none"
DONE_FILL: Final = "#7aa6c2"
FAILED_FILL: Final = "#c2604f"


def html_table(rows: Iterable[Sequence[object]], header: Sequence[object] = ()) -> str:
    """Return an HTML table of cells, as text: whatever they are, they are escaped."""
    head = f"<thead>{_row(header, 'th')}</thead>" if header else ""
    return f"<table>{head}<tbody>{''.join(_row(row, 'td') for row in rows)}</tbody></table>"


def html_title(text: object) -> str:
    """Return a title."""
    return f"<p><strong>{html_text(text)}</strong></p>"


def _row(cells: Iterable[object], tag: str) -> str:
    return "<tr>" + "".join(f"<{tag}>{html_text(cell)}</{tag}>" for cell in cells) + "</tr>"


def html_text(value: object) -> str:
    """Return a value as text of HTML: escaped, and not too long."""
    text = str(value)
    return escape(text if len(text) <= _MAX_TEXT else f"{text[:_MAX_TEXT]}…")


def dataset_html(
    title: str,
    grid: Grid,
    overlaps: Grid,
    tiles: Sequence[Sequence[Any]],
    attributes: Mapping[str, Any],
) -> str:
    """Return a CarsDataset as HTML: its grid with sizes and overlaps, and what its tiles are.

    Parameters
    ----------
    title : str
        The dataset in a line.
    grid, overlaps : array of shape (rows, columns, 4)
        As in `CarsDataset`.
    tiles : sequence of sequences
        The tiles, row by row.
    attributes : mapping
        Of the dataset.
    """
    rows: list[tuple[str, object]] = []
    if grid.size:
        heights, widths = (np.unique(grid[..., i + 1] - grid[..., i]) for i in (0, 2))
        height, width = (int(np.max(grid[..., i + 1]) - np.min(grid[..., i])) for i in (0, 2))
        rows += [
            ("size", f"{height} x {width} pixels"),
            ("tiles", f"{grid.shape[0]} x {grid.shape[1]}"),
            ("size of a tile", f"{_span(heights)} x {_span(widths)} pixels"),
        ]
    if overlaps.size:
        sides = zip(("up", "down", "left", "right"), overlaps.max(axis=(0, 1)), strict=True)
        rows.append(("overlaps", ", ".join(f"{name} {int(size)}" for name, size in sides)))
    kinds = Counter(
        "none" if each is None else type(each).__name__ for row in tiles for each in row
    )
    if kinds:
        rows.append(("content", ", ".join(f"{count} {kind}" for kind, count in kinds.items())))
    rows += [(f"attributes[{name!r}]", value) for name, value in attributes.items()]
    fills = [[NO_FILL if each is None else DONE_FILL for each in row] for row in tiles]
    return html_title(title) + grid_drawing(grid, fills) + html_table(rows)


def _span(sizes: Any) -> str:
    low, high = int(sizes.min()), int(sizes.max())
    return str(low) if low == high else f"{low} to {high}"


def grid_drawing(grid: Grid, fills: Sequence[Sequence[str]]) -> str:
    """Draw the tiles, each filled by its colour; nothing of a grid too large to be seen."""
    rows, cols = grid.shape[:2]
    if not grid.size or max(rows, cols) > _MAX_CELLS:
        return ""
    top, left = float(grid[..., 0].min()), float(grid[..., 2].min())
    height, width = float(grid[..., 1].max()) - top, float(grid[..., 3].max()) - left
    if not (height > 0 and width > 0):
        return ""
    scale = _WIDTH_PX / max(height, width)
    cells = []
    for row, col in np.ndindex(rows, cols):
        row_min, row_max, col_min, col_max = (float(edge) for edge in grid[row, col])
        cells.append(
            f'<rect x="{(col_min - left) * scale:.1f}" y="{(row_min - top) * scale:.1f}"'
            f' width="{(col_max - col_min) * scale:.1f}"'
            f' height="{(row_max - row_min) * scale:.1f}" fill="{fills[row][col]}"'
            ' stroke="#808080"/>'
        )
    return (
        f'<svg width="{width * scale + 2:.0f}" height="{height * scale + 2:.0f}"'
        f' viewBox="-1 -1 {width * scale + 2:.1f} {height * scale + 2:.1f}">{"".join(cells)}</svg>'
    )
