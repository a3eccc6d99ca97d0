"""The connection to NATS: waited for, lost, found again, even empty."""

import asyncio
import logging
import subprocess
from collections.abc import Iterator
from pathlib import Path

import nats
import pytest

from batuta.messaging import (
    Bus,
    CloudEvent,
    DataAvailable,
    MessagingError,
    NatsConfig,
    connect,
    decode_data,
)
from batuta.messaging.server import server_program
from tests.support.servers import NatsServer, answers, free_port
from tests.support.waiting import eventually, eventually_sync


async def stored(server: NatsServer, stream: str = "DATA") -> int:
    """How many messages the server has in `stream`; 0 while it has no such stream."""
    client = await nats.connect(server.url)
    try:
        return int((await client.jetstream().stream_info(stream)).state.messages)
    except nats.js.errors.NotFoundError:
        return 0
    finally:
        await client.close()


async def test_what_is_published_is_stored_once_under_its_id(
    bus: Bus, own_nats: NatsServer
) -> None:
    news = DataAvailable(product="EVT", obs_id="sb1", version=1)
    await bus.publish_data(news, "sdb", event_id="EVT/sb1/1")
    await bus.publish_data(news, "sdb", event_id="EVT/sb1/1")
    assert await stored(own_nats) == 1
    message = await bus.jetstream.get_msg("DATA", 1)
    assert message.subject == "data.sdb"
    assert decode_data(message.data or b"") == news
    assert CloudEvent.model_validate_json(message.data or b"").id == "EVT/sb1/1"


async def test_streams_outlive_the_server(bus: Bus, own_nats: NatsServer) -> None:
    await bus.publish_data(DataAvailable(product="EVT", obs_id="sb1"), "vhf")
    own_nats.stop()
    own_nats.start()
    await eventually(lambda: publishes(bus))
    assert await stored(own_nats) == 2


async def test_streams_are_made_again_where_nats_comes_back_empty(
    bus: Bus, own_nats: NatsServer, tmp_path: Path
) -> None:
    told = asyncio.Event()

    async def back() -> None:
        told.set()

    bus.on_reconnected(back)
    await bus.publish_data(DataAvailable(product="EVT", obs_id="sb1"), "vhf")
    own_nats.stop()
    own_nats.folder = tmp_path / "another"
    own_nats.start()
    await eventually(lambda: publishes(bus))
    assert await stored(own_nats) == 1
    await asyncio.wait_for(told.wait(), 10)


async def test_a_callback_that_fails_as_nats_comes_back_is_called_again(
    bus: Bus, own_nats: NatsServer
) -> None:
    calls: list[int] = []

    async def fragile() -> None:
        calls.append(1)
        if len(calls) < 2:
            raise MessagingError("not yet")

    bus.on_reconnected(fragile)
    own_nats.stop()
    own_nats.start()

    async def called_twice() -> bool:
        return len(calls) == 2

    await eventually(called_twice)


async def test_publishing_while_nats_is_away_says_that_it_is_not_stored(
    bus: Bus, own_nats: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bus, "jetstream", bus.client.jetstream(timeout=0.2))
    own_nats.stop()
    with pytest.raises(MessagingError, match=rf"data.vhf: NATS at {own_nats.url} did not store"):
        await bus.publish_data(DataAvailable(product="EVT", obs_id="sb1"), "vhf")
    assert not bus.connected


async def test_an_event_too_large_is_refused_and_the_connection_stays(bus: Bus) -> None:
    huge = CloudEvent(id="1", source="/x", type="x", data="x" * bus.client.max_payload)
    with pytest.raises(MessagingError, match=r"data.vhf: \d+ bytes are more than NATS at .* takes"):
        await bus.publish("data.vhf", huge)
    assert await publishes(bus)


async def test_nats_is_waited_for_at_start(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server = NatsServer(tmp_path / "nats")
    waiting = asyncio.create_task(publish_one(NatsConfig(url=server.url, wait_s=20)))

    async def said() -> bool:
        return f"NATS at {server.url}" in caplog.text

    with caplog.at_level(logging.WARNING):
        await eventually(said)
        await asyncio.to_thread(server.start)
        await waiting
    assert await stored(server) == 1
    assert caplog.text.count("waiting for it up to 20 s") == 1
    server.stop()


async def test_nats_absent_at_start_is_given_up_after_the_time_named() -> None:
    url = f"nats://127.0.0.1:{free_port()}"
    expected = rf"NATS at {url} is not there after 0.4 s \(.*\): start it, or give its address"
    with pytest.raises(MessagingError, match=expected):
        await publish_one(NatsConfig(url=url, wait_s=0.4))


@pytest.mark.parametrize("url", ["nats://127.0.0.1:notaport", "nats://127.0.0.1:99999"])
async def test_what_is_no_address_is_said_so(url: str) -> None:
    with pytest.raises(MessagingError, match=f"NATS at {url}"):
        await publish_one(NatsConfig(url=url, wait_s=0.4))


@pytest.fixture
def plain_nats() -> Iterator[str]:
    """A server without JetStream."""
    port = free_port()
    command = [str(server_program()), "--addr", "127.0.0.1", "--port", str(port)]
    server = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    eventually_sync(lambda: answers(port))
    yield f"nats://127.0.0.1:{port}"
    server.kill()
    server.wait()


async def test_a_server_without_jetstream_is_told_apart(plain_nats: str) -> None:
    with pytest.raises(MessagingError, match=r"has no JetStream \(start it with -js\)"):
        await publish_one(NatsConfig(url=plain_nats, wait_s=10))


async def publishes(bus: Bus) -> bool:
    """Whether NATS takes a new event."""
    try:
        await bus.publish_data(DataAvailable(product="EVT", obs_id="sb2"), "vhf", "again")
    except MessagingError:
        return False
    return True


async def publish_one(config: NatsConfig) -> None:
    async with connect(config, "test") as opened:
        await opened.publish_data(DataAvailable(product="EVT", obs_id="sb1"), "vhf")


async def test_a_stream_of_ours_that_hears_something_else_is_named(own_nats: NatsServer) -> None:
    client = await nats.connect(own_nats.url)
    await client.jetstream().add_stream(name="DATA", subjects=["other.*"])
    await client.close()
    with pytest.raises(MessagingError, match=r"the stream DATA is there, but hears \['other"):
        async with connect(NatsConfig(url=own_nats.url), "test"):
            pytest.fail("it connected")


async def test_a_stream_that_overlaps_ours_is_told(own_nats: NatsServer) -> None:
    client = await nats.connect(own_nats.url)
    await client.jetstream().add_stream(name="MINE", subjects=["data.>"])
    await client.close()
    with pytest.raises(MessagingError, match=r"the stream DATA cannot be made: subjects overlap"):
        async with connect(NatsConfig(url=own_nats.url), "test"):
            pytest.fail("it connected")
