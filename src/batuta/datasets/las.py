"""Points in LAS and LAZ, version 1.4."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import laspy
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from laspy.vlrs.known import WktCoordinateSystemVlr
from rasterio.crs import CRS
from rasterio.errors import CRSError

from batuta.datasets.column_types import EXACT_IN_FLOAT, Span
from batuta.datasets.columns import Columns, Table
from batuta.datasets.errors import TileError
from batuta.datasets.point_cloud import PointCloud, PointFormat
from batuta.errors import one_line

AXES: Final = ("x", "y", "z")
COLOURS: Final = ("red", "green", "blue")
POINT_FORMAT: Final = 6
COLOURED_POINT_FORMAT: Final = 7
METRE_RESOLUTION: Final = 1e-3
"""Resolution of coordinates in metres."""
DEGREE_RESOLUTION: Final = 1e-8
"""Resolution of longitudes and latitudes: about a millimetre."""
MAX_NAME_BYTES: Final = 32
"""Maximum length of the name of an extra dimension."""
MAX_EXTRA_DIMENSIONS: Final = 341
"""As many descriptions of 192 bytes as go in one variable length record, of 65,535 bytes."""

# The same points must give the same bytes, so the date of writing is left out.
_FIXED_DATE: Final = date(1970, 1, 1)
_STEPS: Final = 2**31 - 2
_SINGLE_RETURN: Final = ("return_number", "number_of_returns")


@dataclass(frozen=True)
class Extent:
    """What the header needs to know of all points before the first is written.

    Parameters
    ----------
    lowest, highest : array of shape (3,)
        Bounds of x, y and z; zeros if there are no points.
    nullable : frozenset of str
        Columns in which some points have no value.
    """

    lowest: npt.NDArray[np.float64]
    highest: npt.NDArray[np.float64]
    nullable: frozenset[str]


def check(table: Table) -> list[str]:
    """Refuse points that LAS cannot hold.

    Returns
    -------
    list of str
        What it loses of the others, by column.

    Raises
    ------
    TileError
        Naming the column.
    """
    roles = columns_by_role(table.schema)
    for axis in AXES:
        values = np.asarray(table[roles[axis]].to_numpy(), dtype=np.float64)
        if not np.isfinite(values).all():
            raise TileError(
                f"{roles[axis]}: a coordinate is not finite; LAS needs finite coordinates"
            )
    standard = laspy.PointFormat(COLOURED_POINT_FORMAT)
    losses: list[str] = []
    for role, column in roles.items():
        if role in standard.dimension_names and role not in AXES:
            _check_exact(table[column], column)
            values, dimension = table[column].to_numpy(), standard.dimension_by_name(role)
            losses += _losses(values, _as_dimension(values, dimension, column), column)
        elif role not in AXES and not _is_name(column):
            raise TileError(
                f"{column!r}: a name in LAS has 1 to {MAX_NAME_BYTES} bytes, and no NUL"
            )
    return losses


def _is_name(column: str) -> bool:
    return 1 <= len(column.encode()) <= MAX_NAME_BYTES and "\0" not in column


def _losses(values: npt.NDArray[Any], converted: npt.NDArray[Any], column: str) -> Iterator[str]:
    given = np.asarray(values, dtype=np.float64)
    missing = np.isnan(given)
    if missing.any():
        yield f"{column}: missing values are 0 in LAS"
    if (missing | (given != converted)).sum() > missing.sum():
        yield f"{column}: values with fractions are rounded to whole numbers in LAS"


def _check_exact(values: Any, column: str) -> None:
    """Refuse whole numbers that change where dimensions are converted, which is in float64."""
    if pa.types.is_integer(values.type) and values.null_count < len(values):
        bounds = pc.min_max(values).as_py()
        if not Span(bounds["min"], bounds["max"]).exact_in_float:
            raise TileError(
                f"{column}: values from {bounds['min']} to {bounds['max']} given,"
                f" LAS holds whole numbers of at most {EXACT_IN_FLOAT}"
            )


def check_file(columns: Columns) -> None:
    """Refuse columns of several tiles that LAS cannot hold together.

    Raises
    ------
    TileError
        Naming the column.
    """
    if not columns.has_points:
        return
    extra = _extra_columns(columns_by_role(_schema_of(columns)))
    if len(extra) > MAX_EXTRA_DIMENSIONS:
        raise TileError(
            f"{len(extra)} columns beside those of LAS, which takes {MAX_EXTRA_DIMENSIONS}"
        )
    if problem := _problem_of_names(tuple(extra)):
        raise TileError(f"{', '.join(extra)}: LAS does not take columns of these names: {problem}")
    for name in extra:
        column = columns.by_name[name]
        if pa.types.is_integer(column.type) and column.missing and not column.span.exact_in_float:
            raise TileError(
                f"{name}: missing for some points, and a whole number beyond {EXACT_IN_FLOAT} for"
                " others: LAS has NaN for missing values, in floats, which do not hold it exactly"
            )


@lru_cache(maxsize=64)  # the tiles of a file have the same few
def _problem_of_names(names: tuple[str, ...]) -> str | None:
    """Return why points cannot have these extra dimensions: some names are laspy's own."""
    header = laspy.LasHeader(version="1.4", point_format=COLOURED_POINT_FORMAT)
    try:
        header.add_extra_dims([laspy.ExtraBytesParams(name, "f8") for name in names])
        laspy.ScaleAwarePointRecord.zeros(1, header=header)
    except ValueError as exc:
        return one_line(exc)
    return None


