"""The file formats of each type of dataset, and the options of each."""

import importlib.util
import os
from collections.abc import Iterable
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import Any, Final

import numpy as np
from rasterio.dtypes import check_dtype

from batuta.datasets.conversion import exact_limit, limits_of, nodata_in
from batuta.datasets.options import SaveOptions
from batuta.errors import ConfigurationError, describe_value, shortened

ARRAYS: Final = "arrays"
POINTS: Final = "points"
DICT: Final = "dict"
DATASET_TYPES: Final = (ARRAYS, POINTS, DICT)

_LERC_DTYPES: Final = frozenset(
    {"uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "float64"}
)

NBITS_OF: Final = {"uint8": range(1, 8), "uint16": range(9, 16), "uint32": range(17, 32)}
"""Accepted `nbits` of a GeoTIFF for each data type."""


@dataclass(frozen=True, kw_only=True)
class FileFormat:
    """A file format and its options.

    Parameters
    ----------
    name : str
        Its name in messages.
    dataset_type : str
        The type of dataset that it holds: arrays, points or dict.
    suffixes : tuple of str
        The suffixes of its file names.
    options : frozenset of str
        Fields of `SaveOptions` that apply to it.
    compressions : tuple of str
        Compressions that it supports.
    modules : tuple of str
        Optional modules that it needs, installed by ``batuta[formats]``.
    """

    name: str
    dataset_type: str
    suffixes: tuple[str, ...]
    options: frozenset[str] = frozenset()
    compressions: tuple[str, ...] = ()
    modules: tuple[str, ...] = ()


GEOTIFF: Final = FileFormat(
    name="GeoTIFF",
    dataset_type=ARRAYS,
    suffixes=(".tif", ".tiff"),
    options=frozenset(
        {"compression", "block_px", "cloud_optimized", "tags", "band_descriptions", "nbits"}
    ),
    compressions=("none", "deflate", "lzw", "zstd", "lerc"),
)
ZARR: Final = FileFormat(
    name="Zarr",
    dataset_type=ARRAYS,
    suffixes=(".zarr",),
    options=frozenset({"compression", "block_px", "tags", "band_descriptions"}),
    compressions=("none", "zstd", "deflate"),
    modules=("zarr",),
)
CSV: Final = FileFormat(name="CSV", dataset_type=POINTS, suffixes=(".csv",))
PARQUET: Final = FileFormat(
    name="Parquet",
    dataset_type=POINTS,
    suffixes=(".parquet",),
    options=frozenset({"compression"}),
    compressions=("none", "snappy", "zstd", "gzip"),
)
GEOPARQUET: Final = FileFormat(
    name="GeoParquet",
    dataset_type=POINTS,
    suffixes=(".geoparquet",),
    options=PARQUET.options,
    compressions=PARQUET.compressions,
)
LAS: Final = FileFormat(
    name="LAS", dataset_type=POINTS, suffixes=(".laz", ".las"), modules=("laspy", "lazrs")
)
JSON: Final = FileFormat(name="JSON", dataset_type=DICT, suffixes=(".json",))

FORMATS: Final = (GEOTIFF, ZARR, CSV, PARQUET, GEOPARQUET, LAS, JSON)


def format_of(file_name: str | os.PathLike[str], dataset_type: str) -> FileFormat:
    """Return the format of a file name.

    Raises
    ------
    ConfigurationError
        If the suffix is of no format of this type of dataset.
    """
    formats = [each for each in FORMATS if each.dataset_type == dataset_type]
    for each in formats:
        if Path(file_name).suffix in each.suffixes:
            return each
    accepted = " or ".join(suffix for each in formats for suffix in each.suffixes)
    raise ConfigurationError(
        f"file_name: {os.fspath(file_name)!r} given, a name ending in {accepted} expected"
    )


def output_problems(
    file_name: str | os.PathLike[str],
    dataset_type: str,
    dtype: str | None = None,
    nodata: float | None = None,
    options: Any = None,
    *,
    by_pair: bool = False,
) -> list[str]:
    """List the mistakes in the arguments of an output file, one line each."""
    problems = list(_dataset_problems(dataset_type, dtype, nodata, by_pair=by_pair))
    if not isinstance(options, SaveOptions | None):
        problems.append(f"options: a {type(options).__name__} given, a SaveOptions expected")
        options = None
    if not _is_path(file_name):
        return [f"file_name: {describe_value(file_name)} given, a path expected", *problems]
    try:
        found = format_of(file_name, dataset_type)
    except ConfigurationError as exc:
        return [*exc.problems, *problems]
    problems += _missing_modules(file_name, found)
    if options is not None:
        problems += _option_problems(found, options)
    problems += _dtype_problems(found, dtype, nodata, options or SaveOptions())
    return problems


def _dataset_problems(
    dataset_type: str, dtype: Any, nodata: Any, *, by_pair: bool
) -> Iterable[str]:
    if dataset_type == ARRAYS and dtype is not None and not _is_raster_dtype(dtype):
        yield f"dtype: {dtype!r} given, a data type of numbers expected"
    if dataset_type == ARRAYS and nodata is not None and not _is_number(nodata):
        yield f"nodata: {describe_value(nodata)} given, a number or None expected"
    if by_pair and dataset_type != POINTS:
        yield f"save_points_cloud_by_pair: True is for points, not for {dataset_type}"


def _is_path(value: object) -> bool:
    return isinstance(value, str | os.PathLike)


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def _is_raster_dtype(name: Any) -> bool:
    try:
        return np.dtype(name).kind in "biufc"
    except TypeError:
        return False


def _missing_modules(file_name: str | os.PathLike[str], wanted: FileFormat) -> list[str]:
    missing = [each for each in wanted.modules if importlib.util.find_spec(each) is None]
    needed = " and ".join(missing)
    line = f"file_name: {os.fspath(file_name)!r} needs {needed}, which batuta[formats] installs"
    return [line] if missing else []


def _option_problems(wanted: FileFormat, options: SaveOptions) -> Iterable[str]:
    for name, value in options.given().items():
        if name not in wanted.options:
            takers = ", ".join(each.name for each in FORMATS if name in each.options)
            yield f"options.{name}: {value!r} is not for {wanted.name}, only for {takers}"
        elif name == "compression" and value not in wanted.compressions:
            yield (
                f"options.compression: {value!r} given,"
                f" {wanted.name} takes {', '.join(wanted.compressions)}"
            )
        elif name == "block_px" and wanted is GEOTIFF and value % 16:
            yield f"options.block_px: {value} given, GeoTIFF takes multiples of 16"


def _dtype_problems(
    wanted: FileFormat, dtype: Any, nodata: float | None, options: SaveOptions
) -> Iterable[str]:
    if wanted.dataset_type != ARRAYS or dtype is None or not _is_raster_dtype(dtype):
        return
    kind = np.dtype(dtype).newbyteorder("=")
    if not _holds_dtype(wanted, kind):
        accepted = _NEAREST_DTYPES.get(kind.char, "float64")
        yield f"dtype: {kind} given, which {wanted.name} does not hold; {accepted} is accepted"
    elif options.nbits is not None and options.nbits not in NBITS_OF.get(str(kind), range(0)):
        takers = ", ".join(
            f"{each.start} to {each.stop - 1} for {name}" for name, each in NBITS_OF.items()
        )
        yield f"options.nbits: {options.nbits} given with dtype {kind}; {takers} are accepted"
    elif nodata is not None and _is_number(nodata):
        yield from _nodata_problems(wanted, kind, nodata, options.nbits)
    if options.compression == "lerc" and str(kind) not in _LERC_DTYPES:
        yield f"options.compression: 'lerc' does not take {kind}"


_NEAREST_DTYPES: Final = {"?": "uint8", "e": "float32", "G": "complex128"}
"""To those that a format may not hold, by NumPy's characters for them."""


def _holds_dtype(wanted: FileFormat, kind: np.dtype[Any]) -> bool:
    if wanted is GEOTIFF:
        return kind.kind != "b" and bool(check_dtype(str(kind)))
    return kind.char not in "gG"  # long doubles, which differ between machines


def _nodata_problems(
    wanted: FileFormat, kind: np.dtype[Any], nodata: float, nbits: int | None
) -> Iterable[str]:
    lowest, highest = limits_of(kind, nbits)
    try:
        held = nodata_in(kind, nodata, nbits)
    except ValueError:
        given = shortened(str(nodata), 40)
        yield f"nodata: {given} given, {kind} holds {lowest} to {highest}"
        return
    # rasterio passes it as a float64, which GDAL writes as a text and reads as a whole number:
    # a nodata of -2^63 would come back as -9.
    limit = exact_limit(np.float64)
    if wanted is GEOTIFF and kind.kind in "iu" and abs(held) > limit:
        yield f"nodata: {nodata} given, GeoTIFF of {kind} holds {max(lowest, -limit)} to {limit}"
