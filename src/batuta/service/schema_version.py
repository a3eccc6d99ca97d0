"""The version of a database's schema, and its upgrade by Alembic."""

import logging
from pathlib import Path
from typing import Final

import sqlalchemy as sa

ENVIRONMENT: Final = Path(__file__).parent / "migrations"
"""Alembic's entry, the same for all services."""


def version_table(migrations: Path) -> sa.TableClause:
    """Return the table of the schema's version; services may share a database, each has its own."""
    return sa.table(f"alembic_{migrations.parent.name}", sa.column("version_num"))


def latest_version(migrations: Path) -> str:
    """Return the version that the files in `migrations` lead to.

    Their names begin with it, in order: ``0007_stage.py``. Alembic would tell it too, but only
    after it has run each of them.
    """
    return max(path.stem.partition("_")[0] for path in migrations.glob("[0-9]*.py"))


def current_version(connection: sa.Connection, migrations: Path) -> str | None:
    """Return the version of the schema that a database has, or None if it has none."""
    table = version_table(migrations)
    if not sa.inspect(connection).has_table(table.name):
        return None
    return connection.scalar(sa.select(table.c.version_num))


def upgrade(connection: sa.Connection, migrations: Path) -> None:
    """Bring a database to the latest version, step by step, in the transaction of `connection`."""
    # A third of what the rest of a service imports, and needed only after an update of Batuta.
    from alembic import command  # noqa: PLC0415  see above
    from alembic.config import Config  # noqa: PLC0415  see above

    config = Config()
    config.set_main_option("script_location", _escaped(ENVIRONMENT))
    config.set_main_option("version_locations", _escaped(migrations))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    config.attributes["version_table"] = version_table(migrations).name
    # Alembic logs each migration step at INFO: noise in a service's log.
    logging.getLogger("alembic").setLevel(logging.WARNING)
    command.upgrade(config, "head")


def _escaped(path: Path) -> str:
    return str(path).replace("%", "%%")
