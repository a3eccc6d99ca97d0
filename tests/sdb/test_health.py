"""The sdb's health tells the truth: what it stands on fails, and it says so, and why."""

import asyncio
import contextlib
import logging
import shutil
import sqlite3
import uuid
from collections.abc import Callable, Iterator
from datetime import timedelta
from http import HTTPStatus
from pathlib import Path
from typing import Any, TypeVar

import httpx
import psycopg
import pytest
import sqlalchemy as sa
from sqlalchemy.engine import make_url
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from batuta.messaging import Bus, utc_now
from batuta.sdb import SdbClient
from batuta.sdb.outbox import MAX_AGE_S, Announcer
from batuta.sdb.service import open_sdb
from batuta.sdb.tables import MIGRATIONS, OUTBOX
from batuta.service.client import ServiceError
from batuta.service.committer import Committer
from batuta.service.database import DatabaseError, open_database
from tests.sdb.conftest import MakeSettings
from tests.sdb.test_imports import NAMED, post, stored_files
from tests.support.buckets import Bucket, open_bucket
from tests.support.databases import new_postgresql_database
from tests.support.disks import unwritable
from tests.support.interleaving import changed_after
from tests.support.services import serving
from tests.support.waiting import eventually, eventually_sync

T = TypeVar("T")


@pytest.fixture
def small_file_bytes() -> int:
    """All bytes are in the store."""
    return 0


