"""Databases: opened, migrated, refused clearly."""

import os
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import make_url

from batuta.errors import ConfigurationError
from batuta.service.database import (
    DatabaseError,
    insert,
    one_moment,
    open_database,
    reading,
    with_password_of_environment,
)
from tests.support.databases import new_postgresql_database

STEP = """
import sqlalchemy as sa
from alembic import op
revision = "{revision}"
down_revision = {down}
def upgrade():
    {upgrade}
"""
TABLE = 'op.create_table("things", sa.Column("name", sa.String(20), primary_key=True))'
COLUMN = 'op.add_column("things", sa.Column("size", sa.Integer))'

THINGS = sa.table("things", sa.column("name"), sa.column("size"))


@pytest.fixture
def migrations(tmp_path: Path) -> Path:
    folder = tmp_path / "thing" / "migrations"
    folder.mkdir(parents=True)
    add_step(folder, "0001", "None", TABLE)
    return folder


def add_step(folder: Path, revision: str, down: str, upgrade: str) -> None:
    text = STEP.format(revision=revision, down=down, upgrade=upgrade)
    (folder / f"{revision}.py").write_text(text)


def open_and_close(url: str, migrations: Path) -> None:
    with open_database(url, migrations):
        pass


def columns(engine: sa.Engine) -> list[str]:
    return [column["name"] for column in sa.inspect(engine).get_columns("things")]


def test_an_old_database_is_migrated_with_its_rows(database_url: str, migrations: Path) -> None:
    with open_database(database_url, migrations) as engine, engine.begin() as connection:
        connection.execute(sa.text("INSERT INTO things VALUES ('lute')"))
    add_step(migrations, "0002", '"0001"', COLUMN)
    with open_database(database_url, migrations) as engine:
        assert columns(engine) == ["name", "size"]
        with reading(engine) as connection:
            assert connection.execute(sa.text("SELECT name FROM things")).scalars().all() == [
                "lute"
            ]


def test_services_that_start_together_migrate_once(database_url: str, migrations: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from batuta.service.database import open_database\n"
        "with open_database(sys.argv[1], Path(sys.argv[2])): pass"
    )
    command = [sys.executable, "-c", program, database_url, str(migrations)]
    services = [subprocess.Popen(command) for _ in range(4)]
    assert [service.wait(60) for service in services] == [0] * 4
    with open_database(database_url, migrations) as engine:
        assert columns(engine) == ["name"]


def test_a_step_that_fails_changes_nothing(database_url: str, migrations: Path) -> None:
    with open_database(database_url, migrations):
        pass
    add_step(migrations, "0002", '"0001"', f"{COLUMN}; op.drop_table('missing')")
    with pytest.raises(DatabaseError, match="missing"):
        open_and_close(database_url, migrations)
    (migrations / "0002.py").unlink()
    with open_database(database_url, migrations) as engine:
        assert columns(engine) == ["name"]


def test_a_transaction_that_raises_leaves_nothing(database_url: str, migrations: Path) -> None:
    with open_database(database_url, migrations) as engine:
        with pytest.raises(sa.exc.IntegrityError), engine.begin() as connection:
            connection.execute(sa.text("INSERT INTO things VALUES ('lute'), ('lute')"))
        with reading(engine) as connection:
            assert connection.scalar(sa.text("SELECT count(*) FROM things")) == 0


def test_an_insertion_may_leave_existing_rows(database_url: str, migrations: Path) -> None:
    things = sa.Table("things", sa.MetaData(), sa.Column("name", sa.String, primary_key=True))
    with open_database(database_url, migrations) as engine:
        for _ in range(2):
            with engine.begin() as connection:
                once = insert(connection, things).values(name="lute").on_conflict_do_nothing()
                connection.execute(once)
        with reading(engine) as connection:
            assert connection.scalar(sa.text("SELECT count(*) FROM things")) == 1


COUNT = sa.select(sa.func.count()).select_from(THINGS)


def add(engine: sa.Engine, name: str) -> None:
    with engine.begin() as connection:
        connection.execute(sa.insert(THINGS).values(name=name))


def test_what_a_transaction_reads_is_of_the_moment_of_its_first_statement(
    database_url: str, migrations: Path
) -> None:
    with open_database(database_url, migrations) as engine:
        with reading(engine) as connection:
            add(engine, "lute")
            assert connection.scalar(COUNT) == 1
            add(engine, "harp")
            assert connection.scalar(COUNT) == 1
        with reading(engine) as connection:
            assert connection.scalar(COUNT) == 2


def test_what_several_parts_of_an_answer_read_is_of_one_moment(
    database_url: str, migrations: Path
) -> None:
    with open_database(database_url, migrations) as engine:
        with one_moment(engine):
            with reading(engine) as first:
                assert first.scalar(COUNT) == 0
            add(engine, "lute")
            with one_moment(engine), reading(engine) as second:
                assert second.scalar(COUNT) == 0
            with reading(engine) as third:
                assert third.scalar(COUNT) == 0
        with reading(engine) as later:
            assert later.scalar(COUNT) == 1


