"""Conversion of pixels, and of nodata, to the data type of a file: exact, told of, or refused."""

import math
from numbers import Integral
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from batuta.datasets.errors import TileError

_KINDS: Final[dict[str, str]] = {
    "b": "b",
    "i": "biuf",
    "u": "biuf",
    "f": "biuf",
    "c": "biufc",
}
"""By kind of data type, the kinds of values that it takes (`numpy.dtype.kind`)."""


def fit(
    values: npt.NDArray[Any], dtype: str, nodata: float | None, nbits: int | None = None
) -> tuple[npt.NDArray[Any], str | None]:
    """Convert `values` to the data type of a file: nothing wraps around or becomes infinite.

    Floats are rounded to the nearest whole number in a file of integers, where NaN becomes
    `nodata`, and to the nearest float in a file of shorter floats.

    Returns
    -------
    array
        The values, in the data type of the file; `values` itself where it has that already.
    str or None
        What the conversion lost: the fraction of a number, or the last digits of a whole one.
        Shorter floats are not told of: a data type says how many digits it holds.

    Raises
    ------
    TileError
        If values of this kind cannot be saved in this data type, a value is out of range, or is
        NaN where there is no nodata value.
    """
    target = np.dtype(dtype)
    check_kind(values.dtype, target)
    if values.dtype == target and nbits is None:
        return values, None
    if target.kind in "fc":
        return _to_float(values, target)
    if target.kind in "iu" and values.dtype.kind == "f":
        return _to_whole(values, target, nodata, nbits)
    if target.kind in "iu" and values.dtype.kind in "iu":
        _check_range(values, target, nbits)
    return values.astype(target, copy=False), None


def check_kind(given: np.dtype[Any], dtype: npt.DTypeLike) -> None:
    """Refuse values of a kind that a data type does not take, such as dates in floats.

    Raises
    ------
    TileError
        With both.
    """
    target = np.dtype(dtype)
    if given.kind not in _KINDS.get(target.kind, ""):
        raise TileError(f"values of {given} cannot be saved as {target}")


def _to_float(
    values: npt.NDArray[Any], target: np.dtype[Any]
) -> tuple[npt.NDArray[Any], str | None]:
    try:
        with np.errstate(over="raise"):
            floats = values.astype(target, copy=False)
    except FloatingPointError as exc:
        largest = np.nanmax(np.abs(values))
        raise TileError(f"values up to {largest} cannot be saved as {target}") from exc
    limit = exact_limit(target)
    if _reaches_beyond(values, limit) and not _holds_exactly(floats, values):
        return floats, f"whole numbers beyond {limit} are rounded in {target}"
    return floats, None


def exact_limit(dtype: npt.DTypeLike) -> int:
    """Return up to what whole number all are exact in a data type of floats."""
    return 1 << (int(np.finfo(np.dtype(dtype)).nmant) + 1)


def _reaches_beyond(values: npt.NDArray[Any], limit: int) -> bool:
    if values.dtype.kind not in "iu" or not values.size or np.iinfo(values.dtype).max <= limit:
        return False
    return bool(values.min() < -limit or values.max() > limit)


def _holds_exactly(floats: npt.NDArray[Any], values: npt.NDArray[Any]) -> bool:
    # Whole numbers at the upper limit of their type may be rounded up to one that it lacks.
    beyond = floats.real >= float(np.iinfo(values.dtype).max)
    with np.errstate(invalid="ignore"):
        return not bool((beyond | (floats.real.astype(values.dtype) != values)).any())


def _to_whole(
    values: npt.NDArray[Any], target: np.dtype[Any], nodata: float | None, nbits: int | None
) -> tuple[npt.NDArray[Any], str | None]:
    missing = np.isnan(values)
    some_missing = bool(missing.any())
    if some_missing and nodata is None:
        raise TileError(f"NaN cannot be saved as {target} without nodata")
    numbers = np.where(missing, 0, values) if some_missing else values
    rounded = np.rint(numbers)
    _check_range(rounded, target, nbits)
    whole = rounded.astype(target)
    if some_missing:
        # Set after the conversion: the limits of an integer type may have no exact float.
        whole[missing] = nodata
    lost = not np.array_equal(rounded, numbers)
    return whole, f"values with fractions are rounded to {target}" if lost else None


def _check_range(values: npt.NDArray[Any], target: np.dtype[Any], nbits: int | None) -> None:
    lowest, highest = integer_limits(target, nbits)
    # NumPy would convert the limits to float; Python compares int and float exactly.
    if values.size and (values.min().item() < lowest or values.max().item() > highest):
        kept = "" if nbits is None else f" of {nbits} bits"
        raise TileError(
            f"values from {values.min()} to {values.max()} cannot be saved as {target}{kept}"
            f" ({lowest} to {highest})"
        )


def integer_limits(dtype: npt.DTypeLike, nbits: int | None = None) -> tuple[int, int]:
    """Return the smallest and the largest integer that a file can hold."""
    if np.dtype(dtype).kind == "b":
        return 0, 1
    held = np.iinfo(dtype)
    return (int(held.min), int(held.max)) if nbits is None else (0, 2**nbits - 1)


def limits_of(dtype: npt.DTypeLike, nbits: int | None = None) -> tuple[float, float]:
    """Return the smallest and the largest finite value that a file can hold."""
    kind = np.dtype(dtype)
    if kind.kind in "biu":
        return integer_limits(kind, nbits)
    held = np.finfo(kind)
    return float(held.min), float(held.max)


def nodata_in(dtype: npt.DTypeLike, nodata: float, nbits: int | None = None) -> float:
    """Return `nodata` as pixels of a data type hold it: floats are rounded to its precision.

    GDAL compares nodata with pixels in their data type, so -9999.1 in a file of float32 is the
    number that its pixels hold, -9999.099609375.

    Raises
    ------
    ValueError
        If the data type cannot hold it: out of range, or not a whole number.
    """
    kind = np.dtype(dtype)
    if kind.kind in "biu":
        return _whole_nodata(nodata, integer_limits(kind, nbits))
    try:
        with np.errstate(over="ignore"):
            held = float(np.asarray(float(nodata), dtype=kind).real)
    except OverflowError as exc:  # an int beyond all floats
        raise ValueError(nodata) from exc
    if math.isinf(held) and not math.isinf(nodata):
        raise ValueError(nodata)
    return held


def _whole_nodata(nodata: Any, limits: tuple[int, int]) -> int:
    whole = int(nodata) if isinstance(nodata, Integral) or float(nodata).is_integer() else None
    if whole is None or not limits[0] <= whole <= limits[1]:
        raise ValueError(nodata)
    return whole