@pytest.fixture(autouse=True)
def checked_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Health is checked again at once."""
    monkeypatch.setattr("batuta.service.health.INTERVAL_S", 0.1)


def problems(sdb: str) -> dict[str, str]:
    """What health says is wrong."""
    health = httpx.get(f"{sdb}/health").json()
    assert health["status"] == ("degraded" if health["problems"] else "ok")
    assert {name for name, well in health["checks"].items() if not well} == set(health["problems"])
    return dict(health["problems"])


def is_well(sdb: str) -> bool:
    return not problems(sdb)


def import_status(sdb: str, content: bytes | None = None) -> tuple[int, str | None, str]:
    """Import `content`, or bytes that were not imported before."""
    with httpx.Client(base_url=sdb, timeout=60) as http:
        answer = post(http, *NAMED, ("file", content or uuid.uuid4().bytes))
    return answer.status_code, answer.headers.get("retry-after"), answer.json().get("detail", "")


def test_a_healthy_sdb_says_so_of_all_that_it_stands_on(sdb_on_each: str) -> None:
    assert eventually_sync(lambda: is_well(sdb_on_each))
    checks = httpx.get(f"{sdb_on_each}/health").json()["checks"]
    assert checks == dict.fromkeys(("nats", "database", "store", "announcements"), True)


def delete(path: Path) -> None:
    path.unlink()


def replace(path: Path) -> None:
    shutil.copyfile(path, path.with_name("copy.db"))
    path.with_name("copy.db").replace(path)


@pytest.mark.parametrize(("change", "said"), [(delete, "was deleted"), (replace, "was replaced")])
def test_nothing_is_recorded_in_a_database_that_is_not_there_any_more(
    make_settings: MakeSettings, tmp_path: Path, change: Callable[[Path], None], said: str
) -> None:
    with serving(open_sdb, make_settings()) as sdb:
        assert import_status(sdb)[0] == 201
        change(tmp_path / "sdb.db")
        status, retry_after, detail = import_status(sdb)
        assert (status, retry_after) == (503, "2")
        assert f"{tmp_path / 'sdb.db'} {said} while the service runs" in detail
        assert eventually_sync(lambda: said in problems(sdb).get("database", ""))
        assert (tmp_path / "sdb.db").exists() == (change is replace)


def test_a_database_that_only_reads_is_unhealthy_and_imports_come_later(
    make_settings: MakeSettings, postgresql_server: str
) -> None:
    url = new_postgresql_database(postgresql_server)
    with serving(open_sdb, make_settings(database_url=url)) as sdb:
        assert import_status(sdb)[0] == 201
        run_sql(postgresql_server, only_reading(url, "on"), without_sessions(url))
        status, retry_after, detail = import_status(sdb)
        assert (status, retry_after) == (503, "2")
        assert "read-only transaction" in detail
        assert "INTO products" not in detail
        assert eventually_sync(lambda: "read-only" in problems(sdb).get("database", ""))
        run_sql(postgresql_server, only_reading(url, "off"), without_sessions(url))
        assert eventually_sync(lambda: import_status(sdb)[0] == 201)
        assert eventually_sync(lambda: is_well(sdb))


def only_reading(url: str, value: str) -> str:
    name = make_url(url).database
    return f"ALTER DATABASE {name} SET default_transaction_read_only = {value}"


def without_sessions(url: str) -> str:
    name = make_url(url).database
    return f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'"  # noqa: S608  a name of ours


def run_sql(server: str, *statements: str) -> None:
    with psycopg.connect(server, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement.encode())


def test_a_full_database_takes_no_import_and_still_reads(
    make_settings: MakeSettings, tmp_path: Path
) -> None:
    settings = make_settings()
    with serving(open_sdb, settings) as sdb:
        assert eventually_sync(lambda: is_well(sdb))
    engine = sa.create_engine(settings.database_url)
    with engine.connect() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
    engine.dispose()

    def limit(connection: Any, _record: Any) -> None:
        connection.execute(f"PRAGMA max_page_count = {pages}")

    sa.event.listen(sa.engine.Engine, "connect", limit)
    try:
        with serving(open_sdb, settings) as sdb:
            until_full(sdb)
            assert httpx.get(f"{sdb}/products").status_code == 200
    finally:
        sa.event.remove(sa.engine.Engine, "connect", limit)


def until_full(sdb: str) -> None:
    """Import until the database takes no more."""
    with httpx.Client(base_url=sdb) as http:
        for _ in range(1000):
            answer = post(
                http,
                *NAMED,
                ("metadata", f'{{"a": "{"x" * 10_000}"}}'),
                ("file", uuid.uuid4().bytes),
            )
            if answer.status_code == 503:
                assert "database or disk is full" in answer.json()["detail"]
                return
    raise AssertionError("it is never full")


@pytest.mark.parametrize("damage", ["not a database", "malformed"])
def test_a_corrupted_database_is_one_line_at_start(
    make_settings: MakeSettings, tmp_path: Path, damage: str
) -> None:
    settings, path = make_settings(), tmp_path / "sdb.db"
    with serving(open_sdb, settings) as sdb:
        assert import_status(sdb)[0] == 201
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # it would be restored from there
    content = path.read_bytes()
    path.write_bytes(b"x" * 10_000 if damage == "not a database" else content[:5000])
    with (
        pytest.raises(DatabaseError, match=rf"^database sqlite:.*sdb.db: .*{damage}$"),
        serving(open_sdb, settings),
    ):
        pass


def test_a_database_that_is_corrupted_meanwhile_is_unhealthy_and_stays_up(
    make_settings: MakeSettings, tmp_path: Path
) -> None:
    settings = make_settings()
    with serving(open_sdb, settings) as sdb:
        assert import_status(sdb)[0] == 201
    damage_table(tmp_path / "sdb.db", "outbox")
    with serving(open_sdb, settings) as sdb:
        status, retry_after, detail = import_status(sdb)
        assert (status, retry_after) == (503, "2")
        assert "malformed" in detail
        assert httpx.get(f"{sdb}/health").status_code == 200


def damage_table(path: Path, table: str) -> None:
    """Overwrite the first page of a table."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        (size,) = connection.execute("PRAGMA page_size").fetchone()
        query = "SELECT rootpage FROM sqlite_master WHERE name = ?"
        (page,) = connection.execute(query, [table]).fetchone()
    with path.open("r+b") as file:
        file.seek((page - 1) * size)
        file.write(b"\xff" * size)


async def test_announcements_that_wait_too_long_are_unhealthy(database_url: str, bus: Bus) -> None:
    with open_database(database_url, MIGRATIONS) as engine:
        async with Committer(engine) as committer:
            announcer = Announcer(engine, committer, bus)
            assert announcer.problem() is None
            for age_s in (MAX_AGE_S / 2, 10 * MAX_AGE_S):
                recorded = utc_now() - timedelta(seconds=age_s)
                row = {"event_id": f"A/o/1@{recorded.isoformat()}", "event": {}}
                with engine.begin() as connection:
                    connection.execute(sa.delete(OUTBOX))
                    connection.execute(sa.insert(OUTBOX), row)
                problem = announcer.problem()
                assert (problem is None) == (age_s < MAX_AGE_S)
            assert problem == "the oldest of 1 waits for 600 s"


