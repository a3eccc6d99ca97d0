"""The quicklook of a Parquet file: points if it has them, else its first columns of numbers."""

import json
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from batuta.quicklook.limits import MAX_COLUMNS, MAX_ROWS, CannotDrawError
from batuta.quicklook.points import draw_points
from batuta.quicklook.series import draw_table

Array = npt.NDArray[Any]

_BATCH_ROWS: Final = 65_536
_MAX_SHOWN: Final = 12
"""Columns that are read, of which the chart chooses."""
_WKB_BYTES: Final = {21: 2, 29: 3}
"""Of a point in well-known binary, by its bytes: how many coordinates it has."""


def draw(path: Path) -> Image.Image:
    """Return the plan view of its points, or a chart."""
    with pq.ParquetFile(path, memory_map=False, pre_buffer=False) as file:
        schema = file.schema_arrow
        if len(schema.names) > MAX_COLUMNS:
            raise CannotDrawError(
                f"it has {len(schema.names)} columns (drawn: up to {MAX_COLUMNS})"
            )
        if not file.metadata.num_rows:
            raise CannotDrawError("it has no rows")
        by_name = {name.lower(): name for name in schema.names if _is_number(schema, name)}
        if "x" in by_name and "y" in by_name:
            axes = [by_name[each] for each in ("x", "y", "z") if each in by_name]
            return _draw_axes(_read(file, axes), axes, file.metadata.num_rows)
        geometry = _geometry_of(schema)
        if geometry is not None:
            return _draw_geometry(file, geometry)
        names = [name for name in schema.names if _is_number(schema, name)][:_MAX_SHOWN]
        return draw_table(_read(file, names))


def _is_number(schema: pa.Schema, name: str) -> bool:
    if schema.names.count(name) > 1:
        return False
    kind = schema.field(name).type
    known = (pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean, pa.types.is_timestamp)
    return any(is_it(kind) for is_it in known)


def _read(file: pq.ParquetFile, names: list[str]) -> dict[str, Array]:
    """Read columns, at most `MAX_ROWS` rows: of a larger file, from groups all over it."""
    groups = _groups(file)
    parts: list[pa.RecordBatch] = []
    rows = 0
    for batch in file.iter_batches(_BATCH_ROWS, row_groups=groups, columns=names):
        parts.append(batch)
        rows += batch.num_rows
        if rows >= MAX_ROWS:
            break
    table = pa.Table.from_batches(parts)
    return {name: table[name].to_numpy() for name in names}


def _groups(file: pq.ParquetFile) -> list[int]:
    count, rows = file.metadata.num_row_groups, file.metadata.num_rows
    wanted = max(1, int(count * MAX_ROWS / max(rows, 1)))
    if wanted >= count:
        return list(range(count))
    return sorted({int(each) for each in np.linspace(0, count - 1, wanted)})


def _draw_axes(columns: dict[str, Array], axes: list[str], total: int) -> Image.Image:
    x, y, *others = (columns[each] for each in axes)
    return draw_points(x, y, others[0] if others else None, total=total)


def _geometry_of(schema: pa.Schema) -> str | None:
    """Return the geometry column of a GeoParquet file, if it has one."""
    text = (schema.metadata or {}).get(b"geo")
    if text is None:
        return None
    described = json.loads(text)
    name = described.get("primary_column") if isinstance(described, dict) else None
    return name if isinstance(name, str) and name in schema.names else None


def _draw_geometry(file: pq.ParquetFile, name: str) -> Image.Image:
    values = [each for each in _read(file, [name])[name] if isinstance(each, bytes)]
    size = len(values[0]) if values else 0
    dimensions = _WKB_BYTES.get(size)
    if dimensions is None or any(len(each) != size for each in values):
        raise CannotDrawError(f"its geometries in {name} are not all points (drawn: points)")
    raw = np.frombuffer(b"".join(values), np.uint8).reshape(-1, size)
    order = "<" if raw[0, 0] == 1 else ">"
    places = np.ascontiguousarray(raw[:, 5:]).view(f"{order}f8").reshape(-1, dimensions)
    z = places[:, 2] if dimensions == 3 else None
    return draw_points(places[:, 0], places[:, 1], z, total=file.metadata.num_rows)
