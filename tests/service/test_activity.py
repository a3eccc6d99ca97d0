"""What a service publishes: its heartbeat, and every state that its processings reach."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from itertools import groupby
from typing import Any, cast

import nats
import pytest
from nats.js.api import DeliverPolicy

from batuta.messaging import (
    Activity,
    Bus,
    HoldChange,
    LateProduct,
    Processing,
    ProcessingState,
    Progress,
    ServiceStatus,
    decode_activity,
    utc_now,
)
from batuta.service import activity as module
from batuta.service.activity import ActivityReporter
from tests.support.servers import NatsServer
from tests.support.waiting import eventually

STATUS = ServiceStatus(name="lc_pipeline", kind="pipeline", url="http://127.0.0.1:5000")


def processing(id_: str, state: ProcessingState, done: int = 0) -> Processing:
    return Processing(
        id=id_,
        product="LC",
        obs_id="sb1",
        state=state,
        progress=Progress(done=done, total=1000),
    )


@asynccontextmanager
async def running(bus: Bus) -> AsyncIterator[ActivityReporter]:
    reporter = ActivityReporter(bus, lambda: STATUS)
    task = asyncio.create_task(reporter.run())
    try:
        yield reporter
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def published(server: NatsServer) -> list[Activity]:
    """Return all activity published so far."""
    client = await nats.connect(server.url)
    try:
        stream = client.jetstream()
        count = (await stream.stream_info("ACTIVITY")).state.messages
        subscription = await stream.subscribe(
            "activity.lc_pipeline", ordered_consumer=True, deliver_policy=DeliverPolicy.ALL
        )
        return [decode_activity((await subscription.next_msg(5)).data) for _ in range(count)]
    finally:
        await client.close()


async def until_published(server: NatsServer, last: Processing) -> list[Processing]:
    """Wait until `last` is published; return all the processings published."""

    async def arrived() -> bool:
        return last in [each.processing for each in await published(server)]

    await eventually(arrived)
    return [each.processing for each in await published(server) if each.processing]


async def test_a_service_publishes_that_it_is_up_and_that_it_stops(
    bus: Bus, own_nats: NatsServer
) -> None:
    async with running(bus):

        async def up() -> bool:
            return [each.service for each in await published(own_nats)] == [STATUS]

        await eventually(up)
    states = [each.service.state for each in await published(own_nats)]
    assert states == ["up", "stopped"]


async def test_the_heartbeat_is_repeated(
    bus: Bus, own_nats: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "HEARTBEAT_S", 0.05)
    async with running(bus):

        async def thrice() -> bool:
            return len(await published(own_nats)) >= 3

        await eventually(thrice)


async def test_every_state_is_published_in_order_and_only_the_last_progress(
    bus: Bus, own_nats: NatsServer
) -> None:
    async with running(bus) as reporter:
        reporter.report(processing("p1", ProcessingState.QUEUED))
        for done in range(1000):
            reporter.report(processing("p1", ProcessingState.RUNNING, done))
        last = processing("p1", ProcessingState.SUCCEEDED, 1000)
        reporter.report(last)
        received = await until_published(own_nats, last)
    assert received == [
        processing("p1", ProcessingState.QUEUED),
        processing("p1", ProcessingState.RUNNING, 999),
        last,
    ]


async def test_progress_made_during_a_publication_is_published_too(
    bus: Bus, own_nats: NatsServer
) -> None:
    async with running(bus) as reporter:
        reporter.report(processing("p1", ProcessingState.RUNNING, 1))
        await asyncio.sleep(0)
        last = processing("p1", ProcessingState.RUNNING, 2)
        reporter.report(last)
        await until_published(own_nats, last)


async def test_what_was_reported_while_nats_was_down_is_published_when_it_is_back(
    bus: Bus, own_nats: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    # So short that heartbeats are due while NATS is down: they must not displace processings.
    monkeypatch.setattr(module, "HEARTBEAT_S", 0.05)
    monkeypatch.setattr(bus, "jetstream", bus.client.jetstream(timeout=0.1))
    async with running(bus) as reporter:
        first = processing("p0", ProcessingState.QUEUED)
        reporter.report(first)
        await until_published(own_nats, first)
        own_nats.stop()
        last = [processing(f"p{number}", ProcessingState.FAILED) for number in range(20)]
        for each in last:
            reporter.report(each)
        await asyncio.to_thread(own_nats.start)
        received = await until_published(own_nats, last[-1])
    failed = [each for each in received if each.state is ProcessingState.FAILED]
    # A publication that was cut short, or timed out once it was stored, is repeated.
    assert [each for each, _repeats in groupby(failed)] == last


class OfPipeline(Processing):
    """A processing with what only its pipeline knows, as pipelines report theirs."""


class Recorder:
    """A bus that keeps what is published on it."""

    connected = False

    def __init__(self) -> None:
        self.published: list[Activity] = []
        self.all = asyncio.Event()

    async def publish_activity(self, activity: Activity) -> None:
        self.published.append(activity)
        if len(self.published) == 4:
            self.all.set()


async def test_all_that_is_told_is_published_under_its_name() -> None:
    recorder = Recorder()
    told: dict[str, Any] = {
        "processing": OfPipeline(id="p", product="LC", obs_id="o", state=ProcessingState.RUNNING),
        "late": LateProduct(product="LC", obs_id="o", due=utc_now()),
        "hold": HoldChange(number=1, what="all", state="in force", since=utc_now(), by="operator"),
    }
    async with running(cast("Bus", recorder)) as reporter:
        reporter.report(told["processing"])
        reporter.report_late(told["late"])
        reporter.report_hold(told["hold"])
        await recorder.all.wait()
    for (name, each), activity in zip(told.items(), recorder.published[1:], strict=True):
        named = activity.model_dump(include=set(told), exclude_none=True)
        assert named == {name: each.model_dump(exclude_none=True)}
