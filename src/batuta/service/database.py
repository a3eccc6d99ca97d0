"""Opens the database of a service: migrations, connection settings, read transactions."""

import os
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from batuta.credentials import without_password
from batuta.durable_folders import create_folder
from batuta.errors import BatutaError, ConfigurationError, one_line
from batuta.private_files import PRIVATE_FOLDER, create_private
from batuta.service.schema_version import (
    current_version,
    latest_version,
    upgrade,
    version_table,
)

BUSY_TIMEOUT_S: Final = 30
UNAVAILABLE: Final = (OperationalError, PoolTimeoutError)
"""What is raised while the database cannot be used: what is tried again later may succeed."""
POOL_SIZE: Final = 5
MAX_OVERFLOW: Final = 45
"""Connections beyond `POOL_SIZE`, closed after use. Together more than the threads that serve
requests (40), so that a burst of slow ones leaves some for the service's own work."""
READ_ONLY: Final = "batuta_read_only"
ACCEPTED: Final = "accepted: sqlite:///path/to/file.db, postgresql://user@host/name"


class DatabaseError(BatutaError):
    """The database cannot be opened, or refuses."""


_ISOLATION: Final[Mapping[str, Mapping[str, Any]]] = {
    "sqlite": {},  # a transaction sees one moment, and one that writes has no other beside it
    # What is decided under a lock sees what was committed before it was given, statement by
    # statement, whatever the server has for a default.
    "postgresql": {"isolation_level": "READ COMMITTED"},
}
_READING: Final[Mapping[str, Mapping[str, Any]]] = {
    "sqlite": {READ_ONLY: True},
    # One that only reads is never aborted for that.
    "postgresql": {READ_ONLY: True, "isolation_level": "REPEATABLE READ"},
}
_MOMENT: ContextVar[sa.Connection | None] = ContextVar("one_moment", default=None)


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
        If it cannot be opened, or what is done inside ends with an error of the database.
    """
    parsed = _parse_url(url)
    engine = sa.create_engine(
        parsed,
        pool_pre_ping=not url.startswith("sqlite"),
        pool_size=POOL_SIZE,
        max_overflow=MAX_OVERFLOW,
        **_ISOLATION[parsed.get_backend_name()],
    )
    sa.event.listen(engine, "handle_error", _on_error)
    if engine.dialect.name == "sqlite":
        sa.event.listen(engine, "connect", _tune_sqlite)
        sa.event.listen(engine, "begin", _begin_sqlite)
    try:
        _migrate(engine, migrations)
        if parsed.database is not None and engine.dialect.name == "sqlite":
            _SqliteFile(Path(parsed.database)).watch(engine)
        yield engine
    except* sa.exc.OperationalError as group:
        raise database_error(engine, _first(group)) from group
    finally:
        engine.dispose()


@contextmanager
def reading(engine: sa.Engine) -> Iterator[sa.Connection]:
    """Open a read-only transaction, which neither waits for writers nor blocks them.

    All its statements see the database as it is at the first of them. Within `one_moment`, it is
    that transaction, which goes on.
    """
    joined = _MOMENT.get()
    if joined is not None and joined.engine is engine:
        yield joined
        return
    options = _READING[engine.dialect.name]
    with engine.connect().execution_options(**options) as connection, connection.begin():
        yield connection


@contextmanager
def one_moment(engine: sa.Engine) -> Iterator[None]:
    """Let all that is read within see the database as it is at the first statement.

    For an answer that several parts read, each with `reading`: what one concludes from another is
    true of that moment. What is written meanwhile, also by the same thread, is not seen. It is of
    this thread alone: no thread that reads is started within, and it is no part of a generator.
    """
    with reading(engine) as connection:
        token = _MOMENT.set(connection)
        try:
            yield
        finally:
            _MOMENT.reset(token)


def insert(database: sa.Engine | sa.Connection | str, table: sa.Table) -> Any:
    """Build an ``INSERT`` that supports ``on_conflict_do_nothing`` and ``on_conflict_do_update``.

    SQLite and PostgreSQL have the same clauses, under two names in SQLAlchemy; `database` may be
    the name of a dialect.
    """
    dialect = database if isinstance(database, str) else database.dialect.name
    if dialect == "postgresql":
        return postgresql.insert(table)
    return sqlite.insert(table)


def write_problem(engine: sa.Engine, migrations: Path) -> str | None:
    """Write to the database, changing nothing; return why that cannot be done, in one line.

    It blocks. A full disk, a file that is gone and a server that only reads refuse it.
    """
    version = version_table(migrations)
    try:
        with engine.begin() as connection:
            connection.execute(sa.update(version).values(version_num=version.c.version_num))
    except UNAVAILABLE as exc:
        return unavailable_reason(exc)
    return None


def unavailable_reason(exc: Exception) -> str:
    """Return why the database cannot be used (`exc` is one of `UNAVAILABLE`), in one line."""
    if isinstance(exc, PoolTimeoutError):
        return f"all {POOL_SIZE + MAX_OVERFLOW} connections to it are in use"
    return one_line(getattr(exc, "orig", None) or exc)


def database_error(engine: sa.Engine, exc: SQLAlchemyError) -> DatabaseError:
    """Return `exc` as a `DatabaseError`: one line that names the database, without password."""
    shown = without_password(engine.url.render_as_string(hide_password=True))
    reason = one_line(getattr(exc, "orig", None) or exc)
    return DatabaseError(f"database {shown}: {reason}")


def with_password_of_environment(url: str) -> str:
    """Return a database URL with the password of ``PGPASSWORD``, taken out of the environment.

    What a service starts would inherit it. A URL that is not PostgreSQL's, or has a password, is
    returned as it is, and nothing is taken out.

    Raises
    ------
    ConfigurationError
        If it is no database URL.
    """
    parsed = _parse_url(url)
    if parsed.get_backend_name() != "postgresql" or "PGPASSWORD" not in os.environ:
        return url
    password = os.environ.pop("PGPASSWORD")
    if parsed.password is not None:
        return url
    return parsed.set(password=password).render_as_string(hide_password=False)


def _parse_url(url: str) -> sa.URL:
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError) as exc:  # such as a port that is no number
        raise ConfigurationError(
            f"--database-url {without_password(url)!r}: not a database URL ({ACCEPTED})"
        ) from exc
    if parsed.get_backend_name() == "postgresql":
        return parsed.set(drivername="postgresql+psycopg")
    if parsed.drivername != "sqlite" or not parsed.database or parsed.database == ":memory:":
        shown = parsed.render_as_string(hide_password=True)
        raise ConfigurationError(f"--database-url {shown}: not a database URL ({ACCEPTED})")
    path = Path(parsed.database)
    try:
        create_folder(path.parent, PRIVATE_FOLDER)
        create_private(path)  # its journals have its mode
    except OSError as exc:
        raise DatabaseError(f"database {parsed}: {exc.strerror}") from exc
    return parsed


def _migrate(engine: sa.Engine, migrations: Path) -> None:
    try:
        with reading(engine) as connection:
            if _is_current(connection, migrations):
                return
        with engine.begin() as connection:
            if engine.dialect.name == "postgresql":
                # Services that start together must migrate one after the other.
                connection.execute(sa.text("SELECT pg_advisory_xact_lock(2718281828)"))
            # One of them may be of a newer version.
            if not _is_current(connection, migrations):
                upgrade(connection, migrations)
    except SQLAlchemyError as exc:
        raise database_error(engine, exc) from exc


def _is_current(connection: sa.Connection, migrations: Path) -> bool:
    """Return whether a database has the latest schema; refuse one that has a newer one."""
    current, latest = current_version(connection, migrations), latest_version(migrations)
    if current is not None and current > latest:
        shown = without_password(connection.engine.url.render_as_string(hide_password=True))
        raise DatabaseError(
            f"database {shown}: its schema has version {current}, of a newer Batuta (accepted: up"
            f" to {latest})"
        )
    return current == latest


def _first(group: BaseExceptionGroup[Any]) -> Any:
    inner = group.exceptions[0]
    return _first(inner) if isinstance(inner, BaseExceptionGroup) else inner


def _on_error(context: sa.engine.ExceptionContext) -> OperationalError | None:
    """Turn what makes a database unavailable, under another type, into an `OperationalError`.

    A corrupted SQLite file is a plain `DatabaseError`; a PostgreSQL that only reads, after a switch
    to its standby, an `InternalError`. Neither is a defect of a statement.
    """
    original = context.original_exception
    read_only = getattr(original, "sqlstate", None) == _READ_ONLY_SQLSTATE
    if original is not None and (type(original) is sqlite3.DatabaseError or read_only):
        return OperationalError(context.statement, None, original)
    return None


_READ_ONLY_SQLSTATE: Final = "25006"


class _SqliteFile:
    """Notices that the file of a database was deleted or replaced while it is open.

    SQLite goes on in the deleted file, whose commits are lost with it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path.absolute()
        self._identity = self._current_identity()

    def watch(self, engine: sa.Engine) -> None:
        """Check it before each transaction, and before each connection, which would create it."""
        sa.event.listen(engine, "do_connect", self._check)
        sa.event.listen(engine, "begin", self._check, insert=True)

    def _check(self, *_: object) -> None:
        identity = self._current_identity()
        if identity != self._identity:
            done = "deleted" if identity is None else "replaced"
            reason = sqlite3.OperationalError(
                f"its file {self._path} was {done} while the service runs: nothing is recorded "
                "until it is back, or the service was restarted"
            )
            raise OperationalError(None, None, reason)

    def _current_identity(self) -> tuple[int, int] | None:
        try:
            found = self._path.stat()
        except OSError:
            return None
        return found.st_dev, found.st_ino


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
