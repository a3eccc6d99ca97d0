"""One GeoTIFF, written window by window as tiles come."""

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt
import rasterio
import xarray as xr
from rasterio.errors import NotGeoreferencedWarning
from rasterio.windows import Window as RasterWindow

from batuta.datasets.errors import TileError
from batuta.datasets.grid import Overlaps, Window
from batuta.datasets.tiles import PROFILE

BLOCK_PX: Final = 256
"""Side of a GeoTIFF block; smaller rasters are stored in strips."""


@dataclass(frozen=True, kw_only=True)
class RasterSpec:
    """What a GeoTIFF is made of, known from the dataset's grid and its first tile.

    Parameters
    ----------
    height, width, count : int
        Rows, columns and bands.
    dtype : str
        Data type of the file.
    nodata : float or None
        Value of pixels that no tile fills.
    transform, crs
        Georeferencing, as rasterio has it; None where unknown.
    bands : tuple of str
        Names of the bands, where the tile gives them.
    """

    height: int
    width: int
    count: int
    dtype: str
    nodata: float | None = None
    transform: Any = None
    crs: Any = None
    bands: tuple[str, ...] = ()

    def profile(self) -> dict[str, Any]:
        """Give the creation options of rasterio."""
        named = {
            "height": self.height,
            "width": self.width,
            "count": self.count,
            "dtype": self.dtype,
            "nodata": self.nodata,
            "transform": self.transform,
            "crs": self.crs,
        }
        return {key: value for key, value in named.items() if value is not None} | self._layout()

    def _layout(self) -> dict[str, Any]:
        if min(self.height, self.width) < BLOCK_PX:
            return {}
        return {"tiled": True, "blockxsize": BLOCK_PX, "blockysize": BLOCK_PX}


def raster_spec(
    tile: xr.Dataset,
    tag: str,
    shape: tuple[int, int],
    dtype: str | None,
    nodata: float | None,
) -> RasterSpec:
    """Describe the GeoTIFF that `tile` belongs to; its profile, if any, comes before `shape`."""
    profile = dict(tile.attrs.get(PROFILE) or {})
    variable = tile[tag]
    return RasterSpec(
        height=int(profile.get("height", shape[0])),
        width=int(profile.get("width", shape[1])),
        count=1 if variable.ndim == 2 else int(variable.shape[0]),
        dtype=str(np.dtype(dtype or variable.dtype)),
        nodata=nodata,
        transform=profile.get("transform"),
        crs=profile.get("crs"),
        bands=_band_names(variable),
    )


def _band_names(variable: xr.DataArray) -> tuple[str, ...]:
    if variable.ndim != 3 or variable.dims[0] not in variable.coords:
        return ()
    return tuple(str(name) for name in variable.coords[variable.dims[0]].values)


class RasterFile:
    """A GeoTIFF open for writing and reading; made by `CarsDataset.generate_descriptor`.

    Its blocks are laid out in order before the first tile, so that the file holds the same
    bytes in whatever order the tiles come.
    """

    def __init__(self, path: str | os.PathLike[str], spec: RasterSpec) -> None:
        self.path = Path(path)
        self.spec = spec
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with _unplaced_is_fine():
            with rasterio.open(
                self.path, "w", driver="GTiff", BIGTIFF="IF_SAFER", **spec.profile()
            ) as laid_out:
                for index, name in enumerate(spec.bands, start=1):
                    laid_out.set_band_description(index, name)
            self.dataset = rasterio.open(self.path, "r+")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def write(
        self, values: npt.NDArray[Any], window: Window, overlaps: Overlaps | None = None
    ) -> None:
        """Write a tile at its window, its overlaps cropped.

        Parameters
        ----------
        values : array
            Shape (rows, columns) or (bands, rows, columns), overlaps included if it has them.
        window : Window
            Where it goes, in pixels of the raster.
        overlaps : Overlaps, optional
            What `values` holds beyond `window`.

        Raises
        ------
        TileError
            If the shape, the window or the values do not fit the raster.
        """
        self._check_window(window)
        bands = values[np.newaxis] if values.ndim == 2 else values
        if bands.shape[0] != self.spec.count:
            raise TileError(
                f"{self.path.name}: a tile of {bands.shape[0]} bands given,"
                f" the raster has {self.spec.count}"
            )
        data = fit(_crop(bands, window, overlaps or Overlaps()), self.spec.dtype, self.spec.nodata)
        self.dataset.write(data, window=_raster_window(window))

    def read(self, window: Window) -> npt.NDArray[Any]:
        """Give what is in the file at `window`: (rows, columns), or with bands first."""
        data: npt.NDArray[Any] = self.dataset.read(window=_raster_window(window))
        return data[0] if self.spec.count == 1 else data

    def close(self) -> None:
        """Flush and close the file; once is enough, more is harmless."""
        self.dataset.close()

    def _check_window(self, window: Window) -> None:
        inside = 0 <= window.row_min < window.row_max <= self.spec.height
        if not (inside and 0 <= window.col_min < window.col_max <= self.spec.width):
            raise TileError(
                f"{self.path.name}: {window} is not inside the raster"
                f" of {self.spec.height} rows and {self.spec.width} columns"
            )


@contextmanager
def _unplaced_is_fine() -> Iterator[None]:
    """Let rasters without georeferencing be made in silence: many have none."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        yield


def _raster_window(window: Window) -> RasterWindow:
    height, width = window.shape
    return RasterWindow(window.col_min, window.row_min, width, height)


def _crop(bands: npt.NDArray[Any], window: Window, overlaps: Overlaps) -> npt.NDArray[Any]:
    rows, cols = window.shape
    given = bands.shape[1], bands.shape[2]
    if given == (rows, cols) and given != overlaps.around(window.shape):
        return bands  # the program cropped it already
    if given != overlaps.around(window.shape):
        raise TileError(
            f"a tile of {given[0]} x {given[1]} pixels given, its window is of {rows} x {cols}"
            f" and of {' x '.join(map(str, overlaps.around(window.shape)))} with its overlaps"
        )
    return bands[:, overlaps.up : overlaps.up + rows, overlaps.left : overlaps.left + cols]


def fit(values: npt.NDArray[Any], dtype: str, nodata: float | None) -> npt.NDArray[Any]:
    """Give `values` in the data type of a file, whole numbers rounded, nothing wrapped.

    Raises
    ------
    TileError
        If a value cannot be held: out of range, or not a number where there is no nodata.
    """
    target = np.dtype(dtype)
    if values.dtype == target or not np.issubdtype(target, np.integer):
        return values.astype(target, copy=False)
    if not np.issubdtype(values.dtype, np.floating):
        return _in_range(values, target).astype(target)
    missing = np.isnan(values)
    if missing.any() and nodata is None:
        raise TileError(f"NaN cannot be saved as {dtype} without nodata")
    whole = np.rint(np.where(missing, 0 if nodata is None else nodata, values))
    return _in_range(whole, target).astype(target)


def _in_range(values: npt.NDArray[Any], target: np.dtype[Any]) -> npt.NDArray[Any]:
    limits = np.iinfo(target)
    if values.size and (values.min() < limits.min or values.max() > limits.max):
        raise TileError(
            f"values from {values.min()} to {values.max()} cannot be saved as {target}"
            f" ({limits.min} to {limits.max})"
        )
    return values
