"""Opens the database of a service: migrations, connection settings, read transactions."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from batuta.errors import BatutaError, ConfigurationError, one_line

BUSY_TIMEOUT_S: Final = 30
UNAVAILABLE: Final = (OperationalError, PoolTimeoutError)
"""What is raised while the database cannot be used: what is tried again later may succeed."""
POOL_SIZE: Final = 5
MAX_OVERFLOW: Final = 45
"""Connections beyond `POOL_SIZE`, closed after use. Together more than the threads that serve
requests (40), so that a burst of slow ones leaves some for the service's own work."""
ENVIRONMENT: Final = Path(__file__).parent / "migrations"
READ_ONLY: Final = "batuta_read_only"
ACCEPTED: Final = "accepted: sqlite:///path/to/file.db, postgresql://user@host/name"


class DatabaseError(BatutaError):
    """The database cannot be opened, or refuses."""


@contextmanager
def open_database(url: str, migrations: Path) -> Iterator[sa.Engine]:
    """Open the database at `url`, creating it or bringing it to the latest schema.

    Parameters
    ----------
    url : str
        ``sqlite:///path`` or ``postgresql://...``.
    migrations : Path
        The service's folder of Alembic migrations: revision files, nothing else.

    Raises
    ------
    ConfigurationError
        If `url` is not accepted.
    DatabaseError
        If it cannot be opened.
    """
    engine = sa.create_engine(
        _parse_url(url),
        pool_pre_ping=not url.startswith("sqlite"),
        pool_size=POOL_SIZE,
        max_overflow=MAX_OVERFLOW,
    )
    if engine.dialect.name == "sqlite":
        sa.event.listen(engine, "connect", _tune_sqlite)
        sa.event.listen(engine, "begin", _begin_sqlite)
    try:
        _migrate(engine, migrations)
        yield engine
    finally:
        engine.dispose()


@contextmanager
def reading(engine: sa.Engine) -> Iterator[sa.Connection]:
    """Open a read-only transaction, which neither waits for writers nor blocks them."""
    with engine.connect().execution_options(**{READ_ONLY: True}) as connection, connection.begin():
        yield connection


def insert(engine_or_connection: sa.Engine | sa.Connection, table: sa.Table) -> Any:
    """Build an ``INSERT`` that supports ``on_conflict_do_nothing`` and ``on_conflict_do_update``.

    SQLite and PostgreSQL have the same clauses, under two names in SQLAlchemy.
    """
    if engine_or_connection.dialect.name == "postgresql":
        return postgresql.insert(table)
    return sqlite.insert(table)


def database_error(engine: sa.Engine, exc: SQLAlchemyError) -> DatabaseError:
    """Return `exc` as a `DatabaseError`: one line that names the database, without password."""
    shown = engine.url.render_as_string(hide_password=True)
    reason = one_line(getattr(exc, "orig", None) or exc)
    return DatabaseError(f"database {shown}: {reason}")


def _parse_url(url: str) -> sa.URL:
    try:
        parsed = make_url(url)
    except ArgumentError as exc:
        raise ConfigurationError(
            f"--database-url {url!r}: not a database URL ({ACCEPTED})"
        ) from exc
    if parsed.get_backend_name() == "postgresql":
        return parsed.set(drivername="postgresql+psycopg")
    if parsed.drivername != "sqlite" or not parsed.database or parsed.database == ":memory:":
        shown = parsed.render_as_string(hide_password=True)
        raise ConfigurationError(f"--database-url {shown}: not a database URL ({ACCEPTED})")
    Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
    return parsed


def _migrate(engine: sa.Engine, migrations: Path) -> None:
    config = Config()
    config.set_main_option("script_location", _option(ENVIRONMENT))
    config.set_main_option("version_locations", _option(migrations))
    config.set_main_option("path_separator", "os")
    # Alembic logs each migration step at INFO: noise in a service's log.
    logging.getLogger("alembic").setLevel(logging.WARNING)
    try:
        with engine.begin() as connection:
            if engine.dialect.name == "postgresql":
                # Services that start together must migrate one after the other.
                connection.execute(sa.text("SELECT pg_advisory_xact_lock(2718281828)"))
            config.attributes["connection"] = connection
            # Services may share one database: each has a version table of its own.
            config.attributes["version_table"] = f"alembic_{migrations.parent.name}"
            command.upgrade(config, "head")
    except SQLAlchemyError as exc:
        raise database_error(engine, exc) from exc


def _option(path: Path) -> str:
    return str(path).replace("%", "%%")


def _tune_sqlite(connection: Any, _record: Any) -> None:
    # SQLAlchemy begins the transactions itself: see `_begin_sqlite`.
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode = WAL")
    # A commit must survive a power cut: messages are acknowledged on the strength of it.
    cursor.execute("PRAGMA synchronous = FULL")
    cursor.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_S * 1000}")
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.close()


def _begin_sqlite(connection: sa.Connection) -> None:
    # IMMEDIATE takes the write lock at once, and waits for it. A deferred transaction that reads
    # and then writes fails with "database is locked" if another one wrote in between.
    read_only = connection.get_execution_options().get(READ_ONLY)
    connection.exec_driver_sql("BEGIN" if read_only else "BEGIN IMMEDIATE")