class _WithoutDatabase(Committer):
    async def commit(self, write: Callable[[sa.Connection], T]) -> T:
        raise PoolTimeoutError(f"no connection for {write}")


async def test_announcements_that_nats_has_do_not_wait_though_they_cannot_be_deleted(
    database_url: str, bus: Bus
) -> None:
    recorded = utc_now() - timedelta(seconds=10 * MAX_AGE_S)
    event = {"product": "A", "obs_id": "o"}
    with open_database(database_url, MIGRATIONS) as engine:
        with engine.begin() as connection:
            row = {"event_id": f"A/o/1@{recorded.isoformat()}", "event": event}
            connection.execute(sa.insert(OUTBOX), row)
        announcer = Announcer(engine, _WithoutDatabase(engine), bus)
        announcing = asyncio.create_task(announcer.run())

        async def is_told() -> bool:
            return announcer.length() == 0

        await eventually(is_told)
        assert announcer.problem() is None
        announcing.cancel()


class _Delayed(Committer):
    """Commits nothing before it may."""

    def __init__(self, engine: sa.Engine) -> None:
        super().__init__(engine)
        self.may = asyncio.Event()

    async def commit(self, write: Callable[[sa.Connection], T]) -> T:
        await self.may.wait()
        return await super().commit(write)


@pytest.mark.parametrize("ask", ["problem", "length", "oldest_age_s"])
async def test_announcements_that_are_deleted_while_the_outbox_is_looked_at_do_not_wait(
    database_url: str, bus: Bus, ask: str
) -> None:
    recorded = utc_now() - timedelta(seconds=10 * MAX_AGE_S)
    row = {"event_id": f"A/o/1@{recorded.isoformat()}", "event": {"product": "A", "obs_id": "o"}}
    with open_database(database_url, MIGRATIONS) as engine:
        with engine.begin() as connection:
            connection.execute(sa.insert(OUTBOX), row)
        async with _Delayed(engine) as committer:
            announcer = Announcer(engine, committer, bus)
            announcing = asyncio.create_task(announcer.run())

            async def is_acknowledged() -> bool:
                return bool(announcer._acknowledged)

            await eventually(is_acknowledged)
            loop = asyncio.get_running_loop()

            def delete() -> None:
                loop.call_soon_threadsafe(committer.may.set)
                eventually_sync(lambda: not announcer._acknowledged)

            with changed_after(engine, 1 + (engine.dialect.name == "sqlite"), delete) as is_deleted:
                assert not await asyncio.to_thread(getattr(announcer, ask))
            assert is_deleted()
            announcing.cancel()


def test_a_store_that_cannot_be_written_is_unhealthy(
    make_settings: MakeSettings, store_folder: Path
) -> None:
    with serving(open_sdb, make_settings()) as sdb:
        with unwritable(store_folder / "incoming") as reason:
            assert import_status(sdb)[:2] == (503, "2")
            assert eventually_sync(lambda: reason in problems(sdb).get("store", ""))
        assert import_status(sdb)[0] == 201
        assert eventually_sync(lambda: is_well(sdb))


def test_a_store_that_was_deleted_is_unhealthy_until_it_is_back(
    make_settings: MakeSettings, store_folder: Path
) -> None:
    with serving(open_sdb, make_settings()) as sdb:
        assert import_status(sdb)[0] == 201
        away = store_folder.rename(store_folder.with_name("away"))
        assert import_status(sdb) == (503, "2", "store: No such file or directory")
        assert eventually_sync(lambda: str(store_folder) in problems(sdb).get("store", ""))
        away.rename(store_folder)
        assert import_status(sdb)[0] == 201
        assert eventually_sync(lambda: is_well(sdb))


def test_bytes_that_are_lost_are_told_apart_from_a_store_that_is_away(
    http: httpx.Client, store_folder: Path
) -> None:
    post(http, *NAMED, ("file", b"bytes"))
    for path in stored_files(store_folder):
        path.unlink()
    answer = http.get("/products/QPO_ECL/sb1/data")
    assert answer.status_code == 500
    assert answer.json()["detail"].endswith(": not found")


