"""Announcements: each import on ``data.sdb``, in order, whatever becomes of NATS or the sdb."""

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path

import httpx
import nats
import pytest
from nats.js.api import DeliverPolicy

from batuta.messaging import CloudEvent, DataAvailable
from batuta.sdb import SdbClient, StoredProduct
from batuta.sdb.service import open_sdb
from tests.sdb.conftest import MakeSettings
from tests.support.servers import NatsServer
from tests.support.services import ServiceProcess, serving
from tests.support.waiting import eventually

MakeFile = Callable[[bytes], Path]


@pytest.fixture
def nats_of_sdb(own_nats: NatsServer) -> NatsServer:
    """What a test announces is all that there is."""
    return own_nats


async def announced(server: NatsServer, at_least: int) -> list[CloudEvent]:
    """All the events on ``data.sdb`` once there are so many; the stream has no others."""
    client = await nats.connect(server.url)
    try:
        stream = client.jetstream()

        async def enough() -> bool:
            return (await stream.stream_info("DATA")).state.messages >= at_least

        await eventually(enough)
        count = (await stream.stream_info("DATA")).state.messages
        subscription = await stream.subscribe(
            "data.sdb", ordered_consumer=True, deliver_policy=DeliverPolicy.ALL
        )
        found = [await subscription.next_msg(5) for _ in range(count)]
        return [CloudEvent.model_validate_json(message.data) for message in found]
    finally:
        await client.close()


def waiting(url: str) -> float:
    """The length of the outbox, as operators see it."""
    lines = httpx.get(f"{url}/metrics").text.splitlines()
    return next(float(s.split()[-1]) for s in lines if s.startswith("batuta_sdb_outbox_length "))


def says(stored: StoredProduct) -> DataAvailable:
    """What the announcement of `stored` must say."""
    return DataAvailable.model_validate(stored.model_dump())


async def test_an_import_is_announced_with_all_that_names_it(
    sdb_on_each: str, own_nats: NatsServer, make_file: MakeFile
) -> None:
    with SdbClient(sdb_on_each) as client:
        stored = client.import_file(
            make_file(b"x"), "LC", "sb1", processing_id="p1", provider="lc_pipeline"
        )
    (event,) = await announced(own_nats, 1)
    assert DataAvailable.model_validate(event.data) == says(stored)
    assert (event.type, event.source) == ("batuta.data.available", "/batuta/sdb")


async def test_what_a_processing_imports_again_is_not_announced_again(
    client: SdbClient, own_nats: NatsServer, make_file: MakeFile
) -> None:
    for _ in range(3):
        client.import_file(make_file(b"x"), "LC", "sb1", processing_id="p1")
    last = client.import_file(make_file(b"x"), "LC", "sb2")
    events = await announced(own_nats, 2)
    assert [event.data["obs_id"] for event in events] == ["sb1", "sb2"]
    assert DataAvailable.model_validate(events[-1].data) == says(last)


async def test_imports_go_on_while_nats_is_away_and_are_announced_in_order_when_it_is_back(
    sdb_on_each: str, own_nats: NatsServer, make_file: MakeFile
) -> None:
    with SdbClient(sdb_on_each) as client:
        stored = [client.import_file(make_file(b"0"), "LC", "sb0")]
        await announced(own_nats, 1)
        own_nats.stop()
        stored += [
            client.import_file(make_file(b"%d" % n), "LC", f"sb{n % 7}") for n in range(1, 20)
        ]
        assert waiting(sdb_on_each) == 19
        own_nats.start()
        events = await announced(own_nats, 20)
    assert [DataAvailable.model_validate(event.data) for event in events] == [
        says(product) for product in stored
    ]


async def test_an_sdb_that_starts_announces_what_one_that_died_could_not(
    make_settings: MakeSettings, database_url: str, own_nats: NatsServer, make_file: MakeFile
) -> None:
    settings = make_settings(database_url=database_url)
    service = ServiceProcess("batuta.sdb:run", settings)
    with SdbClient(service.start()) as client:
        own_nats.stop()
        stored = client.import_file(make_file(b"x"), "LC", "sb1")
    service.kill()
    own_nats.start()
    with serving(open_sdb, settings) as url:
        (event,) = await announced(own_nats, 1)
        assert event.data["sha256"] == stored.sha256

        async def emptied() -> bool:
            return waiting(url) == 0

        await eventually(emptied)


