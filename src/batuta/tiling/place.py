"""Where a tile lies: what a function that takes `place` is told."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from affine import Affine

from batuta.datasets import Overlaps, Window
from batuta.tiling.raster import Raster, grown


@dataclass(frozen=True, kw_only=True)
class TilePlace:
    """Where the pixels lie that a function is called with.

    Parameters
    ----------
    window : Window
        The pixels of the tile in the raster, without overlaps.
    overlaps : Overlaps
        What the arrays hold beyond it, on each side.
    raster : Raster
        The whole raster.
    """

    window: Window
    overlaps: Overlaps
    raster: Raster

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the arrays, overlaps included."""
        return self.overlaps.around(self.window.shape)

    @property
    def transform(self) -> Affine | None:
        """From columns and rows of the arrays to coordinates; None without georeferencing."""
        return self.raster.transform_of(grown(self.window, self.overlaps))

    @property
    def crs(self) -> str | None:
        """The coordinate reference system, as WKT; None without georeferencing."""
        return self.raster.crs

    def inner(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return the pixels of an array, of shape (..., rows, columns), without the overlaps."""
        rows, cols = self.window.shape
        up, left = self.overlaps.up, self.overlaps.left
        return values[..., up : up + rows, left : left + cols]

    def coordinates(
        self, rows: npt.ArrayLike, cols: npt.ArrayLike
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Return the coordinates x and y of the centres of pixels of the arrays.

        Parameters
        ----------
        rows, cols : array of int
            Indices in the arrays, overlaps included. Without georeferencing, coordinates are
            columns and rows of the raster.
        """
        down = np.asarray(rows, dtype=np.float64) + 0.5
        right = np.asarray(cols, dtype=np.float64) + 0.5
        corner = grown(self.window, self.overlaps)
        place = self.transform or Affine.translation(corner.col_min, corner.row_min)
        return (
            place.a * right + place.b * down + place.c,
            place.d * right + place.e * down + place.f,
        )
