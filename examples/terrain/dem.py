"""Elevation models on disk: their georeferencing, their pixels in metres, their windows."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self, TypeAlias

import numpy as np
import numpy.typing as npt
import rasterio
from rasterio.windows import Window

from batuta.datasets import Overlaps
from batuta.datasets import Window as TileWindow
from examples.terrain.relief import Heights

Pixels: TypeAlias = npt.NDArray[np.int64]

EARTH_RADIUS_M: Final = 6_371_008.8
"""Mean radius (IUGG): good to 0.5 %, which is less than an elevation model's own errors."""

SAMPLE: Final = "jacksboro_fault_dem.npz"


@dataclass(frozen=True)
class Dem:
    """An elevation model in a GeoTIFF, read window by window.

    Parameters
    ----------
    path : str
        The file: heights in m, in its first band.
    rows, cols : int
        Its size.
    transform, crs
        Georeferencing, as rasterio has it.
    """

    path: str
    rows: int
    cols: int
    transform: Any
    crs: Any

    @classmethod
    def opened(cls, path: Path) -> Self:
        """Read the description of a file.

        Raises
        ------
        ValueError
            If it does not say where on Earth it is.
        """
        with rasterio.open(path) as raster:
            if raster.crs is None:
                raise ValueError(f"{path} has no coordinate reference system")
            return cls(str(path), raster.height, raster.width, raster.transform, raster.crs)

    @property
    def profile(self) -> dict[str, Any]:
        """What tells a GeoTIFF where it lies."""
        return {
            "height": self.rows,
            "width": self.cols,
            "transform": self.transform,
            "crs": self.crs,
        }

    def read(self, window: TileWindow, overlaps: Overlaps) -> Heights:
        """Return the heights of a window and its overlaps, in m; NaN where the model has none."""
        rows, cols = overlaps.around(window.shape)
        top, left = window.row_min - overlaps.up, window.col_min - overlaps.left
        with rasterio.open(self.path) as raster:
            heights = raster.read(1, window=Window(left, top, cols, rows), masked=True)
        filled: Heights = heights.astype(np.float64).filled(np.nan)
        return filled

    def pixel_size_m(self, first_row: int, rows: int) -> tuple[Heights, Heights]:
        """Return the height and the width of the pixels of some rows, in m; each of shape (rows,).

        Where coordinates are degrees, pixels get narrower towards the poles.
        """
        height, width = np.full(rows, -self.transform.e), np.full(rows, self.transform.a)
        if not self.crs.is_geographic:
            return height, width
        latitude_deg = self.transform.f + self.transform.e * (first_row + np.arange(rows) + 0.5)
        degree_m = np.radians(EARTH_RADIUS_M)
        return height * degree_m, width * degree_m * np.cos(np.radians(latitude_deg))

    def centres(self, rows: Pixels, cols: Pixels) -> tuple[Heights, Heights]:
        """Return the coordinates x and y of the centres of pixels."""
        place, down, right = self.transform, rows + 0.5, cols + 0.5
        x: Heights = place.a * right + place.b * down + place.c
        y: Heights = place.d * right + place.e * down + place.f
        return x, y


def write_sample(path: Path) -> None:
    """Write the elevation model that comes with matplotlib: the Jacksboro fault, SRTM data."""
    from matplotlib.cbook import get_sample_data  # noqa: PLC0415 - workers need no matplotlib

    with np.load(str(get_sample_data(SAMPLE, asfileobj=False))) as sample:
        heights = sample["elevation"]
        west, east = sorted((float(sample["xmin"]), float(sample["xmax"])))
        south, north = sorted((float(sample["ymin"]), float(sample["ymax"])))
    rows, cols = heights.shape
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        height=rows,
        width=cols,
        count=1,
        dtype=heights.dtype,
        crs="EPSG:4326",
        transform=rasterio.Affine((east - west) / cols, 0, west, 0, (south - north) / rows, north),
    ) as raster:
        raster.write(heights, 1)
