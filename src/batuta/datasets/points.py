"""Tiles of points gathered in a file, or in one file per stereo pair."""

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

from batuta.datasets.errors import TileError
from batuta.datasets.formats import POINTS, format_of
from batuta.datasets.options import SaveOptions
from batuta.datasets.part_files import GatheredFile, refuse_other_tile
from batuta.datasets.point_file import (
    PAIR_COLUMN,
    Cloud,
    PointsFormat,
    crs_of,
    name_of,
    part_crs,
    part_table,
)
from batuta.datasets.tiles import ATTRIBUTES

PAIR_ID: Final = "global_id"
"""Column of the pair of each point."""

PAIR_NAMES: Final = "source_pc_names"
"""Attribute of a tile that names the pairs, where the column counts them."""

# Imported when first written: laspy is optional.
_FORMATS: Final = {
    "CSV": "batuta.datasets.tables:CSV_FORMAT",
    "Parquet": "batuta.datasets.tables:PARQUET_FORMAT",
    "GeoParquet": "batuta.datasets.geoparquet:GEOPARQUET_FORMAT",
    "LAS": "batuta.datasets.las:LAS_FORMAT",
}


class PointsFile(GatheredFile):
    """Tiles of points in one file; the index of the frames is not kept.

    Parameters
    ----------
    path : path
        The file; its name says the format. By pair, ``points.laz`` becomes
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
                f"{self.path.name}: an earlier run left parts that are not by pair alike"
            )
        self._crs = next((wkt for part in left if (wkt := part_crs(part)) is not None), None)

    def write_part(self, tile: pd.DataFrame, row: int, col: int, part: Path) -> None:  # noqa: ARG002
        """Write the points of a tile."""
        refuse_other_tile(self.path.name, tile, (pd.DataFrame,))
        crs = crs_of(tile)
        if crs and self._crs and crs != self._crs:
            raise TileError(
                f"{self.path.name}: a tile in {name_of(crs)}, others are in {name_of(self._crs)}"
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

    def _made(self, parts: Sequence[Path]) -> Iterable[Path]:
        if not self._by_pair:
            yield self._publish(parts, self.path)
            return
        for pair in _pairs_in(parts):
            of_pair = self.path.with_name(f"{self.path.stem}_{pair}{self.path.suffix}")
            yield self._publish(parts, of_pair, pair)

    def gather(self, parts: Sequence[Path], target: Path, selected: str | None = None) -> None:
        """Write the points of all tiles under one schema; those of one pair, where selected."""
        cloud = Cloud(parts=parts, pair=selected, compression=self._compression)
        self._format.write(cloud, target)


def _load(address: str) -> PointsFormat:
    module, _, name = address.partition(":")
    found: PointsFormat = getattr(importlib.import_module(module), name)
    return found


def pairs_of(tile: pd.DataFrame, file_name: str) -> list[str]:
    """Return the pair of each point of a tile, as it may stand in the name of a file.

    Raises
    ------
    TileError
        If the tile does not tell.
    """
    if tile.empty:
        return []
    if PAIR_ID not in tile.columns:
        raise TileError(f"{file_name}: no column {PAIR_ID!r} in a tile, which tells the pair")
    ids, inverse = np.unique(tile[PAIR_ID].to_numpy(), return_inverse=True)
    names = (tile.attrs.get(ATTRIBUTES) or {}).get(PAIR_NAMES)
    labels = np.array([safe_name(_pair_name(each, names, file_name)) for each in ids], dtype=object)
    return list(labels[inverse])


def _pair_name(identifier: Any, names: Sequence[str] | None, file_name: str) -> str:
    if identifier != identifier or identifier is None:  # noqa: PLR0124 - NaN alone
        raise TileError(f"{file_name}: no pair in {PAIR_ID!r} of some points")
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
    """Return a name that is no path, and differs where names differ."""
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
