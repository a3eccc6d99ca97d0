"""Base class of files of arrays: one raster, written window by window."""

import os
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from batuta.datasets.array_tile import AnyArrayTile, variable_of
from batuta.datasets.conversion import check_kind, fit, nodata_in
from batuta.datasets.errors import TileError
from batuta.datasets.grid import Overlaps, Window
from batuta.datasets.options import SaveOptions
from batuta.datasets.profile import differing, read_profile
from batuta.datasets.tiles import PROFILE
from batuta.errors import ConfigurationError, one_line


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
    transform, crs, rpcs
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
    rpcs: Any = None
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
            f"{name} {there} instead of {wanted}"
            for name in names
            if not is_same(there := getattr(left, name), wanted := getattr(self, name))
        ]
        if differing:
            raise TileError(
                f"{file_name}: cannot resume: the existing file is another raster,"
                f" with {', '.join(differing)}"
            )

    def check_profile(self, profile: Mapping[str, Any]) -> None:
        """Refuse a tile whose profile is of another raster than that of the first tile.

        Raises
        ------
        TileError
            Naming what differs.
        """
        expected = {name: getattr(self, name) for name in ("height", "width", "transform", "crs")}
        if (name := differing(profile, expected)) is not None:
            raise TileError(
                f"profile: {name} {one_line(profile[name])} given,"
                f" that of the first tile was {one_line(expected[name])}: it is of the whole raster"
            )


def is_same(left: Any, right: Any) -> bool:
    """Return whether two values are equal, or both NaN."""
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

    def spec_for(self, tile: AnyArrayTile) -> RasterSpec:
        """Return the raster of `tile`; the profile, if any, gives size and georeferencing.

        Raises
        ------
        ConfigurationError
            If there are not as many band descriptions as bands.
        TileError
            If its dimensions, the kind of its values or its profile are not those of a raster.
        """
        profile = read_profile(tile.attrs.get(PROFILE) or {})
        variable = variable_of(tile, self.tag)
        count = 1 if len(variable.shape) == 2 else int(variable.shape[0])
        if self.band_descriptions and len(self.band_descriptions) != count:
            raise ConfigurationError(
                f"options.band_descriptions: {len(self.band_descriptions)} given,"
                f" {self.tag} has {count} band{'s' * (count > 1)}"
            )
        dtype = raster_dtype(self.dtype or variable.dtype)
        check_kind(variable.dtype, dtype)
        return RasterSpec(
            height=profile.get("height", self.shape[0]),
            width=profile.get("width", self.shape[1]),
            count=count,
            dtype=dtype,
            nodata=None if self.nodata is None else nodata_in(dtype, self.nodata),
            transform=profile.get("transform"),
            crs=profile.get("crs") or None,  # an empty one is none
            rpcs=profile.get("rpcs"),
            bands=tuple(self.band_descriptions) or variable.bands,
            tag=self.tag,
            dims=variable.dims,
            tile_shape=self.tile_shape,
        )


def raster_dtype(dtype: npt.DTypeLike) -> str:
    """Return the name of a data type, in the byte order of this machine."""
    return str(np.dtype(dtype).newbyteorder("="))


class ArrayFile(ABC):
    """A file of one raster; a `Descriptor`, opened by `CarsDataset.generate_descriptor`.

    Subclasses, one per format, write and read pixels.

    Parameters
    ----------
    path : path
        The file.
    spec : RasterSpec
        Its raster.
    options : SaveOptions
        Its options.

    Attributes
    ----------
    losses : list of str
        What conversions to the data type of the file lost, each told once.
    converts : bool
        Whether tiles of any data type are converted, as where the program gave that of the file.
        If not, tiles that it does not hold exactly are refused.
    """

    def __init__(
        self, path: str | os.PathLike[str], spec: RasterSpec, options: SaveOptions
    ) -> None:
        self.path = Path(path)
        self.spec = spec
        self.losses: list[str] = []
        self.converts = True
        self._nbits = options.nbits
        self._bands = () if options.band_descriptions else spec.bands
        """Names of the bands by the coordinate of the tiles; empty until one of them has it."""

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

    def write_variable(
        self, tile: AnyArrayTile, tag: str, window: Window, overlaps: Overlaps | None = None
    ) -> None:
        """Write a variable of a tile: its dimensions, and bands, are found by their names.

        Raises
        ------
        TileError
            If its dimensions are not those of a raster, its bands have other names than those of
            the other tiles, its profile is of another raster, or `write` refuses its values.
        """
        try:
            self.spec.check_profile(tile.attrs.get(PROFILE) or {})
            variable = variable_of(tile, tag)
            bands = self._band_order(variable.bands)
        except TileError as exc:
            raise exc.of_file(self.path.name) from exc
        if bands is None and self._store_encoded(variable.data, window):
            return
        values = variable.values if bands is None else variable.values[bands]
        self.write(values, window, overlaps)

    def _store_encoded(self, data: Any, window: Window) -> bool:  # noqa: ARG002 - of subclasses
        """Write pixels that a worker has encoded for this file; return False if they are not."""
        return False

    def _band_order(self, names: tuple[str, ...]) -> list[int] | None:
        """Return where the bands of the file are in a tile; None if they are in order."""
        if not names or names == self._bands:
            return None
        if not self._bands:
            self._bands = names
            return None
        if sorted(names) != sorted(self._bands) or len({*names}) < len(names):
            raise TileError(
                f"bands {', '.join(names)} given, those of the other tiles are"
                f" {', '.join(self._bands)}"
            )
        return [names.index(name) for name in self._bands]

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
        try:
            bands = self._checked(values, window)
            cropped = _crop(bands, window, overlaps or Overlaps())
            pixels, lost = fit(cropped, self.spec.dtype, self.spec.nodata, self._nbits)
            if not self.converts:
                self._check_exact(values.dtype, lost)
        except TileError as exc:
            raise exc.of_file(self.path.name) from exc
        self._store(pixels, window)
        self._record_loss(lost)

    def _record_loss(self, lost: str | None) -> None:
        if lost is not None and lost not in self.losses:
            self.losses.append(lost)

    def _check_exact(self, given: np.dtype[Any], lost: str | None) -> None:
        # The first tile that comes is another one each time: that must not change the pixels.
        if lost is not None or not np.can_cast(given, self.spec.dtype):
            raise TileError(
                f"values of {given} given, the first tile was of {self.spec.dtype};"
                " with a dtype, they are converted"
            )

    def read(self, window: Window) -> npt.NDArray[Any]:
        """Return the pixels of `window`, of shape (rows, columns), or with bands first."""
        bands = self._load(window)
        one: npt.NDArray[Any] = bands[0] if self.spec.count == 1 else bands
        return one

    def _checked(self, values: npt.NDArray[Any], window: Window) -> npt.NDArray[Any]:
        """Return values of shape (bands, rows, columns), of a window that is in the raster."""
        inside = 0 <= window.row_min < window.row_max <= self.spec.height
        if not (inside and 0 <= window.col_min < window.col_max <= self.spec.width):
            raise TileError(
                f"{window} is not inside the raster"
                f" of {self.spec.height} rows and {self.spec.width} columns"
            )
        if values.ndim not in {2, 3}:
            raise TileError(f"a tile of {values.ndim} dimensions given, 2 or 3 expected")
        bands = values[np.newaxis] if values.ndim == 2 else values
        if bands.shape[0] != self.spec.count:
            raise TileError(
                f"a tile of {bands.shape[0]} bands given, the raster has {self.spec.count}"
            )
        return bands

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
