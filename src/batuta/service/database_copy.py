"""Copies the rows of a database to another, of the same schema: SQLite and PostgreSQL alike.

Rows pass from driver to driver in the form that SQLite keeps them in, which PostgreSQL reads as
well: JSON as its text, instants as text in UTC. SQLAlchemy would make objects of all values, and
values of these objects again.
"""

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa

from batuta.credentials import without_password
from batuta.errors import ConfigurationError, one_line
from batuta.service.committer import lock_writers
from batuta.service.database import DatabaseError, open_database, reading

_ROWS_AT_A_TIME: Final = 1000
_CONTENTS_AT_A_TIME: Final = 64
"""Of a table that keeps files."""
_SQLITE_INSTANT: Final = "YYYY-MM-DD HH24:MI:SS.US"
"""How SQLAlchemy keeps a `DateTime` in SQLite, in the notation of PostgreSQL's ``to_char``."""
_AS_IT_IS: Final = sa.types.NullType()


def copy_to_sqlite(
    database_url: str, path: Path, migrations: Path, tables: Sequence[sa.Table]
) -> None:
    """Copy all rows of `tables`, as they are at one moment, to a new SQLite database.

    Others may write meanwhile.

    Parameters
    ----------
    database_url : str
        The database, which must exist; an older one is brought to the latest schema.
    path : Path
        The file of the new one, complete when this returns.
    migrations : Path
        Those of the service.

    Raises
    ------
    ConfigurationError
        If the database does not exist.
    DatabaseError
        If one of them cannot be used.
    """
    require_database(database_url)
    with (
        open_database(database_url, migrations) as source,
        open_database(f"sqlite:///{path}", migrations) as target,
    ):
        with reading(source) as rows, target.begin() as connection:
            _copy_tables(rows, connection, tables)
        _empty_journal(path)


def copy_from_sqlite(source: sa.Engine, target: sa.Engine, tables: Sequence[sa.Table]) -> None:
    """Copy all rows of `tables` to a database that has none, in one transaction.

    Raises
    ------
    ConfigurationError
        If it has rows.
    """
    with reading(source) as rows, target.begin() as connection:
        lock_writers(connection)
        require_empty(connection, tables)
        _copy_tables(rows, connection, tables)


def _empty_journal(path: Path) -> None:
    """Write what was committed to an SQLite database into its file.

    That is done when it is closed, too, but nobody is told then that the disk is full.
    """
    with closing(sqlite3.connect(path)) as connection:
        try:
            (is_blocked, *_) = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        except sqlite3.Error as exc:
            raise DatabaseError(f"database {path}: {one_line(exc)}") from exc
    if is_blocked:
        raise DatabaseError(f"database {path}: another process uses it")


def require_database(url: str) -> None:
    """Refuse an SQLite database that does not exist: to open it would make a new one.

    Raises
    ------
    ConfigurationError
        If there is no such file.
    """
    parsed = sa.make_url(url) if url.startswith("sqlite:") else None
    if parsed is not None and parsed.database and not Path(parsed.database).is_file():
        raise ConfigurationError(f"--database-url {url}: no such file")


def require_empty(connection: sa.Connection, tables: Sequence[sa.Table]) -> None:
    """Refuse a database with rows in one of `tables`.

    Raises
    ------
    ConfigurationError
        If it has any.
    """
    url = connection.engine.url.render_as_string(hide_password=False)
    refuse_records(url, found=not is_empty(connection, tables))


def refuse_records(url: str, *, found: bool) -> None:
    """Refuse a database in which records were found.

    Raises
    ------
    ConfigurationError
        If they were.
    """
    if found:
        raise ConfigurationError(
            f"--database-url {without_password(url)}: it has records (accepted: a database without)"
        )


def is_empty(connection: sa.Connection, tables: Sequence[sa.Table]) -> bool:
    """Return whether a database has no rows in any of `tables`."""
    exist = (sa.select(sa.exists().select_from(each)) for each in tables)
    return not any(map(connection.scalar, exist))


def _copy_tables(source: sa.Connection, target: sa.Connection, tables: Sequence[sa.Table]) -> None:
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
    values = ", ".join(_placeholder(column, dialect) for column in table.c)
    return f'INSERT INTO "{table.name}" ({columns}) VALUES ({values})'  # noqa: S608  names of ours


def _placeholder(column: sa.Column[Any], dialect: str) -> str:
    if dialect == "sqlite":
        return "?"
    # SQLite keeps 0 and 1.
    return "%s::int::boolean" if isinstance(column.type, sa.Boolean) else "%s"


def _continue_numbers(connection: sa.Connection, table: sa.Table) -> None:
    """Set the sequence of a table to continue after rows that were copied with their numbers."""
    column = table.autoincrement_column
    if column is None:
        return
    last = sa.select(sa.func.max(column)).scalar_subquery()
    sequence = sa.func.pg_get_serial_sequence(table.name, column.name)
    # Without rows, 1 is the number of the next one.
    following = sa.func.setval(sequence, sa.func.coalesce(last, 1), last.is_not(None))
    connection.execute(sa.select(following))
