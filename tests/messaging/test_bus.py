"""The connection to NATS: waiting, reconnecting, and restoring streams that were lost."""

import asyncio
import contextlib
import json
import logging
import resource
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
    utc_now,
)
from batuta.messaging import bus as bus_module
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
    available = DataAvailable(product="EVT", obs_id="sb1", version=1)
    await bus.publish_data(available, "sdb", event_id="EVT/sb1/1")
    await bus.publish_data(available, "sdb", event_id="EVT/sb1/1")
    assert await stored(own_nats) == 1
    message = await bus.jetstream.get_msg("DATA", 1)
    assert message.subject == "data.sdb"
    assert decode_data(message.data or b"") == available
    assert CloudEvent.model_validate_json(message.data or b"").id == "EVT/sb1/1"


async def test_streams_survive_a_restart_of_the_server(bus: Bus, own_nats: NatsServer) -> None:
    await bus.publish_data(DataAvailable(product="EVT", obs_id="sb1"), "vhf")
    own_nats.stop()
    own_nats.start()
    await eventually(lambda: publishes(bus))
    assert await stored(own_nats) == 2


async def test_streams_are_created_again_if_nats_restarts_empty(
    bus: Bus, own_nats: NatsServer, tmp_path: Path
) -> None:
    reconnected = asyncio.Event()

    async def on_reconnected() -> None:
        reconnected.set()

    bus.on_reconnected(on_reconnected)
    await bus.publish_data(DataAvailable(product="EVT", obs_id="sb1"), "vhf")
    own_nats.stop()
    own_nats.folder = tmp_path / "another"
    own_nats.start()
    await eventually(lambda: publishes(bus))
    assert await stored(own_nats) == 1
    await asyncio.wait_for(reconnected.wait(), 10)


async def test_streams_that_are_deleted_while_connected_are_created_again(
    own_nats: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bus_module, "CHECK_INTERVAL_S", 0.05)
    restored = 0

    async def count() -> None:
        nonlocal restored
        restored += 1

    async with connect(NatsConfig(url=own_nats.url), "test") as bus:
        bus.on_reconnected(count)
        await bus.jetstream.delete_stream("DATA")

        async def created() -> bool:
            streams = await bus.jetstream.streams_info()
            return {"DATA", "ACTIVITY", "DEAD"} <= {each.config.name for each in streams}

        await eventually(created)
        await bus.publish_data(DataAvailable(product="A", obs_id="o1"), "vhf")
        assert bus.health is True

        async def told() -> bool:
            return restored > 0

        await eventually(told)


async def test_health_says_that_jetstream_does_not_answer(
    own_nats: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bus_module, "CHECK_INTERVAL_S", 0.05)
    async with connect(NatsConfig(url=own_nats.url), "test") as bus:
        assert bus.health is True

        async def unavailable() -> None:
            raise MessagingError("no space left on the disk")

        bus.on_reconnected(unavailable)

        async def told() -> bool:
            return bus.health == "JetStream: no space left on the disk"

        await eventually(told)


async def test_health_says_that_messages_are_not_stored_though_all_else_answers(
    own_nats: NatsServer,
) -> None:
    """As on a full disk: what the server may write to a file is limited."""
    news = DataAvailable(product="A", obs_id="o1")
    async with connect(NatsConfig(url=own_nats.url), "test") as bus:
        await bus.publish_data(news, "vhf")
        with no_more_written(own_nats):
            with pytest.raises(MessagingError, match="did not store the message"):
                await bus.publish_data(news, "vhf")
            assert "the last message on data.vhf was not stored" in str(bus.health)
        # The stream stores nothing more, although it could be written to again.
        own_nats.stop()
        own_nats.start()

        async def stored() -> bool:
            with contextlib.suppress(MessagingError):
                await bus.publish_data(news, "vhf")
            return bus.health is True

        await eventually(stored)


@contextlib.contextmanager
def no_more_written(server: NatsServer) -> Iterator[None]:
    """Make every write of a server to its files fail."""
    limits = resource.prlimit(server.process_id, resource.RLIMIT_FSIZE)
    resource.prlimit(server.process_id, resource.RLIMIT_FSIZE, (0, limits[1]))
    yield
    resource.prlimit(server.process_id, resource.RLIMIT_FSIZE, limits)


async def test_every_stream_is_bounded_also_one_that_was_created_without_bounds(
    own_nats: NatsServer,
) -> None:
    client = await nats.connect(own_nats.url)
    jetstream = client.jetstream()
    await jetstream.add_stream(name="ACTIVITY", subjects=["activity.*"])
    await jetstream.add_stream(name="DEAD", subjects=["dead.*"], max_msgs=7)
    async with connect(NatsConfig(url=own_nats.url), "test"):
        bounds = {
            each.config.name: (each.config.max_bytes, each.config.max_msgs)
            for each in await jetstream.streams_info()
        }
    await client.close()
    assert bounds == {
        "DATA": (-1, 20_000_000),
        "ACTIVITY": (512 * 2**20, -1),
        "DEAD": (-1, 7),  # bounded by others
    }


