"""The stream: a snapshot, then frames; a viewer that comes back continues."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest

from batuta.dashboard import stream as stream_module
from batuta.dashboard.live_table import LiveTable
from batuta.dashboard.stream import FrameStream


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream_module, "FRAME_S", 0.001)
    monkeypatch.setattr(stream_module, "TICK_S", 0.05)


@asynccontextmanager
async def running(stream: FrameStream) -> AsyncIterator[None]:
    task = asyncio.create_task(stream.run())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def parsed(event: bytes) -> tuple[str, str, object]:
    fields = dict(line.split(": ", 1) for line in event.decode().splitlines() if ": " in line)
    data = fields.get("data")
    return fields.get("id", ""), fields["event"], None if data is None else json.loads(data)


async def test_a_viewer_is_sent_a_snapshot_and_then_what_changes() -> None:
    table = LiveTable()
    table.set("a", 1)
    stream = FrameStream(table)
    async with running(stream):
        events = stream.events(None, asyncio.Event())
        assert parsed(await anext(events))[1:] == ("snapshot", {"a": 1})
        seen = {"a": 1}
        table.set("b", 2)
        while seen != {"a": 1, "b": 2}:
            _, kind, data = parsed(await anext(events))
            if kind == "frame":
                assert isinstance(data, dict)
                seen |= data
        assert stream.viewers == 1
        await events.aclose()
        assert stream.viewers == 0


async def test_something_comes_even_if_nothing_changes() -> None:
    stream = FrameStream(LiveTable())
    async with running(stream):
        events = stream.events(None, asyncio.Event())
        assert parsed(await anext(events))[1] == "snapshot"
        assert [parsed(await anext(events))[1] for _ in range(3)] == ["tick"] * 3


async def test_a_viewer_that_comes_back_is_sent_what_it_missed_and_no_snapshot() -> None:
    table = LiveTable()
    stream = FrameStream(table)
    async with running(stream):
        table.set("a", 1)
        events = stream.events(None, asyncio.Event())
        name = ""
        while not name.endswith("-1"):
            name, _, _ = parsed(await anext(events))
        await events.aclose()
        table.set("a", 2)
        again = stream.events(name, asyncio.Event())
        assert parsed(await anext(again))[1:] == ("frame", {"a": 2})


@pytest.mark.parametrize("event_id", ["", "x", "another-1", "another-", "-1", "9" * 60])
async def test_an_id_of_another_stream_is_answered_by_a_snapshot(event_id: str) -> None:
    table = LiveTable()
    table.set("a", 1)
    stream = FrameStream(table)
    async with running(stream):
        assert parsed(await anext(stream.events(event_id, asyncio.Event())))[1:] == (
            "snapshot",
            {"a": 1},
        )


async def test_a_viewer_that_reads_slowly_is_sent_a_snapshot(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(stream_module, "MAX_BEHIND", 3)
    table = LiveTable()
    stream = FrameStream(table)
    events = stream.events(None, asyncio.Event())
    assert parsed(await anext(events))[1] == "snapshot"
    for number in range(5):
        table.set("a", number)
        table.end_frame()
    assert parsed(await anext(events))[1:] == ("snapshot", {"a": 4})


async def test_a_stream_ends_once_its_server_stops() -> None:
    stream = FrameStream(LiveTable())
    stopping = asyncio.Event()
    events = stream.events(None, stopping)
    assert parsed(await anext(events))[1] == "snapshot"
    stopping.set()
    assert [parsed(each)[1] async for each in events] in ([], ["tick"])
    assert stream.viewers == 0
