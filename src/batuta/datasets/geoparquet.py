"""Points in GeoParquet 1.1: Parquet with a geometry column and its metadata."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from rasterio.crs import CRS

from batuta.datasets.column_types import is_number
from batuta.datasets.columns import Table, pandas_metadata
from batuta.datasets.csv_parquet import write_row_groups
from batuta.datasets.errors import TileError
from batuta.datasets.point_cloud import PointCloud, PointFormat

GEOMETRY: Final = "geometry"
VERSION: Final = "1.1.0"

_AXES: Final = ("x", "y", "z")
_WKB_POINT: Final = {2: 1, 3: 1001}
"""Type code of a point in ISO well-known binary, by number of axes."""


def check(table: Table) -> tuple[str, ...]:
    """Refuse points without x and y, or with a column named like the geometry column.

    Nothing is lost of other points.

    Raises
    ------
    TileError
        Naming the column.
    """
    missing = [axis for axis in _AXES[:2] if axis not in table.column_names]
    if missing:
        raise TileError(f"a tile has no column {' nor '.join(missing)}, which GeoParquet needs")
    for axis in _AXES:
        if axis in table.column_names and not _is_coordinate(table[axis].type):
            raise TileError(
                f"{axis}: a column of {table[axis].type} given, coordinates are numbers"
            )
    if GEOMETRY in table.column_names:
        raise TileError(
            f"a tile has a column {GEOMETRY!r}, which GeoParquet derives from x, y and z"
        )
    return ()


def _is_coordinate(kind: Any) -> bool:
    return is_number(kind) or bool(pa.types.is_null(kind))


def write(cloud: PointCloud, target: Path) -> None:
    """Write the points, each with its geometry; x, y and z stay columns too.

    A point that lacks a coordinate has no geometry.
    """
    fields = list(cloud.schema)
    # Tiles without any point may have no columns at all.
    fields += [pa.field(axis, pa.float64()) for axis in _AXES[:2] if axis not in cloud.schema.names]
    axes = tuple(axis for axis in _AXES if axis in {field.name for field in fields})
    geo = {
        "version": VERSION,
        "primary_column": GEOMETRY,
        "columns": {
            GEOMETRY: {
                "encoding": "WKB",
                "geometry_types": ["Point" if len(axes) == 2 else "Point Z"],
                "crs": _projjson(cloud.crs),
                **_bbox(cloud, axes),
            }
        },
    }
    schema = pa.schema(
        [*fields, pa.field(GEOMETRY, pa.binary())],
        {b"geo": json.dumps(geo).encode()} | pandas_metadata(cloud.columns),
    )
    write_row_groups(schema, _with_geometry(cloud, schema, axes), target, cloud.compression)


def _projjson(crs: CRS | None) -> Any:
    """Return the CRS as PROJJSON; null if unknown, as GeoParquet defines."""
    return None if crs is None else crs.to_dict(projjson=True)


def _bbox(cloud: PointCloud, axes: tuple[str, ...]) -> dict[str, list[float]]:
    lowest = np.full(len(axes), np.inf)
    highest = -lowest
    for table in _with_points(cloud):
        points = _coordinates(table, axes)
        points = points[~np.isnan(points).any(axis=1)]
        if not len(points):
            continue
        lowest = np.fmin(lowest, np.fmin.reduce(points))
        highest = np.fmax(highest, np.fmax.reduce(points))
    known = np.isfinite(lowest).all() and np.isfinite(highest).all()
    return {"bbox": [*lowest.tolist(), *highest.tolist()]} if known else {}


def _with_points(cloud: PointCloud) -> Iterator[Table]:
    return (table for table in cloud.tables() if table.num_rows)


def _coordinates(table: Table, axes: tuple[str, ...]) -> npt.NDArray[np.float64]:
    """Return the points, shape (points, axes)."""
    columns = [table[axis].to_numpy().astype(np.float64) for axis in axes]
    return np.stack(columns, axis=-1)


def _with_geometry(cloud: PointCloud, schema: Any, axes: tuple[str, ...]) -> Iterator[Table]:
    for table in _with_points(cloud):
        points = _coordinates(table, axes)
        missing = np.isnan(points).any(axis=1)
        geometry = well_known_binary(points)
        if missing.any():
            geometry = pc.if_else(pa.array(missing), None, geometry)
        yield table.append_column(GEOMETRY, geometry).cast(schema)


def well_known_binary(points: npt.NDArray[np.float64]) -> Any:
    """Encode points of shape (points, 2 or 3) as an array of little-endian well-known binary."""
    count, axes = points.shape
    layout = np.dtype([("order", "u1"), ("kind", "<u4"), ("point", "<f8", (axes,))])
    encoded = np.empty(count, layout)
    encoded["order"], encoded["kind"], encoded["point"] = 1, _WKB_POINT[axes], points
    offsets = np.arange(count + 1, dtype=np.int32) * layout.itemsize
    return pa.Array.from_buffers(
        pa.binary(), count, [None, pa.py_buffer(offsets), pa.py_buffer(encoded)]
    )


GEOPARQUET_FORMAT: Final = PointFormat(write, check)
