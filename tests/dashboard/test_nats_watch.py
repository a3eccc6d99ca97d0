"""Whether the dashboard notices that NATS does not answer."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator

import pytest

from batuta.dashboard.nats_watch import NatsWatch
from batuta.messaging import Bus
from tests.support.servers import NatsServer
from tests.support.waiting import eventually


@pytest.fixture
async def watch(bus: Bus) -> AsyncIterator[NatsWatch]:
    found = NatsWatch(bus)
    yield found
    found.close()


async def eventually_is(watch: NatsWatch, expected: str | None) -> None:
    async def probe() -> bool:
        return await watch.problem() == expected

    await eventually(probe, 30)


async def test_a_server_that_hangs_is_told_and_heard_again_once_it_goes_on(
    own_nats: NatsServer, bus: Bus, watch: NatsWatch
) -> None:
    assert await watch.problem() is None
    heard = asyncio.Event()

    async def hear(_message: object) -> None:
        heard.set()

    await bus.client.subscribe("news", cb=hear)
    os.kill(own_nats.process_id, signal.SIGSTOP)
    try:
        # The signal may take effect only after an answer more. Asked more than once: each late
        # answer is awaited, or the client would stop reading.
        await eventually_is(watch, "no answer within 2 s")
        assert await watch.problem() == "no answer within 2 s"
        assert bus.connected
    finally:
        os.kill(own_nats.process_id, signal.SIGCONT)
    await eventually_is(watch, None)
    await bus.client.publish("news")
    async with asyncio.timeout(10):
        await heard.wait()


async def test_a_server_that_was_killed_is_told_until_it_is_back(
    own_nats: NatsServer, watch: NatsWatch
) -> None:
    assert await watch.problem() is None
    assert watch.reconnections == 0
    own_nats.stop()
    await eventually_is(watch, "not connected")
    own_nats.start()
    await eventually_is(watch, None)
    assert watch.reconnections == 1
