"""Points in CSV and Parquet."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from batuta.datasets.point_cloud import PointCloud, PointFormat, Table

ROW_GROUP_ROWS: Final = 500_000
"""Points per row group of a Parquet file, at least."""


def write_csv(cloud: PointCloud, target: Path) -> None:
    """Write the points as CSV, with a header line."""
    with target.open("w", encoding="utf-8", newline="") as stream:
        for index, table in enumerate(cloud.tables()):
            table.to_pandas().to_csv(stream, index=False, header=index == 0)


def write_parquet(cloud: PointCloud, target: Path) -> None:
    """Write the points in row groups of about `ROW_GROUP_ROWS`."""
    write_row_groups(cloud.schema, cloud.tables(), target, cloud.compression)


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


CSV_FORMAT: Final = PointFormat(write_csv)
PARQUET_FORMAT: Final = PointFormat(write_parquet)
