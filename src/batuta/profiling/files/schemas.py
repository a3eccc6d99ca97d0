"""The Arrow schemas of the Parquet files of a profile."""

from collections.abc import Iterable, Sequence
from typing import Final

import pyarrow as pa

from batuta.profiling.capture.records import LeakRow, LoopRow, TaskRow

TASK_SCHEMA: Final = pa.schema(
    [
        ("task", pa.int64()),
        ("attempt", pa.int16()),
        ("outcome", pa.string()),
        ("error", pa.string()),
        ("worker", pa.string()),
        ("host", pa.string()),
        ("pid", pa.int32()),
        ("waiting_s", pa.float64()),
        ("after", pa.list_(pa.int64())),
        ("name", pa.string()),
        ("start_s", pa.float64()),
        ("wall_s", pa.float64()),
        ("cpu_s", pa.float64()),
        ("peak_bytes", pa.int64()),
        ("growth_bytes", pa.int64()),
        ("bytes_in", pa.int64()),
        ("bytes_out", pa.int64()),
    ]
)
"""A row for each attempt at a task, in the order in which they ended; see `TaskRow`."""

PLACE_SCHEMA: Final = pa.schema(
    [
        ("task", pa.int64()),
        ("dataset", pa.string()),
        ("row", pa.int32()),
        ("col", pa.int32()),
    ]
)
"""A row for each tile: the task that makes it. Tasks that only lead to tiles have no row."""

PROFILE_SCHEMA: Final = pa.schema(
    [*TASK_SCHEMA, ("dataset", pa.string()), ("row", pa.int32()), ("col", pa.int32())]
)
"""Of ``tasks.parquet``: with the tile that a task makes, or the first that it leads to."""

LOOP_SCHEMA: Final = pa.schema(
    [
        ("task", pa.int64()),
        ("name", pa.string()),
        ("worker", pa.string()),
        ("loop", pa.int32()),
        ("wall_s", pa.float64()),
        ("held_bytes", pa.int64()),
    ]
)
"""A row for each repetition of a task: what its worker held after it; see `LoopRow`."""

LEAK_SCHEMA: Final = pa.schema(
    [
        ("task", pa.int64()),
        ("name", pa.string()),
        ("worker", pa.string()),
        ("file", pa.string()),
        ("line", pa.int32()),
        ("function", pa.string()),
        ("bytes_per_loop", pa.int64()),
    ]
)
"""A row for each line of a repeated task that allocates what is never freed; see `LeakRow`."""


def task_table(rows: Sequence[TaskRow]) -> pa.Table:
    """Return rows as a table of `TASK_SCHEMA`."""
    return _table(
        (
            (
                row.task,
                row.attempt,
                row.outcome.value,
                row.error,
                *row.worker,
                row.waiting_s,
                row.after,
                *row.measure,
            )
            for row in rows
        ),
        TASK_SCHEMA,
    )


def place_table(rows: Sequence[tuple[int, str, int, int]]) -> pa.Table:
    """Return places (task, dataset, row, col) as a table of `PLACE_SCHEMA`."""
    return _table(rows, PLACE_SCHEMA)


def loop_table(rows: Sequence[LoopRow]) -> pa.Table:
    """Return rows as a table of `LOOP_SCHEMA`."""
    return _table(rows, LOOP_SCHEMA)


def leak_table(rows: Sequence[LeakRow]) -> pa.Table:
    """Return rows as a table of `LEAK_SCHEMA`."""
    return _table(rows, LEAK_SCHEMA)


def _table(rows: Iterable[tuple[object, ...]], schema: pa.Schema) -> pa.Table:
    columns = list(zip(*rows, strict=True)) or [()] * len(schema)
    arrays = [
        pa.array(column, type=kind) for column, kind in zip(columns, schema.types, strict=True)
    ]
    return pa.Table.from_arrays(arrays, schema=schema)
