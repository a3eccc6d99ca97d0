"""The version of a schema is told by the names of its migrations, as Alembic would tell it."""

from pathlib import Path

import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory

from batuta.conductor.database.schema import MIGRATIONS as CONDUCTOR
from batuta.pipeline.schema import MIGRATIONS as PIPELINE
from batuta.sdb.tables import MIGRATIONS as SDB
from batuta.service.schema_version import ENVIRONMENT, latest_version


@pytest.mark.parametrize(
    "migrations", [CONDUCTOR, PIPELINE, SDB], ids=["conductor", "pipeline", "sdb"]
)
def test_the_latest_version_is_that_of_alembic(migrations: Path) -> None:
    config = Config()
    config.set_main_option("script_location", str(ENVIRONMENT))
    config.set_main_option("version_locations", str(migrations))
    config.set_main_option("path_separator", "os")
    assert ScriptDirectory.from_config(config).get_heads() == [latest_version(migrations)]