def _extra_columns(roles: Mapping[str, str]) -> list[str]:
    standard = {*laspy.PointFormat(COLOURED_POINT_FORMAT).dimension_names, *AXES}
    return [column for role, column in roles.items() if role not in standard]


def _schema_of(columns: Columns) -> Any:
    """Return the columns and their types; a column without any value has none."""
    return pa.schema(
        [
            (field.name, field.type if columns.by_name[field.name].types else pa.null())
            for field in columns.schema
        ]
    )


def columns_by_role(schema: Any) -> dict[str, str]:
    """Return the column of each LAS dimension, matched regardless of case.

    Raises
    ------
    TileError
        If x, y or z is missing, two columns match one dimension, or a column is not numeric.
    """
    known = {*AXES, *laspy.PointFormat(COLOURED_POINT_FORMAT).dimension_names} - {"X", "Y", "Z"}
    roles: dict[str, str] = {}
    for field in schema:
        role = field.name.lower() if field.name.lower() in known else field.name
        if role in roles:
            raise TileError(f"{roles[role]} and {field.name}: both are {role} in LAS")
        if not _is_number(field.type):
            raise TileError(f"{field.name}: a column of {field.type} cannot be saved in LAS")
        roles[role] = field.name
    missing = [axis for axis in AXES if axis not in roles]
    if missing:
        raise TileError(f"a tile has no column {' nor '.join(missing)}, which LAS needs")
    return roles


def _is_number(kind: Any) -> bool:
    return bool(
        pa.types.is_integer(kind)
        or pa.types.is_floating(kind)
        or pa.types.is_boolean(kind)
        or pa.types.is_null(kind)
    )


def write(cloud: PointCloud, target: Path) -> None:
    """Write the points tile by tile, in two passes: the first one finds their bounds."""
    # Without any point there may be no x, y and z.
    roles = columns_by_role(_schema_of(cloud.columns)) if cloud.columns.has_points else {}
    extent = _extent_of(cloud, roles)
    header = _header(cloud, roles, extent)
    with laspy.open(target, mode="w", header=header, do_compress=target.suffix == ".laz") as las:
        for table in cloud.tables():
            if table.num_rows:
                las.write_points(_points(table, roles, header))


def _extent_of(cloud: PointCloud, roles: Mapping[str, str]) -> Extent:
    lowest, highest = np.full(3, np.inf), np.full(3, -np.inf)
    nullable: set[str] = set()
    for table in cloud.tables():
        if not table.num_rows:
            continue
        xyz = np.stack([np.asarray(table[roles[axis]], np.float64) for axis in AXES])
        lowest, highest = np.minimum(lowest, xyz.min(axis=1)), np.maximum(highest, xyz.max(axis=1))
        nullable.update(name for name in table.column_names if table[name].null_count)
    known = np.isfinite(lowest)
    return Extent(np.where(known, lowest, 0.0), np.where(known, highest, 0.0), frozenset(nullable))


