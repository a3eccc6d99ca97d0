"""What the sdb stands on fails: the disk is full, the database goes away."""

import errno
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from sqlalchemy.engine import make_url

from batuta.sdb import SdbClient
from batuta.sdb.service import open_sdb
from batuta.sdb.store import Upload
from batuta.service.client import ServiceError
from tests.sdb.conftest import MakeSettings
from tests.sdb.test_imports import NAMED, post, stored_files
from tests.support.databases import new_postgresql_database
from tests.support.services import serving
from tests.support.waiting import eventually_sync


def test_a_full_disk_refuses_the_import_and_leaves_nothing(
    http: httpx.Client, store_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_self: Upload, _pieces: Iterable[bytes]) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(Upload, "write", full)
        answer = post(http, *NAMED, ("file", bytes(5_000_000)))
    assert answer.status_code == 507
    assert "No space left on device" in answer.json()["detail"]
    assert stored_files(store_folder) == []
    assert post(http, *NAMED, ("file", b"x")).json()["version"] == 1


def test_connections_that_the_database_dropped_are_made_again(
    make_settings: MakeSettings, postgresql_server: str, make_file: Any
) -> None:
    url = new_postgresql_database(postgresql_server)
    with serving(open_sdb, make_settings(database_url=url)) as sdb, SdbClient(sdb) as client:
        client.import_file(make_file(b"x"), "A", "o1")
        close_database(postgresql_server, url)
        run_sql(postgresql_server, opening(database_name(url)))
        assert client.import_file(make_file(b"y"), "A", "o1").version == 2


def test_a_lost_database_is_reported_and_the_service_goes_on(
    make_settings: MakeSettings, postgresql_server: str, make_file: Any
) -> None:
    url = new_postgresql_database(postgresql_server)
    name, away = database_name(url), f"{database_name(url)}_away"
    with serving(open_sdb, make_settings(database_url=url)) as sdb:
        with SdbClient(sdb, retry_for_s=0.3) as client:
            client.import_file(make_file(b"x"), "A", "o1")
            close_database(postgresql_server, url)
            run_sql(postgresql_server, f"ALTER DATABASE {name} RENAME TO {away}")
            with pytest.raises(ServiceError, match="database unavailable") as caught:
                client.import_file(make_file(b"x"), "A", "o1", processing_id="p1")
            assert caught.value.status == 503
            assert eventually_sync(lambda: not health(sdb)["checks"]["database"])
        run_sql(postgresql_server, f"ALTER DATABASE {away} RENAME TO {name}", opening(name))
        with SdbClient(sdb, retry_for_s=20) as client:
            stored = client.import_file(make_file(b"x"), "A", "o1", processing_id="p1")
        assert stored.version == 2
        eventually_sync(lambda: "batuta_sdb_outbox_length 0.0" in httpx.get(f"{sdb}/metrics").text)


def health(sdb: str) -> dict[str, Any]:
    return dict(httpx.get(f"{sdb}/health").json())


def database_name(url: str) -> str:
    return str(make_url(url).database)


def opening(name: str) -> str:
    """Let connections in again."""
    return f"ALTER DATABASE {name} ALLOW_CONNECTIONS true"


def close_database(server: str, url: str) -> None:
    """Close every connection to the database at `url`, and let none in."""
    name = database_name(url)
    run_sql(
        server,
        f"ALTER DATABASE {name} ALLOW_CONNECTIONS false",
        f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'",  # noqa: S608  a name of ours
    )
    eventually_sync(lambda: free_of_connections(server, name))


def free_of_connections(server: str, name: str) -> bool:
    with psycopg.connect(server) as connection:
        found = connection.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = %s", [name]
        ).fetchone()
    return found == (0,)


def run_sql(server: str, *statements: str) -> None:
    with psycopg.connect(server, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement.encode())
