"""SQLite databases whose tables are there already."""

import functools
import shutil
import tempfile
from pathlib import Path


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
    from batuta.sdb.service import MIGRATIONS as SDB  # noqa: PLC0415
    from batuta.service.database import open_database  # noqa: PLC0415

    for migrations in (CONDUCTOR, PIPELINE, SDB):
        with open_database(url, migrations):
            pass
