"""The point cloud of one file, read tile by tile, one in memory at a time."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from rasterio.crs import CRS
from rasterio.errors import CRSError

from batuta.datasets.columns import Columns, Place, Table, columns_in, conform, facts_of
from batuta.datasets.errors import TileError
from batuta.datasets.tiles import ATTRIBUTES
from batuta.errors import one_line

PAIR_COLUMN: Final = "__batuta_pair__"
"""Column of a part that holds the stereo pair of each point."""

_UNCONVERTIBLE: Final = (pa.ArrowException, OverflowError, TypeError, ValueError)
_CRS_KEY: Final = b"batuta:crs"


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
    def columns(self) -> Columns:
        """The columns of all tiles, those of other pairs included."""
        return merge_parts(self.parts)

    @property
    def schema(self) -> Any:
        """The columns of all tiles and their types; a column that a tile lacks is null there."""
        return self.columns.schema

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
            table = pq.read_table(part)
            if self.pair is not None:
                table = table.filter(pc.equal(table[PAIR_COLUMN], self.pair))
            yield conform(table, self.schema)


@dataclass(frozen=True)
class PointFormat:
    """A point format: how to check tiles and how to write a point cloud."""

    write: Callable[[PointCloud, Path], None]
    check: Callable[[Table], Iterable[str]] = lambda table: ()  # noqa: ARG005 - any table will do
    """Raises a `TileError` for points that the format cannot hold; tells what of them it loses."""
    check_file: Callable[[Columns], None] = lambda columns: None  # noqa: ARG005 - any will do
    """Raises a `TileError` for columns that the format cannot hold together."""


def merge_parts(parts: Iterable[Path]) -> Columns:
    """Return the columns of all parts.

    Raises
    ------
    TileError
        If the values of a column have no type in common.
    """
    merged = Columns()
    for part in parts:
        merged = merged.with_tile(columns_in(part, place_of(part), without=PAIR_COLUMN))
    return merged


def place_of(part: Path) -> Place:
    """Return the position in the grid of the tile of a part, or of its draft."""
    row, _, col = part.stem.partition("_")
    return int(row), int(col)


def table_of(frame: pd.DataFrame, *, preserve_index: bool | None = None) -> Table:
    """Convert a frame to an Arrow table, without its attrs.

    Raises
    ------
    TileError
        Naming the column that cannot be converted.
    """
    bare = _in_native_order(frame)
    bare.attrs = {}
    try:
        # In one thread: starting others, which pyarrow does for each table, takes longer than
        # they save, and the cores are busy with the next tiles.
        return pa.Table.from_pandas(bare, preserve_index=preserve_index, nthreads=1)
    except _UNCONVERTIBLE as exc:
        raise TileError(_unconvertible(bare, exc)) from exc


def _in_native_order(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a copy of a frame with the bytes of its numbers in the order of this machine.

    Arrow takes no other, in which files of FITS, NetCDF 3 or SEG-Y are read.
    """
    swapped = {
        name: dtype.newbyteorder("=")
        for name, dtype in zip(frame.columns, frame.dtypes, strict=True)
        if isinstance(dtype, np.dtype) and not dtype.isnative
    }
    return frame.astype(swapped) if swapped else frame.copy(deep=False)


def _unconvertible(frame: pd.DataFrame, error: Exception) -> str:
    for position, name in enumerate(frame.columns):
        column = frame.iloc[:, position]
        try:
            pa.Array.from_pandas(column)
        except _UNCONVERTIBLE as exc:
            return f"{name}: a column of {column.dtype} cannot be saved: {one_line(exc)}"
    return f"points that cannot be saved: {one_line(error)}"


def part_table(tile: pd.DataFrame) -> Table:
    """Return the points of a tile without their index.

    Raises
    ------
    TileError
        If two columns have the same name, or one cannot be converted.
    """
    names = [str(name) for name in tile.columns]
    if len({*names}) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise TileError(f"{twice}: two columns of this name")
    return table_of(tile, preserve_index=False)


def write_part(table: Table, columns: Columns, crs: str | None, part: Path) -> None:
    """Write the points of a tile, with what the file needs to know of them.

    Raises
    ------
    TileError
        If Parquet, in which parts are kept, lacks the type of a column.
    """
    metadata = facts_of(columns) | ({} if crs is None else {_CRS_KEY: crs.encode()})
    try:
        pq.write_table(table.replace_schema_metadata(metadata), part)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as exc:
        raise TileError(f"points that cannot be saved: {one_line(exc)}") from exc


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
