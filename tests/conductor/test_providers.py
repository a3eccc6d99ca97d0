"""Calls of pipelines: answers that are too long, too slow, compressed or no processing."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from batuta.conductor import providers
from batuta.conductor.due_requests import DueRequest
from batuta.conductor.events import Event, PipelineUnreachable, Refused, StatusUpdate
from batuta.conductor.providers import open_providers
from batuta.conductor.transitions import Poll, PollAction
from batuta.messaging import ProcessingState
from tests.conductor.processing_records import RUNNING

Answer = Callable[[asyncio.StreamWriter], Awaitable[None]]

HEAD = b"HTTP/1.1 202 Accepted\r\nContent-Type: application/json\r\n"
RECORD = b'{"id": "p1", "product": "B", "obs_id": "o1", "state": "queued"%s}'


def whole(body: bytes, headers: bytes = b"") -> Answer:
    """Send an answer at once."""

    async def send(writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD + headers + b"Content-Length: %d\r\n\r\n" % len(body) + body)

    return send


async def endless(writer: asyncio.StreamWriter) -> None:
    """Send a gigabyte, unless nobody reads it."""
    writer.write(HEAD + b"Content-Length: 1000000000\r\n\r\n")
    for _ in range(1000):
        writer.write(b" " * 1_000_000)
        await writer.drain()


async def dripping(writer: asyncio.StreamWriter) -> None:
    """Send a byte now and then, for ever."""
    writer.write(HEAD + b"Content-Length: 1000000000\r\n\r\n")
    while True:
        writer.write(b" ")
        await writer.drain()
        await asyncio.sleep(0.01)


@asynccontextmanager
async def pipeline(answer: Answer) -> AsyncIterator[str]:
    """A pipeline that answers every request by `answer`."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            await answer(writer)
        except ConnectionError:
            return
        finally:
            writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    async with server:
        host, port = server.sockets[0].getsockname()
        yield f"http://{host}:{port}"


async def answer_to_a_request(answer: Answer) -> Event:
    async with (
        pipeline(answer) as url,
        open_providers(lambda _name: url, None) as opened,
    ):
        return await opened.request(DueRequest("p1", "B", "o1", "maker", 1))


async def test_an_answer_is_a_status_update() -> None:
    event = await answer_to_a_request(whole(RECORD % b""))
    assert isinstance(event, StatusUpdate)
    assert event.state == ProcessingState.QUEUED


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (endless, "maker: its answer is longer than 1048576 bytes"),
        (whole(b"x" * 100, b"Content-Encoding: gzip\r\n"), "maker: Content-Encoding 'gzip'"),
        (whole(b"{}"), "answered something else than a processing"),
        (whole(b"\xff\xfe"), "answered something else than a processing"),
        (whole(b"[" * 100_000), "answered something else than a processing"),
        (whole(RECORD % b', "id": "' + b"x" * 1000 + b'"'), "something else than a processing"),
        (whole(RECORD % b', "started": "0001-01-01T00:00:00"'), "something else than a processing"),
        (
            whole(RECORD % b', "started": "9999-12-31T23:59:59Z"'),
            "something else than a processing",
        ),
        (whole(RECORD % b', "progress": {"done": 3e9}'), "something else than a processing"),
    ],
)
async def test_a_bad_answer_is_that_of_its_pipeline_and_named(answer: Answer, error: str) -> None:
    event = await answer_to_a_request(answer)
    assert isinstance(event, PipelineUnreachable)
    assert error in event.error


async def test_an_answer_about_another_processing_is_refused() -> None:
    other = b'{"id": "p2", "product": "B", "obs_id": "o1", "state": "succeeded"}'
    event = await answer_to_a_request(whole(other))
    assert isinstance(event, Refused)
    assert "asked about the processing p1, it answered about 'p2'" in event.error
    async with pipeline(whole(other)) as url, open_providers(lambda _name: url, None) as opened:
        polled = await opened.poll(Poll(replace(RUNNING, id="p1"), PollAction.QUERY))
    assert isinstance(polled, PipelineUnreachable)
    assert "asked about the processing p1, it answered about 'p2'" in polled.error


async def test_an_answer_that_drips_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(providers, "ANSWER_TIMEOUT_S", 0.2)
    event = await answer_to_a_request(dripping)
    assert isinstance(event, PipelineUnreachable)
    assert "was not answered within 0.2 s" in event.error
