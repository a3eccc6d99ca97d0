"""Points in CSV and Parquet."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from batuta.datasets.columns import Table, pandas_metadata
from batuta.datasets.errors import TileError
from batuta.datasets.point_cloud import PointCloud, PointFormat

ROW_GROUP_ROWS: Final = 500_000
"""Points per row group of a Parquet file, at least."""


def check_csv(table: Table) -> tuple[str, ...]:
    """Refuse columns whose values have no text that can be read again; nothing else is lost.

    Raises
    ------
    TileError
        Naming the column.
    """
    for each in table.schema:
        if pa.types.is_nested(each.type) or _is_bytes(each.type):
            raise TileError(f"{each.name}: a column of {each.type} cannot be saved in CSV")
    return ()


def _is_bytes(kind: Any) -> bool:
    stored = getattr(kind, "storage_type", kind)
    return bool(
        pa.types.is_binary(stored)
        or pa.types.is_large_binary(stored)
        or pa.types.is_fixed_size_binary(stored)
    )


def write_csv(cloud: PointCloud, target: Path) -> None:
    """Write the points as CSV, with a header line."""
    with target.open("w", encoding="utf-8", newline="") as stream:
        for index, table in enumerate(cloud.tables()):
            # Otherwise pandas makes floats of whole numbers where some are missing.
            frame = _with_texts_of_times(table).to_pandas(integer_object_nulls=True)
            frame.to_csv(stream, index=False, header=index == 0)


def _with_texts_of_times(table: Table) -> Table:
    """Return a table with its times as texts, which have one format in all tiles.

    That of pandas depends on the values of each tile: without the time of day where all are at
    midnight, with as many digits as the finest has. Readers take the format of the first.
    """
    for index, each in enumerate(table.schema):
        if pa.types.is_timestamp(each.type) or pa.types.is_time(each.type):
            table = table.set_column(index, each.name, table[index].cast(pa.string()))
    return table


def write_parquet(cloud: PointCloud, target: Path) -> None:
    """Write the points in row groups of about `ROW_GROUP_ROWS`."""
    schema = cloud.schema.with_metadata(pandas_metadata(cloud.columns))
    write_row_groups(schema, cloud.tables(), target, cloud.compression)


def write_row_groups(
    schema: Any, tables: Iterable[Table], target: Path, compression: str | None
) -> None:
    """Write tables of one schema to a Parquet file."""
    with pq.ParquetWriter(target, schema, compression=compression or "snappy") as writer:
        for group in _groups(tables):
            writer.write_table(group)


def _groups(tables: Iterable[Table]) -> Iterator[Table]:
    waiting: list[Any] = []
    for table in tables:
        waiting.append(table)
        if sum(each.num_rows for each in waiting) >= ROW_GROUP_ROWS:
            yield pa.concat_tables(waiting)
            waiting.clear()
    if waiting:
        yield pa.concat_tables(waiting)


CSV_FORMAT: Final = PointFormat(write_csv, check_csv)
PARQUET_FORMAT: Final = PointFormat(write_parquet)