def test_an_answer_that_fails_ends_its_moment(database_url: str, migrations: Path) -> None:
    with open_database(database_url, migrations) as engine:
        with pytest.raises(ZeroDivisionError), one_moment(engine), reading(engine) as connection:
            raise ZeroDivisionError(connection.scalar(COUNT))
        add(engine, "lute")
        with reading(engine) as later:
            assert later.scalar(COUNT) == 1


def test_what_writes_sees_what_was_committed_while_it_waited_whatever_the_server_prefers(
    postgresql_server: str, migrations: Path
) -> None:
    url = new_postgresql_database(postgresql_server)
    prefers = f"ALTER DATABASE {make_url(url).database} SET default_transaction_isolation"
    with open_database(url, migrations) as engine, engine.begin() as connection:
        connection.exec_driver_sql(f"{prefers} = 'serializable'")
    with open_database(url, migrations) as engine:
        with reading(engine) as connection:
            assert connection.scalar(COUNT) == 0
        # On the connection that has just read, which saw one moment.
        with engine.begin() as writer:
            assert writer.scalar(COUNT) == 0
            add(engine, "lute")
            assert writer.scalar(COUNT) == 1


def test_all_threads_of_a_service_may_read_while_it_writes(
    database_url: str, migrations: Path
) -> None:
    threads = 40  # that starlette runs requests in
    with open_database(database_url, migrations) as engine, ExitStack() as readers:
        for _ in range(threads):
            readers.enter_context(reading(engine)).execute(sa.text("SELECT 1"))
        with engine.begin() as connection:
            connection.execute(sa.insert(THINGS).values(name="lute"))


def test_a_reader_does_not_wait_for_a_writer(database_url: str, migrations: Path) -> None:
    with open_database(database_url, migrations) as engine, engine.begin() as writing:
        writing.execute(sa.text("INSERT INTO things VALUES ('lute')"))
        with reading(engine) as connection:
            assert connection.scalar(sa.text("SELECT count(*) FROM things")) == 0


@pytest.mark.parametrize(
    "url", ["mysql://host/name", "sqlite://", "sqlite:///:memory:", "nothing", "oracle://u:pw@h/n"]
)
def test_what_is_no_database_url_is_refused_naming_what_is_accepted(
    url: str, migrations: Path
) -> None:
    with (
        pytest.raises(ConfigurationError, match="accepted: sqlite:///path") as caught,
        open_database(url, migrations),
    ):
        pass
    assert "pw" not in str(caught.value)


def test_an_unreachable_database_is_named_without_its_password(migrations: Path) -> None:
    url = "postgresql://someone:hush@127.0.0.1:1/nowhere"
    with (
        pytest.raises(DatabaseError, match=r"database postgresql.*127.0.0.1:1/nowhere") as caught,
        open_database(url, migrations),
    ):
        pass
    assert "hush" not in str(caught.value)


def test_a_file_that_is_no_database_is_named(tmp_path: Path, migrations: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("not a database, but long enough to be read as one" * 100)
    with (
        pytest.raises(DatabaseError, match=r"notes.txt: file is not a database"),
        open_database(f"sqlite:///{path}", migrations),
    ):
        pass


def test_only_its_owner_can_read_the_file_of_a_database(tmp_path: Path, migrations: Path) -> None:
    path = tmp_path / "new" / "service.db"
    with open_database(f"sqlite:///{path}", migrations) as engine:
        with engine.begin() as connection:
            connection.execute(sa.text("CREATE TABLE more (x INTEGER)"))
        modes = {each.name: each.stat().st_mode & 0o077 for each in path.parent.iterdir()}
    assert "service.db" in modes
    assert set(modes.values()) == {0}
    assert path.parent.stat().st_mode & 0o077 == 0


def test_the_password_of_the_environment_is_taken_out_of_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PGPASSWORD", "p@ss/word")
    file = f"sqlite:///{tmp_path}/a.db"
    assert with_password_of_environment(file) == file
    assert os.environ["PGPASSWORD"] == "p@ss/word"
    url = make_url(with_password_of_environment("postgresql://user@host/name"))
    assert (url.username, url.password, url.host) == ("user", "p@ss/word", "host")
    assert "PGPASSWORD" not in os.environ


def test_no_password_is_in_what_is_said_of_a_wrong_address() -> None:
    for url in ("mysql://user:secret@host/name", "postgresql://user:secret@host:port/name"):
        with pytest.raises(ConfigurationError) as refused:
            with_password_of_environment(url)
        assert "secret" not in str(refused.value)
