"""The point cloud of one file, read tile by tile, one in memory at a time."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final, TypeAlias

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from rasterio.crs import CRS
from rasterio.errors import CRSError

from batuta.datasets.errors import TileError
from batuta.datasets.tiles import ATTRIBUTES

PAIR_COLUMN: Final = "__batuta_pair__"
"""Column of a part that holds the stereo pair of each point."""

_CRS_KEY: Final = b"batuta:crs"

Table: TypeAlias = Any
"""A `pyarrow.Table`: pyarrow ships no types."""


@dataclass(frozen=True, kw_only=True)
class PointCloud:
    """All points of one output file.

    Parameters
    ----------
    parts : sequence of Path
        One Parquet file per tile, in the order of the grid.
    pair : str, optional
        Only the points of this stereo pair.
    compression : str, optional
        As in `SaveOptions`.
    """

    parts: Sequence[Path]
    pair: str | None = None
    compression: str | None = None

    @cached_property
    def schema(self) -> Any:
        """The union of the columns of all tiles; a column that a tile lacks is null there."""
        schemas = [pq.read_schema(part).remove_metadata() for part in self.parts]
        whole = pa.unify_schemas(schemas, promote_options="permissive")
        position = whole.get_field_index(PAIR_COLUMN)
        return whole if position < 0 else whole.remove(position)

    @cached_property
    def crs(self) -> CRS | None:
        """The coordinate reference system of the points; None if unknown.

        Raises
        ------
        TileError
            If tiles differ.
        """
        found = {wkt for part in self.parts if (wkt := part_crs(part)) is not None}
        if len(found) > 1:
            raise TileError(f"tiles of points have {len(found)} coordinate reference systems")
        return CRS.from_wkt(found.pop()) if found else None

    def tables(self) -> Iterator[Table]:
        """Yield the points of each tile, under the common schema."""
        for part in self.parts:
            table = pq.read_table(part).replace_schema_metadata(None)
            if self.pair is not None:
                table = table.filter(pc.equal(table[PAIR_COLUMN], self.pair))
            if PAIR_COLUMN in table.column_names:
                table = table.drop_columns([PAIR_COLUMN])
            yield pa.concat_tables([self.schema.empty_table(), table], promote_options="permissive")


@dataclass(frozen=True)
class PointFormat:
    """A point format: how to check tiles and how to write a point cloud."""

    write: Callable[[PointCloud, Path], None]
    check: Callable[[Table], None] = lambda table: None  # noqa: ARG005 - any table will do
    """Raises a `TileError` for points that the format cannot hold."""


def table_of(frame: pd.DataFrame, *, preserve_index: bool | None = None) -> Table:
    """Convert a frame to an Arrow table, without its attrs.

    Raises
    ------
    TileError
        If a column cannot be converted.
    """
    bare = frame.copy(deep=False)
    bare.attrs = {}
    try:
        return pa.Table.from_pandas(bare, preserve_index=preserve_index)
    except pa.ArrowException as exc:
        raise TileError(f"points that cannot be saved: {exc}") from exc


def part_table(tile: pd.DataFrame, crs: str | None) -> Table:
    """Return the points of a tile without their index, with their CRS (WKT)."""
    table = table_of(tile, preserve_index=False)
    return table.replace_schema_metadata({} if crs is None else {_CRS_KEY: crs.encode()})


def part_crs(part: Path) -> str | None:
    """Return the CRS (WKT) of a part, if it has one."""
    found: bytes | None = (pq.read_schema(part).metadata or {}).get(_CRS_KEY)
    return None if found is None else found.decode()


def crs_of(tile: pd.DataFrame) -> str | None:
    """Return the CRS of a tile as WKT: ``crs`` or ``epsg`` of its attributes, or of its attrs.

    Raises
    ------
    TileError
        If it is not a known CRS.
    """
    for attributes in (tile.attrs.get(ATTRIBUTES) or {}, tile.attrs):
        for key in ("crs", "epsg"):
            if (value := attributes.get(key)) is not None:
                return _wkt(key, value)
    return None


def crs_label(wkt: str) -> str:
    """Return a short label of a CRS: its EPSG code, or the start of its WKT."""
    code = CRS.from_wkt(wkt).to_epsg()
    return f"{wkt:.60}" if code is None else f"EPSG:{code}"


def _wkt(key: str, value: Any) -> str:
    try:
        crs = CRS.from_epsg(int(value)) if key == "epsg" else CRS.from_user_input(value)
    except (CRSError, TypeError, ValueError) as exc:
        raise TileError(f"{key}: {value!r} is not a coordinate reference system") from exc
    return str(crs.to_wkt(version="WKT2_2019"))