def test_an_empty_database_over_a_full_store_is_said_at_start(
    make_settings: MakeSettings, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = make_settings()
    with caplog.at_level(logging.WARNING):
        with serving(open_sdb, settings) as sdb:
            assert import_status(sdb)[0] == 201
        with serving(open_sdb, settings):
            pass
        assert not [line for line in caplog.messages if "is it the right database" in line]
        with serving(open_sdb, make_settings(database_url=f"sqlite:///{tmp_path}/other.db")):
            pass
    assert len([line for line in caplog.messages if "is it the right database" in line]) == 1


def test_an_sdb_starts_over_a_store_with_a_stray_file(
    make_settings: MakeSettings, store_folder: Path
) -> None:
    settings = make_settings()
    with serving(open_sdb, settings):
        pass
    (store_folder / "sha256" / ".DS_Store").touch()
    with serving(open_sdb, settings) as sdb:
        assert import_status(sdb)[0] == 201


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    """A bucket, of which the environment tells."""
    with open_bucket() as opened:
        for name, value in opened.environment.items():
            monkeypatch.setenv(name, value)
        yield opened


@pytest.fixture
def bucket_settings(bucket: Bucket, tmp_path: Path) -> dict[str, object]:
    """Settings of an sdb that keeps its bytes in `bucket`."""
    assert bucket is not None
    return {"store_url": "s3://b/p", "scratch_folder": tmp_path / "scratch"}


def test_a_bucket_keeps_what_is_imported(
    make_settings: MakeSettings, bucket: Bucket, bucket_settings: dict[str, object]
) -> None:
    with serving(open_sdb, make_settings(**bucket_settings)) as sdb:
        assert import_status(sdb, b"bytes")[0] == 201
        assert httpx.get(f"{sdb}/products/QPO_ECL/sb1/data").content == b"bytes"
        assert eventually_sync(lambda: is_well(sdb))
    assert list(bucket.objects.values()) == [b"bytes"]


def test_a_bucket_that_refuses_is_unhealthy_and_says_so_without_dumps(
    make_settings: MakeSettings,
    bucket: Bucket,
    bucket_settings: dict[str, object],
) -> None:
    bucket.failing = HTTPStatus.FORBIDDEN
    with serving(open_sdb, make_settings(**bucket_settings)) as sdb:
        assert eventually_sync(lambda: "403 Forbidden" in problems(sdb).get("store", ""))
        status, retry_after, detail = import_status(sdb)
        assert (status, retry_after) == (503, "2")
        assert "403 Forbidden (accepted: credentials that may" in detail
        assert "Debug" not in detail
        assert "<" not in detail
        bucket.failing = None
        assert import_status(sdb)[0] == 201
        assert eventually_sync(lambda: is_well(sdb))


def test_a_bucket_that_may_only_be_read_is_unhealthy_until_an_upload_succeeds(
    make_settings: MakeSettings, bucket: Bucket, bucket_settings: dict[str, object]
) -> None:
    bucket.read_only = True
    with serving(open_sdb, make_settings(**bucket_settings)) as sdb:
        assert import_status(sdb)[:2] == (503, "2")
        assert eventually_sync(lambda: "the last upload failed" in problems(sdb).get("store", ""))
        bucket.read_only = False
        assert import_status(sdb)[0] == 201
        assert eventually_sync(lambda: is_well(sdb))


def test_a_bucket_that_is_away_is_to_be_asked_later(
    make_settings: MakeSettings, bucket_settings: dict[str, object], bucket: Bucket
) -> None:
    with serving(open_sdb, make_settings(**bucket_settings)) as sdb:
        assert import_status(sdb)[0] == 201
        bucket.away = True
        assert import_status(sdb)[:2] == (503, "2")
        assert httpx.get(f"{sdb}/products/QPO_ECL/sb1/data", timeout=60).status_code == 503
        assert eventually_sync(lambda: "store" in problems(sdb))


def test_a_client_waits_for_a_store_that_is_away(
    make_settings: MakeSettings, store_folder: Path, make_file: Any
) -> None:
    with serving(open_sdb, make_settings()) as sdb, SdbClient(sdb, retry_for_s=0.2) as client:
        store_folder.rename(store_folder.with_name("away"))
        with pytest.raises(ServiceError, match=r"store: No such file or directory \(retried"):
            client.import_file(make_file(b"x"), "A", "o1", processing_id="p1")
