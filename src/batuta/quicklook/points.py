"""Plan views of points, coloured by height."""

from typing import Final

import numpy as np
from PIL import Image

from batuta.quicklook.canvas import as_image, named, with_bar
from batuta.quicklook.limits import SIZE_PX, CannotDrawError
from batuta.quicklook.stretch import Array, coloured, scaled, value_range, with_alpha

_PER_PX: Final = 1.2
"""Points for each pixel, about: fewer points make larger pixels."""
_MIN_PX: Final = 24


def draw_points(
    x: Array, y: Array, z: Array | None, *, unit: str | None = None, total: int | None = None
) -> Image.Image:
    """Return points as seen from above; of those in one pixel, the highest.

    Parameters
    ----------
    x, y, z : numpy.ndarray
        Their coordinates; without `z`, they are coloured by their density.
    unit : str, optional
        That of `z`.
    total : int, optional
        How many the file has, if not all are given.

    Raises
    ------
    CannotDrawError
        If none has finite coordinates.
    """
    finite = np.isfinite(x) & np.isfinite(y)
    if z is not None:
        finite &= np.isfinite(z)
    if not finite.any():
        raise CannotDrawError("it has no point with finite coordinates")
    x, y = x[finite].astype(np.float64), y[finite].astype(np.float64)
    grid, columns, rows = _grid(x, y)
    if z is None:
        heights, shown = _density(columns, rows, grid)
        name, unit = "points per pixel", None
    else:
        heights, shown = _highest(z[finite].astype(np.float64), columns, rows, grid)
        name = f"height of {total or len(finite):,} points"
    bounds = value_range(heights[shown])
    cells = as_image(with_alpha(coloured(scaled(heights, bounds)), shown))
    scale = max(1, SIZE_PX // max(grid))
    picture = cells.resize((grid[1] * scale, grid[0] * scale), Image.Resampling.NEAREST)
    return with_bar(picture, bounds, named(name, unit))


def _grid(x: Array, y: Array) -> tuple[tuple[int, int], Array, Array]:
    """Return the shape of a grid (rows, columns), and the cell of each point."""
    left, bottom = float(x.min()), float(y.min())
    width, height = float(x.max()) - left, float(y.max()) - bottom
    if not np.isfinite(width + height):
        raise CannotDrawError("its coordinates are too large")
    longer = max(width, height) or 1.0
    flat = min(width, height) / longer
    size = int(np.clip(np.sqrt(len(x) / _PER_PX / max(flat, 0.05)), _MIN_PX, SIZE_PX))
    across = max(1, round(width / longer * size))
    up = max(1, round(height / longer * size))
    columns = np.minimum(((x - left) / longer * size).astype(np.int64), across - 1)
    rows = up - 1 - np.minimum(((y - bottom) / longer * size).astype(np.int64), up - 1)
    return (up, across), columns, rows


def _highest(z: Array, columns: Array, rows: Array, grid: tuple[int, int]) -> tuple[Array, Array]:
    heights = np.full(grid, -np.inf)
    np.maximum.at(heights, (rows, columns), z)
    shown = np.isfinite(heights)
    return np.where(shown, heights, np.nan), shown


def _density(columns: Array, rows: Array, grid: tuple[int, int]) -> tuple[Array, Array]:
    counts = np.zeros(grid)
    np.add.at(counts, (rows, columns), 1)
    return counts, counts > 0