@pytest.mark.parametrize("public_url", [None, "https://sdb.example.org/base/"])
async def test_the_announced_address_is_the_one_that_others_reach(
    make_settings: MakeSettings,
    own_nats: NatsServer,
    make_file: MakeFile,
    public_url: str | None,
) -> None:
    with serving(open_sdb, make_settings(public_url=public_url)) as url, SdbClient(url) as client:
        client.import_file(make_file(b"x"), "LC", "sb1")
        (event,) = await announced(own_nats, 1)
    base = (public_url or url).rstrip("/")
    assert event.data["uri"] == f"{base}/products/LC/sb1/versions/1/data"


async def test_a_row_that_is_no_event_is_put_aside_and_the_others_are_announced(
    tmp_path: Path, own_nats: NatsServer, make_settings: MakeSettings, make_file: MakeFile
) -> None:
    settings = make_settings()
    row = {"event_id": "A/o/1@2026-01-01T00:00:00+00:00", "event": {"product": "../A"}}
    with serving(open_sdb, settings) as url, SdbClient(url) as client:
        with closing(sqlite3.connect(tmp_path / "sdb.db")) as database, database:
            database.execute(
                "INSERT INTO outbox (event_id, event) VALUES (?, ?)",
                (row["event_id"], json.dumps(row["event"])),
            )
        stored = client.import_file(make_file(b"x"), "LC", "sb1")
        (event,) = await announced(own_nats, 1)
        assert DataAvailable.model_validate(event.data) == says(stored)

        async def is_empty() -> bool:
            return waiting(url) == 0

        await eventually(is_empty)
    connection = await nats.connect(own_nats.url)
    letter = await connection.jetstream().get_last_msg("DEAD", "dead.data")
    await connection.close()
    assert json.loads(letter.data or b"") == {"product": "../A"}


@pytest.mark.parametrize(
    "event", ["[1]", "null", '{"product": ["A"]}', '{"product": "A', "[" * 200_000, b"\xff\xfe"]
)
async def test_a_row_of_any_content_is_put_aside_and_the_others_are_announced(
    tmp_path: Path,
    own_nats: NatsServer,
    make_settings: MakeSettings,
    make_file: MakeFile,
    event: str | bytes,
) -> None:
    with serving(open_sdb, make_settings()) as url, SdbClient(url) as client:
        with closing(sqlite3.connect(tmp_path / "sdb.db")) as database, database:
            # What is no UTF-8, as text too: the bytes of a row that were damaged.
            database.execute(
                "INSERT INTO outbox (event_id, event) VALUES (?, CAST(? AS TEXT))",
                ("A/o/1@2026-01-01T00:00:00+00:00", event),
            )
        stored = client.import_file(make_file(b"x"), "LC", "sb1")
        (announcement,) = await announced(own_nats, 1)
        assert DataAvailable.model_validate(announcement.data) == says(stored)
        await eventually(partial(_nothing_waits, tmp_path / "sdb.db"), 30)


async def test_each_row_that_is_no_event_is_put_aside_though_it_has_the_number_of_another(
    tmp_path: Path, own_nats: NatsServer, make_settings: MakeSettings
) -> None:
    with serving(open_sdb, make_settings()) as url:
        for number in range(2):
            with closing(sqlite3.connect(tmp_path / "sdb.db")) as database, database:
                database.execute(
                    "INSERT INTO outbox (id, event_id, event) VALUES (1, ?, ?)",
                    (f"A/o/{number}@2026-01-01T00:00:00+00:00", f'{{"product": "../{number}"}}'),
                )
            await eventually(partial(_nothing_waits, tmp_path / "sdb.db"), 30)
        assert waiting(url) == 0
    connection = await nats.connect(own_nats.url)
    dead = await connection.jetstream().stream_info("DEAD")
    await connection.close()
    assert dead.state.messages == 2


async def _nothing_waits(path: Path) -> bool:
    with closing(sqlite3.connect(path)) as database:
        return not database.execute("SELECT id FROM outbox").fetchall()
