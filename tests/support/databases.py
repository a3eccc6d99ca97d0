"""Databases for tests, whose tables are there already."""

import functools
import shutil
import tempfile
import uuid
from pathlib import Path

import psycopg
from sqlalchemy.engine import make_url


def migrated_sqlite(path: Path) -> str:
    """Return the URL of an SQLite database at `path`, with the newest tables of every service.

    A new one is a copy of one that was migrated once: each service of each test would otherwise go
    through the whole history of its schema.
    """
    if not path.exists():
        shutil.copy(migrated_file(), path)
    return f"sqlite:///{path}"


@functools.cache
def migrated_file() -> Path:
    """Return a database with the tables of every service and no rows; do not open it."""
    path = Path(_folder().name) / "migrated.db"
    migrate_all(f"sqlite:///{path}")
    return path


@functools.cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    """Return a folder of this process; made when imported, it would be that of all forks of it."""
    return tempfile.TemporaryDirectory(prefix="batuta-tests-databases-")


def migrate_all(url: str) -> None:
    """Make the tables of every service in the database at `url`."""
    # Where it is asked for: most processes of tests need none of them.
    from batuta.conductor.database.schema import MIGRATIONS as CONDUCTOR  # noqa: PLC0415
    from batuta.pipeline.schema import MIGRATIONS as PIPELINE  # noqa: PLC0415
    from batuta.sdb.tables import MIGRATIONS as SDB  # noqa: PLC0415
    from batuta.service.database import open_database  # noqa: PLC0415

    for migrations in (CONDUCTOR, PIPELINE, SDB):
        with open_database(url, migrations):
            pass


def new_postgresql_database(server: str, template: str = "template1") -> str:
    """Create a database of its own in the server at `server`, a copy of `template`.

    Returns
    -------
    str
        Its address.
    """
    name = f"test_{uuid.uuid4().hex}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
    return make_url(server).set(database=name).render_as_string(hide_password=False)


def copy_of_database(url: str) -> str:
    """Copy a database that nobody uses, of either kind; return the address of the copy."""
    parsed = make_url(url)
    assert parsed.database is not None
    if parsed.get_backend_name() == "postgresql":
        server = parsed.set(database="postgres").render_as_string(hide_password=False)
        return new_postgresql_database(server, parsed.database)
    path = Path(parsed.database)
    copy = path.with_name(f"{path.stem}-{uuid.uuid4().hex}{path.suffix}")
    shutil.copy(path, copy)
    return f"sqlite:///{copy}"
