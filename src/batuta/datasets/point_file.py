"""Tiles of points in one file, or in one file per stereo pair."""

import hashlib
import importlib
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from batuta.datasets.assembled_file import AssembledFile, check_tile_type
from batuta.datasets.errors import TileError
from batuta.datasets.formats import POINTS, format_of
from batuta.datasets.options import SaveOptions
from batuta.datasets.point_cloud import (
    PAIR_COLUMN,
    PointCloud,
    PointFormat,
    crs_label,
    crs_of,
    part_crs,
    part_table,
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
        left = self.parts()
        if left and by_pair != (PAIR_COLUMN in pq.read_schema(left[0]).names):
            raise TileError(
                f"{self.path.name}: cannot resume: save_points_cloud_by_pair has changed"
            )
        self._crs = next((wkt for part in left if (wkt := part_crs(part)) is not None), None)

    def write_part(self, tile: pd.DataFrame, row: int, col: int, part: Path) -> None:  # noqa: ARG002
        """Write the points of a tile."""
        check_tile_type(self.path.name, tile, (pd.DataFrame,))
        crs = crs_of(tile)
        if crs and self._crs and crs != self._crs:
            raise TileError(
                f"{self.path.name}: a tile in {crs_label(crs)} given,"
                f" the others are in {crs_label(self._crs)}"
            )
        table = part_table(tile, crs)
        if table.num_rows:
            self._check(table)
        if self._by_pair:
            pairs = pa.array(pairs_of(tile, self.path.name), pa.string())
            table = table.append_column(PAIR_COLUMN, pairs)
        pq.write_table(table, part)
        self._crs = crs or self._crs

    def _check(self, table: Any) -> None:
        try:
            self._format.check(table)
        except TileError as exc:
            raise TileError(f"{self.path.name}: {exc}") from exc

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


def pairs_of(tile: pd.DataFrame, file_name: str) -> list[str]:
    """Return the pair of each point of a tile, as a safe component of a file name.

    Raises
    ------
    TileError
        If the tile has no column of pairs, or a value without a name.
    """
    if tile.empty:
        return []
    if PAIR_ID not in tile.columns:
        raise TileError(
            f"{file_name}: a tile has no column {PAIR_ID!r}, which save_points_cloud_by_pair needs"
        )
    ids, inverse = np.unique(tile[PAIR_ID].to_numpy(), return_inverse=True)
    names = (tile.attrs.get(ATTRIBUTES) or {}).get(PAIR_NAMES)
    labels = np.array([safe_name(_pair_name(each, names, file_name)) for each in ids], dtype=object)
    return list(labels[inverse])


def _pair_name(identifier: Any, names: Sequence[str] | None, file_name: str) -> str:
    if identifier != identifier or identifier is None:  # noqa: PLR0124 - NaN alone
        raise TileError(f"{file_name}: some points have no value in {PAIR_ID!r}")
    whole = isinstance(identifier, str) or float(identifier).is_integer()
    label = str(identifier) if not whole or isinstance(identifier, str) else str(int(identifier))
    if names is None:
        return label
    if not label.isdigit() or int(label) >= len(names):
        raise TileError(
            f"{file_name}: {PAIR_ID} {label} given, {PAIR_NAMES} has {len(names)} names"
        )
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
