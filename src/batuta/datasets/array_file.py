"""Base class of files of arrays: one raster, written window by window."""

import os
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import xarray as xr

from batuta.datasets.errors import TileError
from batuta.datasets.grid import Overlaps, Window
from batuta.datasets.tiles import PROFILE
from batuta.errors import ConfigurationError


@dataclass(frozen=True, kw_only=True)
class RasterSpec:
    """The whole raster of a file, known from the grid of the dataset and its first tile.

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
        Names of the bands, where the options or the tile give them.
    tag : str
        Name of the variable.
    dims : tuple of str
        Its dimensions, rows before columns, bands first where it has them.
    tile_shape : (int, int)
        Rows and columns of the largest tile.
    """

    height: int
    width: int
    count: int
    dtype: str
    nodata: float | None = None
    transform: Any = None
    crs: Any = None
    bands: tuple[str, ...] = ()
    tag: str = "data"
    dims: tuple[str, ...] = ("row", "col")
    tile_shape: tuple[int, int] = (256, 256)

    @property
    def nbytes(self) -> int:
        """Size of all pixels, in bytes."""
        return self.height * self.width * self.count * np.dtype(self.dtype).itemsize

    def check_matches(self, left: "RasterSpec", file_name: str) -> None:
        """Refuse to resume a file that holds another raster.

        Raises
        ------
        TileError
            Naming what differs.
        """
        names = ("height", "width", "count", "dtype", "nodata")
        differing = [
            f"{name} {getattr(left, name)} instead of {getattr(self, name)}"
            for name in names
            if not _equal(getattr(left, name), getattr(self, name))
        ]
        if differing:
            raise TileError(
                f"{file_name}: cannot resume: the existing file is another raster,"
                f" with {', '.join(differing)}"
            )


def _equal(left: Any, right: Any) -> bool:
    both_nan = left is not None and right is not None and left != left and right != right  # noqa: PLR0124 - NaN alone
    return bool(left == right or both_nan)


@dataclass(frozen=True, kw_only=True)
class RasterRequest:
    """The raster that a program asks for, before any tile is known.

    Parameters
    ----------
    tag : str
        Name of the variable.
    shape : (int, int)
        Rows and columns of the grid.
    tile_shape : (int, int)
        Rows and columns of its largest tile.
    dtype, nodata : optional
        Of the file; without dtype, that of the first tile.
    band_descriptions : tuple of str
        Names of the bands; if empty, those of the tile.
    """

    tag: str
    shape: tuple[int, int]
    tile_shape: tuple[int, int]
    dtype: str | None = None
    nodata: float | None = None
    band_descriptions: tuple[str, ...] = ()

    def spec_for(self, tile: xr.Dataset) -> RasterSpec:
        """Return the raster of `tile`; the profile, if any, gives size and georeferencing.

        Raises
        ------
        ConfigurationError
            If there are not as many band descriptions as bands.
        """
        profile = dict(tile.attrs.get(PROFILE) or {})
        variable = tile[self.tag]
        count = 1 if variable.ndim == 2 else int(variable.shape[0])
        if self.band_descriptions and len(self.band_descriptions) != count:
            raise ConfigurationError(
                f"options.band_descriptions: {len(self.band_descriptions)} given,"
                f" {self.tag} has {count} band{'s' * (count > 1)}"
            )
        return RasterSpec(
            height=int(profile.get("height", self.shape[0])),
            width=int(profile.get("width", self.shape[1])),
            count=count,
            dtype=str(np.dtype(self.dtype or variable.dtype)),
            nodata=self.nodata,
            transform=profile.get("transform"),
            crs=profile.get("crs"),
            bands=tuple(self.band_descriptions) or _band_names(variable),
            tag=self.tag,
            dims=tuple(str(name) for name in variable.dims),
            tile_shape=self.tile_shape,
        )


def _band_names(variable: xr.DataArray) -> tuple[str, ...]:
    if variable.ndim != 3 or variable.dims[0] not in variable.coords:
        return ()
    return tuple(str(name) for name in variable.coords[variable.dims[0]].values)


