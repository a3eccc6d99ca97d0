"""Copies the rows of a database to another, of the same schema: SQLite and PostgreSQL alike."""

from collections.abc import Iterable

import sqlalchemy as sa

_ROWS_AT_A_TIME = 1000
_CONTENTS_AT_A_TIME = 16
"""Of a table that keeps files."""


def copy_tables(
    source: sa.Connection, target: sa.Connection, tables: Iterable[sa.Table]
) -> dict[str, int]:
    """Insert all rows of `tables` into the same tables of `target`, in the transactions given.

    Returns
    -------
    dict
        How many rows each table has, by its name.
    """
    return {table.name: _copy(source, target, table) for table in tables}


def _copy(source: sa.Connection, target: sa.Connection, table: sa.Table) -> int:
    large = any(isinstance(column.type, sa.LargeBinary) for column in table.c)
    size = _CONTENTS_AT_A_TIME if large else _ROWS_AT_A_TIME
    count = 0
    with source.execute(sa.select(table), execution_options={"yield_per": size}) as rows:
        for page in rows.mappings().partitions():
            target.execute(sa.insert(table), [dict(row) for row in page])
            count += len(page)
    if target.dialect.name == "postgresql":
        _continue_numbers(target, table)
    return count


def _continue_numbers(connection: sa.Connection, table: sa.Table) -> None:
    """Have PostgreSQL number the next row after those that were inserted with their numbers."""
    column = table.autoincrement_column
    if column is None:
        return
    last = sa.select(sa.func.max(column)).scalar_subquery()
    sequence = sa.func.pg_get_serial_sequence(table.name, column.name)
    # Without rows, 1 is the number of the next one.
    following = sa.func.setval(sequence, sa.func.coalesce(last, 1), last.is_not(None))
    connection.execute(sa.select(following))
