"""Durable consumers on a real NATS: acknowledgement, redelivery, dead letters."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from batuta.messaging import (
    Bus,
    Consumer,
    ConsumerSpec,
    DataAvailable,
    DataEvent,
    Delivery,
    MessagingError,
    NatsConfig,
    Rejection,
    connect,
    decode_data,
)
from batuta.messaging.subjects import ORIGIN_HEADER, REASON_HEADER, SIZE_HEADER
from tests.support.servers import NatsServer
from tests.support.waiting import eventually

Batch = Sequence[Delivery[DataEvent]]
Rejections = Sequence[Rejection[DataEvent]]


def spec(name: str = "", ack_wait_s: float = 30.0) -> ConsumerSpec[DataEvent]:
    return ConsumerSpec(
        stream="DATA",
        subject="data.*",
        durable=name or uuid.uuid4().hex,
        decode=decode_data,
        ack_wait_s=ack_wait_s,
    )


class Received:
    """A handler that records what it receives."""

    def __init__(self) -> None:
        self.obs_ids: list[str] = []
        self.largest_batch = 0

    async def __call__(self, batch: Batch) -> Rejections:
        self.largest_batch = max(self.largest_batch, len(batch))
        self.obs_ids += [delivery.event.obs_id for delivery in batch]
        return []

    async def until(self, *obs_ids: str) -> None:
        async def all_received() -> bool:
            return set(obs_ids) <= set(self.obs_ids)

        await eventually(all_received)


@asynccontextmanager
async def consuming(
    consumer: Consumer[DataEvent], handle: Callable[[Batch], Awaitable[Rejections]]
) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(consumer.run(handle))
    try:
        yield task
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def announce(bus: Bus, obs_id: str) -> None:
    """Publish until NATS has stored the message, as callers of the bus do."""

    async def published() -> bool:
        try:
            await bus.publish_data(DataAvailable(product="EVT", obs_id=obs_id), "vhf", obs_id)
        except MessagingError:
            return False
        return True

    await eventually(published)


async def unacknowledged(bus: Bus, durable: str) -> int:
    info = await bus.jetstream.consumer_info("DATA", durable)
    return (info.num_ack_pending or 0) + (info.num_pending or 0)


async def all_acknowledged(bus: Bus, durable: str) -> None:
    async def none_left() -> bool:
        return await unacknowledged(bus, durable) == 0

    await eventually(none_left)


async def test_messages_published_before_are_received_in_order(bus: Bus) -> None:
    expected = [f"sb{number}" for number in range(300)]
    for obs_id in expected:
        await announce(bus, obs_id)
    received = Received()
    wanted = spec()
    async with consuming(Consumer(bus, wanted), received):
        await received.until(expected[-1])
        await all_acknowledged(bus, wanted.durable)
    assert received.obs_ids == expected
    assert received.largest_batch > 1


async def test_a_new_consumer_may_receive_only_later_messages(bus: Bus) -> None:
    await announce(bus, "before")
    wanted = ConsumerSpec(
        stream="DATA", subject="data.*", durable="new", decode=decode_data, from_start=False
    )
    received = Received()
    async with consuming(Consumer(bus, wanted), received):
        await eventually(lambda: exists(bus, "new"))
        await announce(bus, "after")
        await received.until("after")
    assert received.obs_ids == ["after"]


async def exists(bus: Bus, durable: str) -> bool:
    infos = await bus.jetstream.consumers_info("DATA")
    return durable in [info.name for info in infos]


async def test_a_bare_message_published_by_hand_is_accepted(bus: Bus) -> None:
    received = Received()
    async with consuming(Consumer(bus, spec()), received):
        await bus.client.publish("data.vhf", b'{"product": "EclTmVhfAlert", "obs_id": "sb9"}')
        await received.until("sb9")


async def test_a_message_is_acknowledged_only_after_its_handler_returns(bus: Bus) -> None:
    wanted, started, finish = spec(), asyncio.Event(), asyncio.Event()

    async def slow(_batch: Batch) -> Rejections:
        started.set()
        await finish.wait()
        return []

    async with consuming(Consumer(bus, wanted), slow):
        await announce(bus, "sb1")
        await started.wait()
        assert await unacknowledged(bus, wanted.durable) == 1
        finish.set()
        await all_acknowledged(bus, wanted.durable)


async def test_a_message_that_waits_for_its_handler_is_handled_once(bus: Bus) -> None:
    wanted, finish = spec(ack_wait_s=0.2), asyncio.Event()
    handled: list[int] = []

    async def wait(batch: Batch) -> Rejections:
        handled.extend(delivery.sequence for delivery in batch)
        await finish.wait()
        return []

    async def redelivered() -> bool:
        info = await bus.jetstream.consumer_info("DATA", wanted.durable)
        return (info.num_redelivered or 0) > 0

    async with consuming(Consumer(bus, wanted), wait):
        await eventually(lambda: exists(bus, wanted.durable))
        await announce(bus, "sb1")
        await eventually(redelivered)
        finish.set()
        await all_acknowledged(bus, wanted.durable)
        await announce(bus, "sb2")
        await all_acknowledged(bus, wanted.durable)
    assert len(handled) == len(set(handled))


async def test_what_its_handler_refuses_is_a_dead_letter(bus: Bus) -> None:
    async def refuse(batch: Batch) -> Rejections:
        return [
            Rejection(delivery, f"{delivery.event.obs_id} is not wanted")
            for delivery in batch
            if delivery.event.obs_id == "sb1"
        ]

    wanted = spec()
    consumer = Consumer(bus, wanted)
    async with consuming(consumer, refuse):
        await announce(bus, "sb1")
        await announce(bus, "sb2")
        await eventually(lambda: exists(bus, wanted.durable))
        await all_acknowledged(bus, wanted.durable)
    assert consumer.malformed == 1
    letter = await bus.jetstream.get_last_msg("DEAD", "dead.data")
    assert (letter.headers or {})[REASON_HEADER] == "sb1 is not wanted"


async def test_a_message_is_redelivered_if_its_handler_fails(bus: Bus) -> None:
    wanted = spec(ack_wait_s=1.0)
    await announce(bus, "sb1")

    async def fail(_batch: Batch) -> Rejections:
        raise RuntimeError("the disk is full")

    with pytest.raises(RuntimeError, match="the disk is full"):
        await Consumer(bus, wanted).run(fail)
    received = Received()
    async with consuming(Consumer(bus, wanted), received):
        await received.until("sb1")
        await all_acknowledged(bus, wanted.durable)


async def test_a_consumer_continues_where_it_stopped(bus: Bus) -> None:
    wanted, first, second = spec(), Received(), Received()
    await announce(bus, "sb1")
    async with consuming(Consumer(bus, wanted), first):
        await first.until("sb1")
        await all_acknowledged(bus, wanted.durable)
    await announce(bus, "sb2")
    async with consuming(Consumer(bus, wanted), second):
        await second.until("sb2")
    assert second.obs_ids == ["sb2"]


async def test_consumers_of_one_name_share_the_messages(bus: Bus, own_nats: NatsServer) -> None:
    wanted, here, there = spec(), Received(), Received()
    expected = [f"sb{number}" for number in range(200)]
    async with (
        connect(NatsConfig(url=own_nats.url), "other") as other,
        consuming(Consumer(bus, wanted), here),
        consuming(Consumer(other, wanted), there),
    ):
        await eventually(lambda: exists(bus, wanted.durable))
        for obs_id in expected:
            await announce(bus, obs_id)
        await all_acknowledged(bus, wanted.durable)
    assert sorted(here.obs_ids + there.obs_ids) == sorted(expected)
    assert here.obs_ids
    assert there.obs_ids


async def test_nothing_is_lost_when_nats_restarts(bus: Bus, own_nats: NatsServer) -> None:
    received = Received()
    async with consuming(Consumer(bus, spec(ack_wait_s=1.0)), received):
        await announce(bus, "sb0")
        await received.until("sb0")
        for number in (1, 2):
            own_nats.stop()
            publishing = asyncio.create_task(announce(bus, f"sb{number}"))
            await asyncio.to_thread(own_nats.start)
            await publishing
            await received.until(f"sb{number}")


async def test_a_consumer_receives_again_if_nats_restarts_empty(
    bus: Bus, own_nats: NatsServer, tmp_path: Path
) -> None:
    received = Received()
    async with consuming(Consumer(bus, spec()), received):
        await announce(bus, "sb0")
        await received.until("sb0")
        own_nats.stop()
        own_nats.folder = tmp_path / "another"
        await asyncio.to_thread(own_nats.start)
        await announce(bus, "sb1")
        await received.until("sb1")


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"not JSON", "Invalid JSON"),
        (b"", "Invalid JSON"),
        (b'{"product": "EVT"}', "obs_id: Field required"),
        (b'{"product": "../x", "obs_id": "sb1"}', "product: String should match"),
        (b'{"specversion": "1.0", "id": "1"}', "source: Field required"),
        (b'{"product": "EVT", "obs_id": "sb1", "version": 0}', "version: "),
    ],
)
async def test_a_malformed_message_becomes_a_dead_letter_with_the_reason_and_is_counted_once(
    bus: Bus, payload: bytes, reason: str
) -> None:
    received, wanted = Received(), spec(ack_wait_s=1.0)
    consumer = Consumer(bus, wanted)
    async with consuming(consumer, received):
        await bus.client.publish("data.vhf", payload)
        await announce(bus, "sb1")
        await received.until("sb1")
        await all_acknowledged(bus, wanted.durable)
    assert received.obs_ids == ["sb1"]
    assert consumer.malformed == 1
    dead_letter = await bus.jetstream.get_msg("DEAD", 1)
    assert (dead_letter.subject, dead_letter.data or b"") == ("dead.data", payload)
    assert reason in (dead_letter.headers or {})[REASON_HEADER]
    assert (dead_letter.headers or {})[ORIGIN_HEADER] == "data.vhf#1"


async def test_a_message_that_two_services_refuse_becomes_one_dead_letter(bus: Bus) -> None:
    one, two = spec(), spec()
    first, second = Received(), Received()
    async with consuming(Consumer(bus, one), first), consuming(Consumer(bus, two), second):
        await eventually(lambda: exists(bus, one.durable))
        await eventually(lambda: exists(bus, two.durable))
        await bus.client.publish("data.vhf", b"?")
        await announce(bus, "sb1")
        await first.until("sb1")
        await second.until("sb1")
        await all_acknowledged(bus, one.durable)
        await all_acknowledged(bus, two.durable)
    assert (await bus.jetstream.stream_info("DEAD")).state.messages == 1


async def test_the_dead_letter_of_a_message_of_the_largest_size_is_truncated(bus: Bus) -> None:
    received, wanted = Received(), spec()
    consumer = Consumer(bus, wanted)
    async with consuming(consumer, received):
        size = bus.client.max_payload - 10
        await bus.client.publish("data.vhf", b"x" * size)
        await announce(bus, "sb1")
        await received.until("sb1")
        await all_acknowledged(bus, wanted.durable)
    assert consumer.malformed == 1
    dead_letter = await bus.jetstream.get_msg("DEAD", 1)
    assert (dead_letter.headers or {})[SIZE_HEADER] == str(size)
    assert (dead_letter.data or b"").strip(b"x") == b""
