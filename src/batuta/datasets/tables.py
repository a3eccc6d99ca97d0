"""Files that tiles of points and dict tiles are gathered in: CSV, Parquet, JSON.

Tiles come in any order and leave in the order of their grid, row by row, so that the file is the
same each time. Until then each waits in a file of its own, next to the output, so that memory
stays flat.
"""

import json
import os
import shutil
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from batuta.datasets.errors import TileError
from batuta.datasets.json_codec import plain
from batuta.datasets.tiles import ATTRIBUTES, CarsDict
from batuta.errors import ConfigurationError

ROW_GROUP_ROWS: Final = 500_000
"""Points gathered before a row group of a Parquet file is written."""


class GatheredFile(ABC):
    """A file made of one part per tile; made by `CarsDataset.generate_descriptor`."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._parts = self.path.with_name(f".{self.path.name}.parts")
        self._closed = False
        shutil.rmtree(self._parts, ignore_errors=True)  # left by a run that was killed
        self._parts.mkdir(parents=True)

    def write(self, tile: Any, row: int, col: int) -> None:
        """Keep the part of the tile at `row`, `col` of the grid; a second one replaces it."""
        self.write_part(tile, self._parts / f"{row:08d}_{col:08d}")

    def close(self) -> None:
        """Write the file, tiles in the order of the grid, and remove the parts."""
        if self._closed:
            return
        self._closed = True
        parts = sorted(self._parts.iterdir())
        unfinished = self.path.with_name(f".{self.path.name}.unfinished")
        try:
            if parts:
                self.gather(parts, unfinished)
                unfinished.replace(self.path)
        finally:
            unfinished.unlink(missing_ok=True)
            shutil.rmtree(self._parts)

    def abandon(self) -> None:
        """Remove the parts and write nothing."""
        self._closed = True
        shutil.rmtree(self._parts, ignore_errors=True)

    @abstractmethod
    def write_part(self, tile: Any, part: Path) -> None:
        """Write one tile in a file of its own."""

    @abstractmethod
    def gather(self, parts: list[Path], target: Path) -> None:
        """Write all parts, in the order given, in `target`."""


class TableFile(GatheredFile):
    """Tiles of points in one CSV or Parquet file; the index of the frames is not kept.

    Columns that some tiles have not are empty there.
    """

    def write_part(self, tile: pd.DataFrame, part: Path) -> None:
        """Write the points of a tile."""
        if not isinstance(tile, pd.DataFrame):
            raise TileError(f"{self.path.name}: a DataFrame expected, {type(tile).__name__} given")
        bare = tile.copy(deep=False)
        bare.attrs = {}
        pq.write_table(pa.Table.from_pandas(bare, preserve_index=False), part)

    def gather(self, parts: list[Path], target: Path) -> None:
        """Write the points of all tiles under one schema."""
        schema = pa.unify_schemas(
            [pq.read_schema(part).remove_metadata() for part in parts],
            promote_options="permissive",
        )
        tables = (_under(schema, pq.read_table(part)) for part in parts)
        if self.path.suffix == ".parquet":
            _write_parquet(schema, tables, target)
        else:
            _write_csv(tables, target)


def _under(schema: Any, table: Any) -> Any:
    bare = table.replace_schema_metadata(None)
    return pa.concat_tables([schema.empty_table(), bare], promote_options="permissive")


def _write_parquet(schema: Any, tables: Iterator[Any], target: Path) -> None:
    with pq.ParquetWriter(target, schema) as writer:
        waiting: list[Any] = []
        for table in tables:
            waiting.append(table)
            if sum(each.num_rows for each in waiting) >= ROW_GROUP_ROWS:
                writer.write_table(pa.concat_tables(waiting))
                waiting.clear()
        if waiting:
            writer.write_table(pa.concat_tables(waiting))


def _write_csv(tables: Iterator[Any], target: Path) -> None:
    with target.open("w", encoding="utf-8", newline="") as stream:
        for index, table in enumerate(tables):
            table.to_pandas().to_csv(stream, index=False, header=index == 0)


class DocumentFile(GatheredFile):
    """Dict tiles in one JSON file: a list of ``{"row", "col", "data", "attributes"}``.

    Arrays become lists; NaN and infinities, which JSON has not, become null.
    """

    def write_part(self, tile: CarsDict | dict[str, Any], part: Path) -> None:
        """Write one dict tile."""
        if not isinstance(tile, (CarsDict, dict)):
            raise TileError(f"{self.path.name}: a CarsDict expected, {type(tile).__name__} given")
        row, col = part.name.split("_")
        record: dict[str, Any] = {"row": int(row), "col": int(col), "data": plain(dict(tile))}
        if isinstance(tile, CarsDict) and ATTRIBUTES in tile.attrs:
            record["attributes"] = plain(tile.attrs[ATTRIBUTES])
        part.write_text(json.dumps(record, allow_nan=False), encoding="utf-8")

    def gather(self, parts: list[Path], target: Path) -> None:
        """Write the list, one tile per line."""
        lines = ",\n".join(part.read_text(encoding="utf-8") for part in parts)
        target.write_text(f"[\n{lines}\n]\n", encoding="utf-8")


TABLE_SUFFIXES: Final = (".csv", ".parquet")


def check_output_name(file_name: str | os.PathLike[str], accepted: tuple[str, ...]) -> None:
    """Refuse a file whose extension says another format than those `accepted`."""
    if Path(file_name).suffix not in accepted:
        raise ConfigurationError(
            f"file_name: {os.fspath(file_name)!r} given, a name ending in"
            f" {' or '.join(accepted)} expected"
        )