class ArrayFile(ABC):
    """A file of one raster; a `Descriptor`, opened by `CarsDataset.generate_descriptor`.

    Subclasses, one per format, write and read pixels.
    """

    def __init__(
        self, path: str | os.PathLike[str], spec: RasterSpec, nbits: int | None = None
    ) -> None:
        self.path = Path(path)
        self.spec = spec
        self._nbits = nbits

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def outputs(self) -> tuple[Path, ...]:
        """The path of the file."""
        return (self.path,)

    def write(
        self, values: npt.NDArray[Any], window: Window, overlaps: Overlaps | None = None
    ) -> None:
        """Write a tile to its window; its overlaps are cropped.

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
        cropped = _crop(bands, window, overlaps or Overlaps())
        self._store(fit(cropped, self.spec.dtype, self.spec.nodata, self._nbits), window)

    def read(self, window: Window) -> npt.NDArray[Any]:
        """Return the pixels of `window`, of shape (rows, columns), or with bands first."""
        bands = self._load(window)
        one: npt.NDArray[Any] = bands[0] if self.spec.count == 1 else bands
        return one

    def _check_window(self, window: Window) -> None:
        inside = 0 <= window.row_min < window.row_max <= self.spec.height
        if not (inside and 0 <= window.col_min < window.col_max <= self.spec.width):
            raise TileError(
                f"{self.path.name}: {window} is not inside the raster"
                f" of {self.spec.height} rows and {self.spec.width} columns"
            )

    @abstractmethod
    def _store(self, bands: npt.NDArray[Any], window: Window) -> None:
        """Write pixels of shape (bands, rows, columns), in the data type of the file."""

    @abstractmethod
    def _load(self, window: Window) -> npt.NDArray[Any]:
        """Read pixels, of shape (bands, rows, columns)."""

    @abstractmethod
    def checkpoint(self) -> None:
        """Make everything written so far durable against a killed process and a power loss."""

    @abstractmethod
    def close(self, *, keep: bool = False) -> None:
        """Finish the file; see `Descriptor.close`."""

    @abstractmethod
    def suspend(self) -> None:
        """Stop, and keep what was written for a later run to resume."""

    @abstractmethod
    def abandon(self) -> None:
        """Delete everything that is not final."""


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


def fit(
    values: npt.NDArray[Any], dtype: str, nodata: float | None, nbits: int | None = None
) -> npt.NDArray[Any]:
    """Convert `values` to the data type of a file: integers are rounded, nothing wraps around.

    Raises
    ------
    TileError
        If a value is out of range, or is NaN where there is no nodata value.
    """
    target = np.dtype(dtype)
    if np.iscomplexobj(values) and target.kind != "c":
        raise TileError(f"complex values cannot be saved as {dtype}")
    if values.dtype == target and nbits is None:
        return values
    if not np.issubdtype(target, np.integer):
        return _cast_to_float(values, target)
    if not np.issubdtype(values.dtype, np.floating):
        return _check_range(values, target, nbits).astype(target, copy=False)
    missing = np.isnan(values)
    if missing.any() and nodata is None:
        raise TileError(f"NaN cannot be saved as {dtype} without nodata")
    whole = _check_range(np.rint(np.where(missing, 0, values)), target, nbits).astype(target)
    # Set after the conversion: the limits of an integer type may have no exact float.
    whole[missing] = 0 if nodata is None else nodata
    return whole


def _cast_to_float(values: npt.NDArray[Any], target: np.dtype[Any]) -> npt.NDArray[Any]:
    try:
        with np.errstate(over="raise"):
            return values.astype(target, copy=False)
    except FloatingPointError as exc:
        largest = np.nanmax(np.abs(values))
        raise TileError(f"values up to {largest} cannot be saved as {target}") from exc


def _check_range(
    values: npt.NDArray[Any], target: np.dtype[Any], nbits: int | None
) -> npt.NDArray[Any]:
    lowest, highest = integer_limits(target, nbits)
    # NumPy would convert the limits to float; Python compares int and float exactly.
    if values.size and (values.min().item() < lowest or values.max().item() > highest):
        kept = "" if nbits is None else f" of {nbits} bits"
        raise TileError(
            f"values from {values.min()} to {values.max()} cannot be saved as {target}{kept}"
            f" ({lowest} to {highest})"
        )
    return values


def integer_limits(dtype: npt.DTypeLike, nbits: int | None = None) -> tuple[int, int]:
    """Return the smallest and the largest integer that a file can hold."""
    held = np.iinfo(dtype)
    return (int(held.min), int(held.max)) if nbits is None else (0, 2**nbits - 1)