async def test_a_callback_that_fails_after_a_reconnection_is_called_again(
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


async def test_publishing_without_a_connection_raises(
    bus: Bus, own_nats: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bus, "jetstream", bus.client.jetstream(timeout=0.2))
    own_nats.stop()
    with pytest.raises(MessagingError, match=rf"data.vhf: NATS at {own_nats.url} did not store"):
        await bus.publish_data(DataAvailable(product="EVT", obs_id="sb1"), "vhf")
    assert not bus.connected


async def test_an_event_too_large_is_refused_and_the_connection_is_kept(bus: Bus) -> None:
    data = {"x": "x" * bus.client.max_payload}
    huge = CloudEvent(id="1", source="/x", type="x", time=utc_now(), data=data)
    with pytest.raises(MessagingError, match=r"data.vhf: a message of \d+ bytes is too large"):
        await bus.publish("data.vhf", huge)
    assert await publishes(bus)


async def test_nats_is_waited_for_at_start(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server = NatsServer(tmp_path / "nats")
    waiting = asyncio.create_task(publish_one(NatsConfig(url=server.url, wait_s=20)))

    async def logged() -> bool:
        return f"NATS at {server.url}" in caplog.text

    with caplog.at_level(logging.WARNING):
        await eventually(logged)
        await asyncio.to_thread(server.start)
        await waiting
    assert await stored(server) == 1
    assert caplog.text.count("waiting for it up to 20 s") == 1
    server.stop()


async def test_connecting_fails_after_the_configured_time() -> None:
    url = f"nats://127.0.0.1:{free_port()}"
    expected = rf"could not connect to NATS at {url} within 0.4 s \(.*\): start it, or give"
    with pytest.raises(MessagingError, match=expected):
        await publish_one(NatsConfig(url=url, wait_s=0.4))


@pytest.mark.parametrize("url", ["nats://127.0.0.1:notaport", "nats://127.0.0.1:99999"])
async def test_an_invalid_address_is_refused(url: str) -> None:
    with pytest.raises(MessagingError, match=f"NATS at {url}"):
        await publish_one(NatsConfig(url=url, wait_s=0.4))


@pytest.fixture
def plain_nats() -> Iterator[str]:
    """A server without JetStream."""
    yield from running_nats()


@pytest.fixture
def small_nats(tmp_path: Path) -> Iterator[str]:
    """A server whose JetStream has less space than the streams may take."""
    config = tmp_path / "nats.conf"
    config.write_text(f'jetstream {{store_dir: "{tmp_path}", max_file_store: 1MB}}')
    yield from running_nats("--config", str(config))


def running_nats(*options: str) -> Iterator[str]:
    port = free_port()
    command = [str(server_program()), "--addr", "127.0.0.1", "--port", str(port), *options]
    server = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    eventually_sync(lambda: answers(port))
    yield f"nats://127.0.0.1:{port}"
    server.kill()
    server.wait()


async def test_a_server_without_jetstream_is_refused(plain_nats: str) -> None:
    with pytest.raises(MessagingError, match=r"has no JetStream \(start it with -js\)"):
        await publish_one(NatsConfig(url=plain_nats, wait_s=10))


@pytest.fixture
def guarded_nats() -> Iterator[str]:
    """A server that asks for a token."""
    yield from running_nats("--auth", "the-token-of-an-orchestra")


@pytest.mark.parametrize("token", [None, "batuta_of-somebody"])
async def test_a_server_that_refuses_a_token_is_told_from_one_that_is_not_there(
    guarded_nats: str, token: str | None
) -> None:
    with pytest.raises(MessagingError, match=r"'Authorization Violation'.*BATUTA_NATS_TOKEN"):
        await publish_one(NatsConfig(url=guarded_nats, token=token, wait_s=1))


async def test_a_connection_that_is_reset_after_a_refusal_does_not_hide_it() -> None:
    info = {"server_id": "S", "version": "2.12.0", "max_payload": 2**20, "auth_required": True}
    calls = 0

    async def refuse_once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal calls
        calls += 1
        if calls == 1:
            writer.write(f"INFO {json.dumps(info)}\r\n".encode())
            await reader.readline()
            writer.write(b"-ERR 'Authorization Violation'\r\n")
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(refuse_once, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server:
        with pytest.raises(MessagingError, match=r"'Authorization Violation'.*BATUTA_NATS_TOKEN"):
            await publish_one(NatsConfig(url=f"nats://127.0.0.1:{port}", token="t" * 20, wait_s=1))
    assert calls > 1


async def test_a_server_with_too_little_space_is_told_from_one_without_jetstream(
    small_nats: str,
) -> None:
    with pytest.raises(MessagingError, match="its streams cannot be opened: insufficient storage"):
        await publish_one(NatsConfig(url=small_nats, wait_s=10))


async def publishes(bus: Bus) -> bool:
    """Whether an event can be published now."""
    try:
        await bus.publish_data(DataAvailable(product="EVT", obs_id="sb2"), "vhf", "again")
    except MessagingError:
        return False
    return True


async def publish_one(config: NatsConfig) -> None:
    async with connect(config, "test") as opened:
        await opened.publish_data(DataAvailable(product="EVT", obs_id="sb1"), "vhf")


async def test_a_stream_with_other_subjects_is_refused(own_nats: NatsServer) -> None:
    client = await nats.connect(own_nats.url)
    await client.jetstream().add_stream(name="DATA", subjects=["other.*"])
    await client.close()
    with pytest.raises(MessagingError, match=r"the stream DATA exists with the subjects \['other"):
        async with connect(NatsConfig(url=own_nats.url), "test"):
            pytest.fail("it connected")


async def test_an_overlapping_stream_is_refused(own_nats: NatsServer) -> None:
    client = await nats.connect(own_nats.url)
    await client.jetstream().add_stream(name="MINE", subjects=["data.>"])
    await client.close()
    with pytest.raises(MessagingError, match=r"cannot create the stream DATA: subjects overlap"):
        async with connect(NatsConfig(url=own_nats.url), "test"):
            pytest.fail("it connected")
