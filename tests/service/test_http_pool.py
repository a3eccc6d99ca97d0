"""Calls through the pool: what cannot be called or is no answer ends in one line that says why."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
import pytest_asyncio

from batuta.service.client import ServiceError
from batuta.service.http_pool import HttpPool, PoolTimeouts, open_pool
from tests.support.raw_server import raw_server

Handle = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
TOKEN = "t" * 16


@pytest_asyncio.fixture
async def pool() -> AsyncIterator[HttpPool]:
    async with open_pool(TOKEN, PoolTimeouts(connect_s=1.0, read_s=0.1)) as opened:
        yield opened


def answering(answer: bytes, heads: list[bytes] | None = None) -> Handle:
    """Send `answer` to each request, and close."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        if heads is not None:
            heads.append(head)
        writer.write(answer)

    return handle


async def silent(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    """Read what comes until the client goes."""
    await reader.read()


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
    return port


@pytest.mark.parametrize("url", ["nothing", "ftp://host/x", "http://[::1/", "http://h:99999/"])
async def test_what_is_no_address_is_named(pool: HttpPool, url: str) -> None:
    with pytest.raises(ServiceError, match=r"^maker: ") as caught:
        await pool.send("maker", "GET", url, max_bytes=1, max_s=1)
    assert f"{url!r} is not a URL (accepted: http" in str(caught.value)
    assert caught.value.unreachable  # nothing was sent, which it might have acted on


async def test_a_service_that_is_not_there_is_unreachable(pool: HttpPool) -> None:
    url = f"http://127.0.0.1:{closed_port()}"
    with pytest.raises(ServiceError) as caught:
        await pool.send("maker", "GET", url, max_bytes=1, max_s=1)
    assert str(caught.value) == f"maker at {url} cannot be reached: Connection refused"
    assert caught.value.unreachable


@pytest.mark.parametrize(
    ("handle", "reason"),
    [
        pytest.param(answering(b""), "Server disconnected", id="closes"),
        pytest.param(answering(b"\0\xff\r\n\r\n"), "its answer is not valid HTTP", id="no HTTP"),
        pytest.param(silent, "Timeout on reading data from socket", id="silent"),
    ],
)
async def test_a_service_that_answers_no_http_cannot_be_reached(
    pool: HttpPool, handle: Handle, reason: str
) -> None:
    async with raw_server(handle) as url:
        with pytest.raises(ServiceError) as caught:
            await pool.send("maker", "POST", url, body=b"{}", max_bytes=1, max_s=5)
    assert str(caught.value).startswith(f"maker at {url} cannot be reached: {reason}")
    assert caught.value.status is None


async def test_a_redirect_is_a_refusal_and_is_not_followed(pool: HttpPool) -> None:
    heads: list[bytes] = []
    found = b"HTTP/1.1 302 Found\r\nLocation: /there\r\nContent-Length: 0\r\n\r\n"
    async with raw_server(answering(found, heads)) as url:
        with pytest.raises(ServiceError, match="maker: 302 Found") as caught:
            await pool.send("maker", "GET", url, max_bytes=1, max_s=1)
    assert caught.value.status == 302
    assert len(heads) == 1


async def test_requests_show_the_token_and_ask_for_no_compression(pool: HttpPool) -> None:
    heads: list[bytes] = []
    empty = b"HTTP/1.1 204 No Content\r\n\r\n"
    async with raw_server(answering(empty, heads)) as url:
        answer = await pool.send("maker", "POST", url, body=b"{}", max_bytes=1, max_s=1)
    assert (answer.status, answer.content) == (204, b"")
    head = heads[0].decode().lower()
    assert f"authorization: bearer {TOKEN}" in head
    assert "accept-encoding: identity" in head
    assert "content-type: application/json" in head