def _header(cloud: PointCloud, roles: Mapping[str, str], extent: Extent) -> laspy.LasHeader:
    coloured = any(colour in roles for colour in COLOURS)
    header = laspy.LasHeader(
        version="1.4", point_format=COLOURED_POINT_FORMAT if coloured else POINT_FORMAT
    )
    header.creation_date = _FIXED_DATE
    header.generating_software = "batuta"
    header.offsets = np.floor(extent.lowest)
    header.scales = _scales(cloud.crs, extent)
    standard = set(header.point_format.dimension_names)
    schema = _schema_of(cloud.columns)
    header.add_extra_dims(
        [
            laspy.ExtraBytesParams(column, _extra_type(schema.field(column), extent))
            for role, column in roles.items()
            if role not in standard and role not in AXES
        ]
    )
    if cloud.crs is not None:
        header.vlrs.append(WktCoordinateSystemVlr(_wkt(cloud.crs)))
        header.global_encoding.wkt = True
    return header


def _wkt(crs: CRS) -> str:
    """Return the CRS as WKT 1, which LAS specifies, or as WKT 2 if it has no WKT 1."""
    try:
        return str(crs.to_wkt(version="WKT1_GDAL"))
    except CRSError:
        return str(crs.to_wkt(version="WKT2_2019"))


def _scales(crs: CRS | None, extent: Extent) -> npt.NDArray[np.float64]:
    """Return the scale of each axis, coarser where 32-bit coordinates would overflow."""
    bound = np.maximum(np.abs(extent.lowest), np.abs(extent.highest))
    in_degrees = crs.is_geographic if crs is not None else bool(bound[0] <= 360 and bound[1] <= 90)
    wanted = np.array(
        [DEGREE_RESOLUTION if in_degrees else METRE_RESOLUTION] * 2 + [METRE_RESOLUTION]
    )
    spread = extent.highest - np.floor(extent.lowest)
    least = 10.0 ** np.ceil(np.log10(np.maximum(spread, 1e-300) / _STEPS))
    steps: npt.NDArray[np.float64] = np.maximum(wanted, least)
    return steps


def _extra_type(field: Any, extent: Extent) -> str:
    if pa.types.is_boolean(field.type):
        return "u1" if field.name not in extent.nullable else "f8"
    if pa.types.is_integer(field.type) and field.name not in extent.nullable:
        return str(np.dtype(field.type.to_pandas_dtype()).str[1:])
    return "f4" if field.type in {pa.float16(), pa.float32()} else "f8"


def _points(
    table: Table, roles: Mapping[str, str], header: laspy.LasHeader
) -> laspy.ScaleAwarePointRecord:
    points = laspy.ScaleAwarePointRecord.zeros(table.num_rows, header=header)
    for name in _SINGLE_RETURN:
        points[name] = np.ones(table.num_rows, dtype=np.uint8)
    extra = set(header.point_format.extra_dimension_names)
    for role, column in roles.items():
        values = table[column].to_numpy()
        if role in AXES:
            points[role] = np.asarray(values, dtype=np.float64)
        elif column in extra:
            points[column] = np.asarray(values, points[column].dtype)
        else:
            points[role] = _as_dimension(values, header.point_format.dimension_by_name(role), role)
    return points


def _as_dimension(values: npt.NDArray[Any], dimension: Any, column: str) -> npt.NDArray[Any]:
    """Convert values to an LAS dimension: integers, 0 for missing values."""
    given = np.asarray(values, dtype=np.float64)
    numbers = np.where(np.isnan(given), 0.0, given)
    if dimension.kind == laspy.DimensionKind.FloatingPoint:
        return numbers
    whole = np.rint(numbers)
    if whole.size and (whole.min() < dimension.min or whole.max() > dimension.max):
        raise TileError(
            f"{column}: values from {whole.min():.0f} to {whole.max():.0f} given,"
            f" LAS holds {dimension.min} to {dimension.max}"
        )
    return whole.astype(np.int64)


LAS_FORMAT: Final = PointFormat(write, check, check_file)
