"""Tiles of points in one file, or in one file per stereo pair."""

import hashlib
import importlib
import os
import re
from collections.abc import Iterable, Sequence
from numbers import Real
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from batuta.datasets.assembled_file import AssembledFile, check_tile_type
from batuta.datasets.columns import Columns, Place, columns_of
from batuta.datasets.errors import TileError
from batuta.datasets.formats import POINTS, format_of
from batuta.datasets.options import SaveOptions
from batuta.datasets.point_cloud import (
    PAIR_COLUMN,
    PointCloud,
    PointFormat,
    crs_label,
    crs_of,
    merge_parts,
    part_crs,
    part_table,
    place_of,
    write_part,
)
from batuta.datasets.tiles import ATTRIBUTES

PAIR_ID: Final = "global_id"
"""Column that holds the stereo pair of each point."""

PAIR_NAMES: Final = "source_pc_names"
"""Attribute of a tile with the names of the pairs, indexed by that column."""

# Imported on use: laspy is optional.
_FORMATS: Final = {
    "CSV": "batuta.datasets.csv_parquet:CSV_FORMAT",
    "Parquet": "batuta.datasets.csv_parquet:PARQUET_FORMAT",
    "GeoParquet": "batuta.datasets.geoparquet:GEOPARQUET_FORMAT",
    "LAS": "batuta.datasets.las:LAS_FORMAT",
}


class PointFile(AssembledFile):
    """Tiles of points in one file; the index of the frames is dropped.

    Parameters
    ----------
    path : path
        The file; its suffix selects the format. By pair, ``points.laz`` becomes
        ``points_<pair>.laz``.
    options : SaveOptions, optional
        Compression.
    by_pair : bool
        Whether there is one file per stereo pair.
    resume : bool
        Whether to go on with the parts that an earlier run left.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        options: SaveOptions | None = None,
        *,
        by_pair: bool = False,
        resume: bool = False,
    ) -> None:
        super().__init__(path, resume=resume)
        self._compression = None if options is None else options.compression
        self._by_pair = by_pair
        self._format = _load(_FORMATS[format_of(path, POINTS).name])
        self.losses: list[str] = []
        """What the format lost of the points, each told once."""
        self._crs: str | None = None
        self._columns = Columns()
        self._written: set[Place] = set()
        if left := self.parts():
            self._resume_from(left)

    def _resume_from(self, left: Sequence[Path]) -> None:
        if self._by_pair != (PAIR_COLUMN in pq.read_schema(left[0]).names):
            raise TileError(
                f"{self.path.name}: cannot resume: save_points_cloud_by_pair has changed"
            )
        self._crs = next((wkt for part in left if (wkt := part_crs(part)) is not None), None)
        try:
            self._columns = merge_parts(left)
        except TileError as exc:
            raise TileError(f"{self.path.name}: cannot resume: {exc}") from exc
        self._written = {place_of(part) for part in left}

    def write_part(self, tile: pd.DataFrame, row: int, col: int, part: Path) -> None:
        """Write the points of a tile, unless they do not go with those of the others."""
        check_tile_type(tile, (pd.DataFrame,))
        crs = crs_of(tile)
        if crs and self._crs and crs != self._crs:
            raise TileError(
                f"a tile in {crs_label(crs)} given, the others are in {crs_label(self._crs)}"
            )
        table = part_table(tile)
        if PAIR_COLUMN in table.column_names:
            raise TileError(f"{PAIR_COLUMN}: this name is kept for the pair of each point")
        losses = self._format.check(table) if table.num_rows else ()
        found = columns_of(table, (row, col))
        merged = self._columns_without(row, col).with_tile(found)
        self._format.check_file(merged)
        if self._by_pair:
            table = table.append_column(PAIR_COLUMN, pa.array(pairs_of(tile), pa.string()))
        write_part(table, found, crs, part)
        self._crs = crs or self._crs
        self._columns = merged
        self._written.add((row, col))
        self.losses += [loss for loss in losses if loss not in self.losses]

    def _columns_without(self, row: int, col: int) -> Columns:
        """Return the columns of the other tiles: a tile that is written again is replaced."""
        if (row, col) not in self._written:
            return self._columns
        kept = {place_of(each): each for each in self.all_parts()}
        kept.pop((row, col), None)
        return merge_parts(kept.values())

    def _write_outputs(self, parts: Sequence[Path]) -> Iterable[Path]:
        if not self._by_pair:
            yield self._write_output(parts, self.path)
            return
        for pair in _pairs_in(parts):
            of_pair = self.path.with_name(f"{self.path.stem}_{pair}{self.path.suffix}")
            yield self._write_output(parts, of_pair, pair)

    def assemble(self, parts: Sequence[Path], target: Path, selected: str | None = None) -> None:
        """Write the points of all tiles, or of one pair, under one schema."""
        cloud = PointCloud(parts=parts, pair=selected, compression=self._compression)
        self._format.write(cloud, target)


def _load(address: str) -> PointFormat:
    module, _, name = address.partition(":")
    found: PointFormat = getattr(importlib.import_module(module), name)
    return found


def pairs_of(tile: pd.DataFrame) -> list[str]:
    """Return the pair of each point of a tile, as a safe component of a file name.

    Raises
    ------
    TileError
        If the tile has no column of pairs, or a value without a name.
    """
    if tile.empty:
        return []
    if PAIR_ID not in tile.columns:
        raise TileError(f"a tile has no column {PAIR_ID!r}, which save_points_cloud_by_pair needs")
    if tile[PAIR_ID].isna().any():
        raise TileError(f"some points have no value in {PAIR_ID!r}")
    codes, ids = pd.factorize(tile[PAIR_ID])
    names = (tile.attrs.get(ATTRIBUTES) or {}).get(PAIR_NAMES)
    labels = np.array([safe_name(_pair_name(each, names)) for each in ids], dtype=object)
    return list(labels[codes])


def _pair_name(identifier: Any, names: Sequence[str] | None) -> str:
    is_number = isinstance(identifier, Real | np.bool_) and float(identifier).is_integer()
    label = str(int(identifier)) if is_number else str(identifier)
    if names is None:
        return label
    if not label.isdigit() or int(label) >= len(names):
        raise TileError(f"{PAIR_ID} {label} given, {PAIR_NAMES} has {len(names)} names")
    return str(names[int(label)])


def safe_name(name: str) -> str:
    """Return a name that is safe in a path, and different for different names."""
    plain = re.sub(r"[^A-Za-z0-9._-]", "_", name).lstrip(".")[:80]
    if plain == name and plain:
        return plain
    return f"{plain}-{hashlib.blake2b(name.encode(), digest_size=4).hexdigest()}"


def _pairs_in(parts: Sequence[Path]) -> list[str]:
    found: set[str] = set()
    for part in parts:
        column = pq.read_table(part, columns=[PAIR_COLUMN])[PAIR_COLUMN]
        found.update(column.unique().to_pylist())
    return sorted(found)
