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
from batuta.errors import printable
from batuta.messaging import ProcessingState
from tests.conductor.processing_records import RUNNING
from tests.support.raw_server import raw_server

Answer = Callable[[asyncio.StreamWriter], Awaitable[None]]

HEAD = b"HTTP/1.1 202 Accepted\r\nContent-Type: application/json\r\n"
ERROR = b"HTTP/1.1 500 Internal Server Error\r\n"
RECORD = b'{"id": "p1", "product": "B", "obs_id": "o1", "state": "queued"%s}'


def whole(body: bytes, headers: bytes = b"", head: bytes = HEAD) -> Answer:
    """Send an answer at once."""

    async def send(writer: asyncio.StreamWriter) -> None:
        writer.write(head + headers + b"Content-Length: %d\r\n\r\n" % len(body) + body)

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
async def pipeline(answer: Answer, heads: list[bytes] | None = None) -> AsyncIterator[str]:
    """A pipeline that answers every request by `answer`; the heads of requests go to `heads`."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        if heads is not None:
            heads.append(head)
        await answer(writer)

    async with raw_server(handle) as url:
        yield url


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
        (
            whole(
                b"{}", head=b"HTTP/1.1 200 OK\r\nContent-Type: application/json; charset=hex\r\n"
            ),
            "something else than a processing: '{}'",
        ),
        (whole(b"[" * 100_000, head=ERROR), "maker: 500 Internal Server Error"),
        (whole(b"{}", b"X: \xff\r\n", b"HTTP/1.1 500 \xff\x1b\r\n"), "maker: 500"),
        (whole(b'{"detail": "a \\ud800"}', head=ERROR), "maker: 500 Internal Server Error"),
        (whole(b'{"detail": "a \\u0000 b \\u001b[31m"}', head=ERROR), r"maker: a \x00 b \x1b[31m"),
        (whole(b'{"detail": "' + b"x" * 100_000 + b'"}', head=ERROR), "98,000 characters"),
    ],
)
async def test_a_bad_answer_is_that_of_its_pipeline_and_named(answer: Answer, error: str) -> None:
    event = await answer_to_a_request(answer)
    assert isinstance(event, PipelineUnreachable)
    assert error in event.error
    assert event.error == printable(event.error)
    assert len(event.error) < 4000


async def test_cookies_of_one_pipeline_are_not_sent_to_another() -> None:
    heads: list[bytes] = []

    async def set_cookie(writer: asyncio.StreamWriter) -> None:
        await whole(RECORD % b"", b"Set-Cookie: a=b; Path=/\r\n")(writer)

    async with (
        pipeline(set_cookie, heads) as one,
        pipeline(set_cookie, heads) as other,
        open_providers({"one": one, "other": other}.__getitem__, None) as opened,
    ):
        await opened.request(DueRequest("p1", "B", "o1", "one", 1))
        await opened.request(DueRequest("p1", "B", "o1", "other", 1))
    assert len(heads) == 2
    assert b"cookie" not in heads[1].lower()


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
