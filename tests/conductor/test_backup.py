"""Backups of a conductor's records: on each database, and restored on each."""

from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from batuta.conductor.backup import back_up_records, fetched_records
from batuta.conductor.database.schema import MIGRATIONS, metadata
from batuta.errors import ConfigurationError
from batuta.service.database import open_database, reading
from tests.conductor.test_upgrades import fill
from tests.support.databases import migrated_sqlite, new_postgresql_database


def rows_of(database_url: str) -> dict[str, list[Any]]:
    """All rows of all tables; what is counted in parts is added up."""
    with open_database(database_url, MIGRATIONS) as engine, reading(engine) as connection:
        return {
            name: sorted(map(repr, connection.execute(query_of(table)).mappings()))
            for name, table in metadata.tables.items()
        }


def query_of(table: sa.Table) -> sa.Select[Any]:
    if table.name != "conductor_counts":
        return sa.select(table)
    counted = [each for each in table.c if each.name not in {"part", "number"}]
    number = sa.cast(sa.func.sum(table.c.number), sa.Integer).label("number")
    return sa.select(*counted, number).group_by(*counted).having(number > 0)


@pytest.fixture(params=["sqlite", "postgresql"])
def restored_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The database of the new conductor, with no records."""
    if request.param == "sqlite":
        return migrated_sqlite(tmp_path / "restored.db")
    server = request.getfixturevalue("postgresql_server")
    return new_postgresql_database(server, request.getfixturevalue("_migrated_database"))


def test_all_records_are_restored_on_any_database_and_none_over_others(
    database_url: str, restored_url: str, tmp_path: Path
) -> None:
    with open_database(database_url, MIGRATIONS) as engine:
        fill(engine)
    before = rows_of(database_url)
    assert sum(map(len, before.values())) > 20
    backup = str(tmp_path / "backup")
    taken = back_up_records(database_url, backup)
    with fetched_records(backup) as fetched:
        assert fetched.snapshot == taken
        fetched.restore(restored_url)
        assert rows_of(restored_url) == before
        with pytest.raises(ConfigurationError, match="it has records"):
            fetched.restore(restored_url)


def test_the_numbers_of_new_records_follow_those_that_were_restored(
    database_url: str, restored_url: str, tmp_path: Path
) -> None:
    holds = metadata.tables["conductor_holds"]
    with open_database(database_url, MIGRATIONS) as engine:
        fill(engine)
    back_up_records(database_url, str(tmp_path / "backup"))
    with fetched_records(str(tmp_path / "backup")) as fetched:
        fetched.restore(restored_url)
    with open_database(restored_url, MIGRATIONS) as engine, engine.begin() as connection:
        last = connection.scalar(sa.select(sa.func.max(holds.c.number)))
        assert last is not None
        row = dict(connection.execute(sa.select(holds)).mappings().one())
        del row["number"]
        inserted = connection.execute(sa.insert(holds).values(row)).inserted_primary_key
        assert inserted is not None
        assert inserted[0] == last + 1
