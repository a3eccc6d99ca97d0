"""Calls of pipelines: answers that are too long, too slow, compressed or no processing."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from batuta.conductor.database.requests.due_requests import DueRequest
from batuta.conductor.decisions.circuits import Answered, Full, Signal, Unanswered
from batuta.conductor.decisions.events import (
    Busy,
    Event,
    Interface,
    NoStateTold,
    PipelineUnreachable,
    PollPostponed,
    StatusUpdate,
    UnknownToPipeline,
)
from batuta.conductor.decisions.requests import Poll, PollAction
from batuta.conductor.dispatch import providers
from batuta.conductor.dispatch.providers import open_providers
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


POLLED = b'{"id": "p1", "product": "B", "obs_id": "o1", "state": "%s", "attempt": %d}'


async def answer_to_a_poll(state: bytes, attempt: int, pipeline_attempt: int) -> Event:
    polled = replace(RUNNING, id="p1", state=ProcessingState.REQUESTED, attempt=3)
    polled = replace(polled, pipeline_attempt=pipeline_attempt)
    async with (
        pipeline(whole(POLLED % (state, attempt))) as url,
        open_providers(lambda _name: url, None) as opened,
    ):
        return await opened.poll(Poll(polled, PollAction.QUERY))


@pytest.mark.parametrize("state", [b"failed", b"cancelled"])
async def test_the_end_of_an_earlier_attempt_tells_that_the_current_one_never_arrived(
    state: bytes,
) -> None:
    assert await answer_to_a_poll(state, 2, 3) == UnknownToPipeline(
        processing_id="p1",
        asked_attempt=3,
        polled_state=ProcessingState.REQUESTED,
        counts_attempts=True,
    )


@pytest.mark.parametrize(
    ("state", "attempt", "pipeline_attempt"),
    [
        pytest.param(b"cancelled", 3, 3, id="the current one"),
        pytest.param(b"cancelled", 2, 2, id="an earlier one that was adopted"),
        pytest.param(b"running", 2, 3, id="an earlier one that goes on"),
        pytest.param(b"succeeded", 2, 3, id="an earlier one that has made the product"),
    ],
)
async def test_other_answers_to_a_poll_tell_of_the_current_attempt(
    state: bytes, attempt: int, pipeline_attempt: int
) -> None:
    event = await answer_to_a_poll(state, attempt, pipeline_attempt)
    assert isinstance(event, StatusUpdate)
    assert (event.state.encode(), event.attempt) == (state, attempt)


ACCEPTED = b"HTTP/1.1 202 Accepted\r\n"


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (b"204 No Content", b""),
        (b"200 OK", b""),
        (b"200 OK", b"OK"),
        (b"201 Created", b"{}"),
        (b"202 Accepted", b"null"),
        (b"202 Accepted", b"true"),
        (b"202 Accepted", b"[1, 2]"),
        (b"202 Accepted", b"\xff\xfe"),
        (b"202 Accepted", b"[" * 100_000),
        (b"202 Accepted", b'{"job": {"nothing": [{"known": 1}]}}'),
        (b"202 Accepted", b'{"state": "cooking"}'),
        (b"202 Accepted", b'{"started": "0001-01-01T00:00:00", "progress": {"done": 3e9}}'),
    ],
)
async def test_a_request_that_is_answered_by_success_is_accepted_whatever_the_body_says(
    status: bytes, body: bytes
) -> None:
    event = await answer_to_a_request(whole(body, head=b"HTTP/1.1 " + status + b"\r\n"))
    assert event == NoStateTold(processing_id="p1", asked_attempt=1, interface=Interface.REQUEST)


@pytest.mark.parametrize(
    ("headers", "body", "known_as", "asked_for"),
    [
        pytest.param(b"", b'{"jobID": 17, "status": "accepted"}', "17", b"/processing/17"),
        pytest.param(b"", b'{"data": {"task_id": "a/b"}}', "a/b", b"/processing/a%2Fb"),
        pytest.param(b"", b'[{"id": "17"}]', "17", b"/processing/17"),
        pytest.param(b"", b'"17"', "17", b"/processing/17"),
        pytest.param(b"", b'{"id": ".."}', None, b"/processing/p1"),
        pytest.param(b"Location: /jobs/17?full=1\r\n", b"", "/jobs/17?full=1", b"/jobs/17?full=1"),
        pytest.param(b"Location: ../jobs/17\r\n", b'{"id": 1}', "/jobs/17", b"/jobs/17"),
        pytest.param(b"Location: http://evil.example/x\r\n", b"", "/x", b"/x"),
        pytest.param(b"Location: http://[\r\n", b"", None, b"/processing/p1"),
        pytest.param(b"Location: /elsewhere\r\n", b'{"id": "p1"}', None, b"/processing/p1"),
    ],
)
async def test_a_pipeline_is_asked_for_the_id_or_the_location_that_it_answered(
    headers: bytes, body: bytes, known_as: str | None, asked_for: bytes
) -> None:
    heads: list[bytes] = []
    async with (
        pipeline(whole(body, headers, ACCEPTED), heads) as url,
        open_providers(lambda _name: url, None) as opened,
    ):
        event = await opened.request(DueRequest("p1", "B", "o1", "maker", 1))
        assert isinstance(event, NoStateTold | StatusUpdate)
        assert event.pipeline_id == known_as
        record = replace(RUNNING, id="p1", pipeline_id=event.pipeline_id)
        await opened.poll(Poll(record, PollAction.QUERY))
    assert heads[1].startswith(b"GET %s HTTP" % asked_for)


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(endless, id="too long"),
        pytest.param(whole(b"x" * 100, b"Content-Encoding: gzip\r\n"), id="compressed"),
        pytest.param(whole(b"", head=b"HTTP/1.1 504 Timeout\r\n"), id="lost by a proxy"),
        pytest.param(whole(b"", head=b"no HTTP at all\r\n"), id="not HTTP"),
    ],
)
async def test_a_request_whose_answer_is_lost_may_have_arrived(answer: Answer) -> None:
    event = await answer_to_a_request(answer)
    assert isinstance(event, NoStateTold)
    assert event.error is not None
    assert event.interface is None


async def test_a_pipeline_that_closes_connections_without_saying_so_loses_no_request() -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = head.lower().partition(b"content-length:")[2].split()
        await reader.readexactly(int(length[0]) if length else 0)
        await whole(b"", head=ACCEPTED)(writer)

    async with raw_server(handle) as url, open_providers(lambda _name: url, None) as opened:
        for number in range(20):
            event = await opened.request(DueRequest(f"p{number}", "B", "o1", "maker", 1))
            assert isinstance(event, NoStateTold)
            assert event.error is None
            polled = await opened.poll(Poll(RUNNING, PollAction.QUERY))
            assert isinstance(polled, NoStateTold)


async def test_a_pipeline_that_refuses_other_keys_is_sent_the_two_that_it_must_know() -> None:
    bodies: list[dict[str, object]] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length:")[2].split()[0])
        bodies.append(json.loads(await reader.readexactly(length)))
        known = bodies[-1].keys() == {"product", "obs_id"}
        status = b"202 Accepted" if known else b"422 Unprocessable"
        await whole(b"", head=b"HTTP/1.1 %s\r\nConnection: close\r\n" % status)(writer)

    async with raw_server(handle) as url, open_providers(lambda _name: url, None) as opened:
        for number in (1, 2):
            request = DueRequest(f"p{number}", "B", "o1", "maker", 1, inputs='{"A": 2, "X": 0}')
            event = await opened.request(replace(request, graph_version="g1", stage=0))
            assert isinstance(event, NoStateTold)
    assert [len(body) for body in bodies] == [7, 2, 2]
    assert bodies[0]["inputs"] == {"A": 2, "X": 0}
    assert bodies[0]["graph_version"] == "g1"
    assert bodies[0]["stage"] == "preliminary"


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


async def test_what_is_told_of_another_processing_is_not_taken_for_the_one_asked_about() -> None:
    other = b'{"id": "p2", "product": "B", "obs_id": "o1", "state": "failed"}'
    async with pipeline(whole(other)) as url, open_providers(lambda _name: url, None) as opened:
        polled = await opened.poll(Poll(replace(RUNNING, id="p1"), PollAction.QUERY))
    assert isinstance(polled, NoStateTold)
    assert polled.error == "maker: asked about the processing p1, it answered about 'p2'"


@pytest.mark.parametrize(
    ("interface", "path"),
    [(Interface.ATTEMPTS, b"/processing/p1?attempt=2"), (Interface.REQUEST, b"/processing/p1")],
)
async def test_a_stop_names_its_attempt_to_those_that_count_them(
    interface: Interface, path: bytes
) -> None:
    heads: list[bytes] = []
    async with (
        pipeline(whole(RECORD % b""), heads) as url,
        open_providers(lambda _name: url, None) as opened,
    ):
        record = replace(RUNNING, interface=interface)
        await opened.poll(Poll(record, PollAction.STOP))
        await opened.stop(record)
    assert [head.split()[:2] for head in heads] == [[b"DELETE", path]] * 2


async def test_an_answer_that_drips_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(providers, "ANSWER_TIMEOUT_S", 0.2)
    event = await answer_to_a_request(dripping)
    assert isinstance(event, NoStateTold)
    assert event.error is not None
    assert "was not answered within 0.2 s" in event.error


@pytest.mark.parametrize(
    ("status", "signal"),
    [
        (b"202 Accepted", Answered),
        (b"404 Not Found", Answered),
        (b"501 Not Implemented", Answered),
        (b"429 Too Many Requests", Full),
        (b"503 Unavailable", Full),
        (b"500 Error", Unanswered),
        (b"502 Bad Gateway", Unanswered),
    ],
)
async def test_each_request_of_any_kind_tells_how_its_instance_answers(
    status: bytes, signal: type[Signal]
) -> None:
    told: list[Signal] = []
    answer = whole(b"", b"Retry-After: 999999\r\n", b"HTTP/1.1 " + status + b"\r\n")
    async with (
        pipeline(answer) as url,
        open_providers(lambda _name: "http://127.0.0.1:1", None, on_signal=told.append) as opened,
    ):
        asked = await opened.request(DueRequest("p1", "B", "o1", "maker", 1, instance=url))
        polled = await opened.poll(Poll(replace(RUNNING, instance=url), PollAction.QUERY))
    assert [type(each) for each in told] == [signal, signal]
    assert {each.instance for each in told} == {url}
    if signal is Full:
        assert [each.wait_s for each in told if isinstance(each, Full)] == [300, 300]
        assert [each.polls for each in told if isinstance(each, Full)] == [False, True]
        assert isinstance(asked, Busy)
        assert polled == PollPostponed(processing_id="p1", asked_attempt=2, wait_s=300)


async def test_an_instance_where_nobody_listens_is_told_whatever_was_asked() -> None:
    told: list[Signal] = []
    async with open_providers(
        lambda _name: "http://127.0.0.1:1", None, on_signal=told.append
    ) as opened:
        await opened.request(DueRequest("p1", "B", "o1", "maker", 1))
    (signal,) = told
    assert isinstance(signal, Unanswered)
    assert (signal.obs_id, signal.instance) == (None, "http://127.0.0.1:1")
