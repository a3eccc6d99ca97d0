"""Copies the rows of a database to another, of the same schema: SQLite and PostgreSQL alike.

Rows pass from driver to driver in the form that SQLite keeps them in, which PostgreSQL reads as
well: JSON as its text, instants as text in UTC. SQLAlchemy would make objects of all values, and
values of these objects again.
"""

from collections.abc import Iterable
from typing import Any, Final

import sqlalchemy as sa

_ROWS_AT_A_TIME: Final = 1000
_CONTENTS_AT_A_TIME: Final = 64
"""Of a table that keeps files."""
_SQLITE_INSTANT: Final = "YYYY-MM-DD HH24:MI:SS.US"
"""How SQLAlchemy keeps a `DateTime` in SQLite, in the notation of PostgreSQL's ``to_char``."""
_AS_IT_IS: Final = sa.types.NullType()


def copy_tables(source: sa.Connection, target: sa.Connection, tables: Iterable[sa.Table]) -> None:
    """Insert all rows of `tables` into the same tables of `target`, in the transactions given.

    Raises
    ------
    sqlalchemy.exc.SQLAlchemyError
        If a statement fails.
    """
    if target.dialect.name == "postgresql":
        target.exec_driver_sql("SET LOCAL TIME ZONE 'UTC'")
    for table in tables:
        _copy(source, target, table)
        if target.dialect.name == "postgresql":
            _continue_numbers(target, table)


def _copy(source: sa.Connection, target: sa.Connection, table: sa.Table) -> None:
    large = any(isinstance(column.type, sa.LargeBinary) for column in table.c)
    options = {"yield_per": _CONTENTS_AT_A_TIME if large else _ROWS_AT_A_TIME}
    columns = [_as_in_sqlite(column, source.dialect.name) for column in table.c]
    insert = _insert_statement(table, target.dialect.name)
    with source.execute(sa.select(*columns), execution_options=options) as rows:
        for page in rows.partitions():
            target.exec_driver_sql(insert, [tuple(row) for row in page])


def _as_in_sqlite(column: sa.Column[Any], dialect: str) -> sa.ColumnElement[Any]:
    value = sa.type_coerce(column, _AS_IT_IS)
    if dialect == "sqlite":
        return value
    kind = column.type.impl_instance if isinstance(column.type, sa.TypeDecorator) else column.type
    if isinstance(kind, sa.DateTime):
        return sa.func.to_char(sa.func.timezone("UTC", value), _SQLITE_INSTANT)
    return sa.cast(value, sa.Text) if isinstance(kind, sa.JSON) else value


def _insert_statement(table: sa.Table, dialect: str) -> str:
    columns = ", ".join(f'"{column.name}"' for column in table.c)
    values = ", ".join(["?" if dialect == "sqlite" else "%s"] * len(table.c))
    return f'INSERT INTO "{table.name}" ({columns}) VALUES ({values})'  # noqa: S608  names of ours


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
