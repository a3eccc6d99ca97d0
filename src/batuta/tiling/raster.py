"""The raster of an input or of an output, as a whole: its size, bands and georeferencing."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, Self, TypeAlias

import numpy as np
import numpy.typing as npt
from affine import Affine

from batuta.datasets import Overlaps, Window

Pixels: TypeAlias = npt.NDArray[Any]
"""Of shape (rows, columns), or (bands, rows, columns) where there is an axis of bands."""

_GRID: Final = ("height", "width", "transform", "crs")


@dataclass(frozen=True, kw_only=True)
class Raster:
    """A raster as a whole; its pixels are elsewhere.

    Parameters
    ----------
    name : str
        Its name in messages.
    height, width, count : int
        Rows, columns and bands.
    dtype : str
        Of its pixels; empty where only a function that has not run yet knows.
    nodata : float or None
        The value of pixels that have none.
    transform : Affine or None
        From columns and rows to coordinates.
    crs : str or None
        The coordinate reference system, as WKT.
    rpcs : mapping or None
        Rational polynomial coefficients, with the names that GDAL gives them.
    block : (int, int) or None
        Rows and columns of the blocks in which it is stored; None where any window costs the same.
    bands : tuple of str
        Names of the bands; empty where they have none.
    tags : mapping of str to str
        Its metadata.
    is_banded : bool
        Whether functions take its pixels with the axis of bands, even if there is only one.
    """

    name: str
    height: int
    width: int
    count: int = 1
    dtype: str = ""
    nodata: float | None = None
    transform: Affine | None = None
    crs: str | None = None
    rpcs: Mapping[str, str] | None = field(default=None, compare=False)
    block: tuple[int, int] | None = None
    bands: tuple[str, ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict, compare=False)
    is_banded: bool = False

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.height, self.width

    @property
    def window(self) -> Window:
        """All of it."""
        return Window(0, self.height, 0, self.width)

    @property
    def profile(self) -> dict[str, Any]:
        """What states in a file where the raster lies: simple values, quick to send."""
        place = None if self.transform is None else tuple(self.transform)[:6]
        return {
            "height": self.height,
            "width": self.width,
            "transform": place,
            "crs": self.crs,
            "rpcs": self.rpcs,
        }

    def part(self, window: Window) -> Self:
        """Return the raster of the pixels of a window."""
        rows, cols = window.shape
        return replace(
            self,
            height=rows,
            width=cols,
            transform=self.transform_of(window),
            rpcs=None if self.rpcs is None else _moved_rpcs(self.rpcs, window),
        )

    def transform_of(self, window: Window) -> Affine | None:
        """Return the transform of an array whose first pixel is that of `window`."""
        if self.transform is None:
            return None
        moved: Affine = self.transform @ Affine.translation(window.col_min, window.row_min)
        return moved

    def overlaps_around(self, window: Window, margin_px: int) -> Overlaps:
        """Return how far `margin_px` pixels around a window are inside the raster."""
        return Overlaps(
            up=min(margin_px, window.row_min),
            down=min(margin_px, self.height - window.row_max),
            left=min(margin_px, window.col_min),
            right=min(margin_px, self.width - window.col_max),
        )

    def grid_difference(self, other: "Raster") -> str | None:
        """Return in one line how the grid of `other` differs from this one; None if it does not.

        Two rasters without georeferencing, or one, are on one grid if they have the same size.
        """
        for key in _GRID:
            mine, theirs = getattr(self, key), getattr(other, key)
            if mine is None or theirs is None or _is_same(mine, theirs):
                continue
            if key in {"transform", "crs"}:
                return f"another {key}"
            return f"{key} {theirs} instead of {mine}"
        return None


def _is_same(mine: Any, theirs: Any) -> bool:
    if isinstance(mine, Affine):
        # Coordinates of one pixel in ten thousand apart come from texts that were rounded.
        return bool(np.allclose(tuple(mine), tuple(theirs), rtol=1e-9, atol=abs(mine.a) * 1e-4))
    return bool(mine == theirs)


def _moved_rpcs(rpcs: Mapping[str, str], window: Window) -> dict[str, str]:
    """Return the coefficients of an image that begins at the first pixel of a window."""
    first = {"LINE_OFF": window.row_min, "SAMP_OFF": window.col_min}
    return {**rpcs, **{key: repr(float(rpcs[key]) - first[key]) for key in first}}


def grown(window: Window, overlaps: Overlaps) -> Window:
    """Return a window with its overlaps."""
    return Window(
        window.row_min - overlaps.up,
        window.row_max + overlaps.down,
        window.col_min - overlaps.left,
        window.col_max + overlaps.right,
    )


def moved(window: Window, rows: int, cols: int) -> Window:
    """Return a window further down and to the right by so many pixels."""
    return Window(
        window.row_min + rows, window.row_max + rows, window.col_min + cols, window.col_max + cols
    )
