"""The version of a schema is told by the names of its migrations, as Alembic would tell it."""

from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.config import Config
from alembic.script import ScriptDirectory

from batuta.conductor.database.schema import MIGRATIONS as CONDUCTOR
from batuta.pipeline.schema import MIGRATIONS as PIPELINE
from batuta.sdb.tables import MIGRATIONS as SDB
from batuta.service.database import DatabaseError, open_database
from batuta.service.schema_version import ENVIRONMENT, latest_version, version_table


@pytest.mark.parametrize(
    "migrations", [CONDUCTOR, PIPELINE, SDB], ids=["conductor", "pipeline", "sdb"]
)
def test_the_latest_version_is_that_of_alembic(migrations: Path) -> None:
    config = Config()
    config.set_main_option("script_location", str(ENVIRONMENT))
    config.set_main_option("version_locations", str(migrations))
    config.set_main_option("path_separator", "os")
    assert ScriptDirectory.from_config(config).get_heads() == [latest_version(migrations)]


@pytest.mark.parametrize(
    "migrations", [CONDUCTOR, PIPELINE, SDB], ids=["conductor", "pipeline", "sdb"]
)
def test_a_database_of_a_newer_version_is_refused_in_one_line(
    database_url: str, migrations: Path
) -> None:
    with open_database(database_url, migrations) as engine, engine.begin() as connection:
        version = version_table(migrations)
        connection.execute(sa.update(version).values(version_num="9999"))
    words = r"its schema has version 9999, of a newer Batuta \(accepted: up to \d{4}\)$"
    with pytest.raises(DatabaseError, match=words), open_database(database_url, migrations):
        pass
