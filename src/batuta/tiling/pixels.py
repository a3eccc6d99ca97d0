"""Pixels as functions take them, and as they return them."""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from batuta.datasets import TileError
from batuta.datasets.axes import band_names, in_raster_order
from batuta.datasets.loaded_libraries import is_data_array
from batuta.tiling.place import TilePlace
from batuta.tiling.raster import Pixels, Raster

NAN: Final = "nan"
MASKED: Final = "masked"
RAW: Final = "raw"
MISSING: Final = (NAN, MASKED, RAW)
"""How functions are given pixels without a value: as NaN, in a masked array, as they are stored."""

NUMPY: Final = "numpy"
XARRAY: Final = "xarray"
ARRAYS: Final = (NUMPY, XARRAY)
"""What functions take: NumPy arrays, or xarray's DataArrays."""

_EXACT_IN_FLOAT32: Final = 2
"""Bytes of the largest integers that all are exact in float32."""


def as_missing(pixels: Pixels, missing: str) -> Pixels:
    """Return pixels with those that have no value as a function takes them; see `MISSING`."""
    if missing == MASKED:
        return np.ma.asarray(pixels)
    if missing == NAN and np.ma.isMaskedArray(pixels):
        filled: Pixels = np.ma.filled(as_floats(pixels), np.nan)
        return filled
    return np.ma.getdata(pixels)


def as_floats(pixels: Pixels) -> Pixels:
    """Return pixels that may be NaN: whole numbers of up to 16 bits in float32, else float64."""
    if pixels.dtype.kind in "fc":
        return pixels
    small = pixels.dtype.itemsize <= _EXACT_IN_FLOAT32
    return pixels.astype(np.float32 if small else np.float64)


def as_argument(pixels: Pixels, raster: Raster, place: TilePlace, arrays: str) -> Any:
    """Return pixels as the argument of a function.

    Parameters
    ----------
    pixels : array of shape (..., rows, columns)
        Those of a tile, overlaps included.
    raster : Raster
        Of the input.
    place : TilePlace
        Where they lie.
    arrays : str
        One of `ARRAYS`.
    """
    if arrays == NUMPY:
        return pixels
    import xarray as xr  # noqa: PLC0415 - for functions that take its arrays

    coords: dict[str, Any] = {}
    if pixels.ndim == 3 and len(raster.bands) == len(pixels):
        coords["band"] = list(raster.bands)
    if place.transform is not None:
        rows, cols = place.shape
        coords["x"] = place.coordinates(np.zeros(cols), np.arange(cols))[0]
        coords["y"] = place.coordinates(np.arange(rows), np.zeros(rows))[1]
    attrs = {"crs": raster.crs, "transform": place.transform, "nodata": raster.nodata}
    return xr.DataArray(
        pixels,
        dims=("band", "y", "x")[-pixels.ndim :],
        coords=coords,
        attrs={key: value for key, value in attrs.items() if value is not None},
        name=raster.name,
    )


def cropped(result: Any, place: TilePlace, function: str) -> tuple[Pixels, tuple[str, ...]]:
    """Return what a function returned, cropped to the window of its tile, and names of its bands.

    Raises
    ------
    TileError
        If it is no array of numbers, or neither of the shape of the tile nor of that of its
        arguments, overlaps included.
    """
    names: tuple[str, ...] = ()
    if is_data_array(result):
        ordered = in_raster_order(result if result.name is not None else result.rename(function))
        names, result = band_names(ordered), ordered.to_numpy()
    if not isinstance(result, np.ndarray):
        raise TileError(f"{function} returned {type(result).__name__}, an array expected")
    if result.dtype.kind not in "biufc":
        raise TileError(f"{function} returned an array of {result.dtype}, numbers expected")
    whole, inner = place.shape, place.window.shape
    if result.ndim not in {2, 3} or result.shape[-2:] not in {whole, inner}:
        without = "" if whole == inner else f", or {_shape(inner)} without overlaps"
        raise TileError(
            f"{function} returned an array of {_shape(result.shape)}, that of its arguments"
            f" expected: {_shape(whole)}{without}, with bands first if there are any"
        )
    return (place.inner(result) if result.shape[-2:] == whole else result), names


def with_nodata(pixels: Pixels, nodata: float | None, function: str) -> Pixels:
    """Return pixels in which those without a value, masked or NaN, hold `nodata`.

    Raises
    ------
    TileError
        If there are masked pixels of whole numbers, and no value for them.
    """
    is_float = pixels.dtype.kind in "fc"
    if isinstance(pixels, np.ma.MaskedArray):
        if is_float:
            return with_nodata(np.ma.filled(pixels, np.nan), nodata, function)
        if nodata is None and np.ma.is_masked(pixels):
            raise TileError(f"{function} returned masked {pixels.dtype}: nodata is needed")
        plain: Pixels = pixels.data if nodata is None else np.ma.filled(pixels, nodata)
        return plain
    if nodata is None or np.isnan(nodata) or not is_float:
        return pixels
    missing = np.isnan(pixels)
    return np.where(missing, np.asarray(nodata, pixels.dtype), pixels) if missing.any() else pixels


def _shape(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))
