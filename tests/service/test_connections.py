"""Bounds on connections: their number, and how long a client may make a service wait."""

import asyncio
import contextlib
import re
import resource
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import httpx
import pytest
from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse
from starlette.requests import ClientDisconnect

from batuta.service.connections import ConnectionLimits, Connections, raise_open_files_limit
from batuta.service.server import Listener, Server
from batuta.service.settings import ServiceSettings
from batuta.service.sockets import address_of, listening_socket
from batuta.tls import ServerCertificate
from tests.support.waiting import eventually, eventually_sync

SHORT = ConnectionLimits(max_connections=3, head_s=0.3, patience_s=0.3, linger_s=0.3, tick_s=0.05)


def make_app() -> tuple[FastAPI, dict[str, int]]:
    app = FastAPI()
    seen = {"cut": 0, "sent": 0}

    @app.post("/file")
    async def take(request: Request) -> int:
        total = 0
        try:
            async for chunk in request.stream():
                total += len(chunk)
        except ClientDisconnect:
            seen["cut"] += 1
        return total

    @app.get("/file")
    def give() -> StreamingResponse:
        def pieces() -> Any:
            for _ in range(1000):
                seen["sent"] += 1
                yield bytes(100_000)

        return StreamingResponse(pieces())

    @app.get("/slow")
    async def slow() -> str:
        await asyncio.sleep(3 * SHORT.patience_s)
        return "done"

    return app, seen


@contextlib.asynccontextmanager
async def served(
    app: FastAPI,
    limits: ConnectionLimits = SHORT,
    certificate: ServerCertificate | None = None,
) -> AsyncIterator[str]:
    connections = Connections(limits)
    with listening_socket(ServiceSettings(port=0)) as sock:
        server = Server(app, connections, Listener(sock, certificate), grace_s=2)
        async with asyncio.TaskGroup() as group:
            watching = group.create_task(connections.watch())
            serving = group.create_task(server.serve())
            try:
                yield address_of(sock, certificate)
            finally:
                server.stop()
                await serving
                watching.cancel()


async def connect(url: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    address = httpx.URL(url)
    return await asyncio.open_connection(address.host, address.port)


HEAD = b"POST /file HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n"


async def trickle(writer: asyncio.StreamWriter, body: bytes = b"x") -> None:
    """Send a byte now and then until the other side has had enough."""
    with contextlib.suppress(ConnectionError):
        while True:
            writer.write(body)
            await writer.drain()
            await asyncio.sleep(SHORT.tick_s)


@pytest.mark.parametrize(
    ("before", "status"), [(b"POST /file HTTP/1.1\r\nX-A: ", 408), (HEAD, 408)]
)
@pytest.mark.parametrize("trickles", [True, False])
async def test_a_request_that_does_not_come_is_ended_with_408(
    before: bytes, status: int, trickles: bool
) -> None:
    app, seen = make_app()
    async with served(app) as url:
        reader, writer = await connect(url)
        writer.write(before)
        sending = asyncio.create_task(trickle(writer)) if trickles else None
        answer = await reader.read()
        assert answer.startswith(f"HTTP/1.1 {status} Request Timeout\r\n".encode())
        assert b"application/problem+json" in answer
        assert b"the request came too slowly (accepted: " in answer
        if before == HEAD:
            await eventually(counted(seen, "cut"))
        if sending:
            sending.cancel()
        writer.close()


async def test_a_connection_on_which_nothing_comes_is_closed() -> None:
    async with served(make_app()[0]) as url:
        reader, writer = await connect(url)
        assert await reader.read() == b""
        writer.close()


async def test_an_upload_may_last_if_its_bytes_come() -> None:
    """Its rate is twice the least, and it takes several times as long as a pause may."""

    async def body() -> AsyncIterator[bytes]:
        loop = asyncio.get_running_loop()
        end = loop.time() + 5 * SHORT.patience_s
        while loop.time() < end:
            yield bytes(100)
            await asyncio.sleep(0.05)

    async with served(make_app()[0]) as url, httpx.AsyncClient(base_url=url) as client:
        answer = await client.post("/file", content=body())
    assert answer.status_code == 200
    assert answer.json() > 0


async def test_the_time_that_the_service_takes_is_not_the_clients() -> None:
    async with served(make_app()[0]) as url, httpx.AsyncClient(base_url=url) as client:
        assert (await client.get("/slow")).json() == "done"


async def test_a_connection_in_use_is_kept() -> None:
    async with served(make_app()[0]) as url, httpx.AsyncClient(base_url=url) as client:
        loop = asyncio.get_running_loop()
        end, local = loop.time() + 3 * SHORT.head_s, set()
        while loop.time() < end:
            answer = await client.post("/file", content=b"abc")
            local.add(answer.extensions["network_stream"].get_extra_info("client_addr"))
    assert len(local) == 1


async def test_an_answer_that_is_not_read_is_given_up() -> None:
    app, seen = make_app()
    async with served(app) as url:
        reader, writer = await connect(url)
        reader._transport.pause_reading()  # type: ignore[attr-defined]  # a client that does not read
        writer.write(b"GET /file HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await eventually(counted(seen, "sent"))
        async with httpx.AsyncClient(base_url=url) as client:
            # Three connections are accepted: two more can come once the first is gone.
            others = [await connect(url) for _ in range(2)]
            await eventually(lambda: is_answered(client))
        for _, other in others:
            other.close()
        writer.close()
    assert seen["sent"] < 1000


async def test_a_client_that_reads_slowly_but_steadily_gets_its_answer() -> None:
    """It reads for far longer than a pause may last, and little of what the system takes ahead."""
    loop = asyncio.get_running_loop()
    async with served(make_app()[0]) as url:
        address = httpx.URL(url)
        with socket.socket() as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            sock.setblocking(False)
            await loop.sock_connect(sock, (address.host, address.port))
            await loop.sock_sendall(sock, b"GET /file HTTP/1.1\r\nHost: localhost\r\n\r\n")
            end = loop.time() + 5 * SHORT.patience_s
            while loop.time() < end:
                assert await loop.sock_recv(sock, 2000)
                await asyncio.sleep(SHORT.tick_s / 2)
            # What was cut off would come to its end with what the system had taken ahead.
            read_bytes = 0
            while read_bytes < 50_000_000 and (piece := await loop.sock_recv(sock, 2**20)):
                read_bytes += len(piece)
    assert read_bytes >= 50_000_000


def counted(seen: dict[str, int], what: str) -> Callable[[], Awaitable[bool]]:
    async def probe() -> bool:
        return seen[what] > 0

    return probe


async def is_answered(client: httpx.AsyncClient) -> bool:
    return (await client.post("/file", content=b"abc")).status_code == 200


FEW = ConnectionLimits(max_connections=3, tick_s=0.05)


async def test_connections_beyond_the_bound_wait_and_all_are_served() -> None:
    async with served(make_app()[0], FEW) as url, contextlib.AsyncExitStack() as stack:
        clients = [
            await stack.enter_async_context(httpx.AsyncClient(base_url=url)) for _ in "x" * 20
        ]
        for _ in range(2):
            answers = await asyncio.gather(
                *(each.post("/file", content=b"abc") for each in clients)
            )
            assert {answer.status_code for answer in answers} == {200}


async def test_idle_connections_make_room_for_those_that_wait() -> None:
    """They would be kept for seconds after an answer, and longer before the first request."""
    limits = ConnectionLimits(max_connections=3, silent_s=0.1, tick_s=0.05)
    async with served(make_app()[0], limits) as url, contextlib.AsyncExitStack() as stack:
        opened = [await connect(url)]
        for _ in range(2):
            kept = await stack.enter_async_context(httpx.AsyncClient(base_url=url))
            assert (await kept.post("/file", content=b"abc")).headers.get("connection") != "close"
        for _ in range(3):
            opened.append(await connect(url))
            opened[-1][1].write(HEAD)
        async with httpx.AsyncClient(base_url=url) as client:
            assert await opened[0][0].read() == b""
            opened[1][1].close()
            answer = await client.post("/file", content=b"abc")
        assert answer.status_code == 200
        for _, writer in opened:
            writer.close()


async def test_those_that_wait_are_told_to_come_later_once_no_place_becomes_free_for_long() -> None:
    limits = ConnectionLimits(max_connections=3, full_s=0.2, tick_s=0.05)
    async with served(make_app()[0], limits) as url, httpx.AsyncClient(base_url=url) as client:
        slow = [await connect(url) for _ in range(3)]
        for _, writer in slow:
            writer.write(HEAD)
        more = [await connect(url) for _ in range(5)]
        for reader, _ in more:
            answer = await reader.read()
            assert answer.startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
            assert b"\r\nretry-after: 2\r\n" in answer
            assert b"too many connections" in answer
        slow[0][1].close()
        await eventually(lambda: is_answered(client))
        for _, writer in (*slow, *more):
            writer.close()


async def test_a_refusal_reaches_a_client_that_is_sending() -> None:
    limits = ConnectionLimits(max_connections=1, full_s=0.1, tick_s=0.05)
    async with served(make_app()[0], limits) as url, httpx.AsyncClient(base_url=url) as client:
        _, writer = await connect(url)
        writer.write(HEAD)
        answer = await client.post("/file", content=bytes(3_000_000))
        writer.close()
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "2"


@pytest.mark.parametrize(("files", "accepted"), [(64, 8), (1024, 352), (65_536, 2048)])
def test_the_bound_follows_the_files_that_may_be_open(
    monkeypatch: pytest.MonkeyPatch, files: int, accepted: int
) -> None:
    set_limits: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: (min(files, 1024), files))
    monkeypatch.setattr(resource, "setrlimit", lambda _, limits: set_limits.append(limits))
    assert raise_open_files_limit().max_connections == accepted
    assert set_limits == ([] if files <= 1024 else [(files, files)])


PROGRAM = """
import asyncio, contextlib, sys
from dataclasses import replace
from batuta.service import runner
from fastapi import Request
from batuta.service.app import AppConfig, create_app
from batuta.service.runner import run_service, set_up_logging
from batuta.service.settings import ServiceSettings

class Thing:
    app = create_app(AppConfig(name="thing", description="A thing."))
    async def run(self):
        await asyncio.Event().wait()

@Thing.app.post("/file")
async def take(request: Request):
    return len(await request.body())

@contextlib.asynccontextmanager
async def open_thing(settings, url):
    yield Thing()

given = {name: float(value) for name, value in (each.split("=") for each in sys.argv[1:])}
limits = replace(runner.raise_open_files_limit(), **given)
runner.raise_open_files_limit = lambda: limits
set_up_logging()
run_service("thing", ServiceSettings(port=0), open_thing)
"""


FILES = 400
"""That the process may have open: fewer than its clients."""


@contextlib.contextmanager
def limited_service(log: Path, *arguments: str) -> Iterator[str]:
    """Run a service that may have `FILES` open, and yield the address of its file."""
    limited = f'ulimit -n {FILES}; exec "$0" -c "$@"'
    with (
        log.open("w") as stderr,
        subprocess.Popen(
            ["sh", "-c", limited, sys.executable, PROGRAM, *arguments],
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        ) as process,
    ):
        assert process.stdout is not None
        try:
            yield process.stdout.readline().split()[-1] + "/file"
        finally:
            process.terminate()
            assert process.wait(30) == 0
    lines = log.read_text().splitlines()
    assert len(lines) < 50, lines
    assert not any(re.search("Traceback|out of system resource", line) for line in lines)


async def test_a_burst_of_more_clients_than_open_files_is_answered_whole(tmp_path: Path) -> None:
    raise_open_files_limit()
    # On a busy machine, it takes a while until each of so many clients of one process has its turn
    # to send what it wants.
    with limited_service(tmp_path / "log", "silent_s=60", "full_s=90") as url:
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(connector=connector) as session:

            async def send() -> int:
                async with session.post(url, data=b"abc") as answer:
                    return answer.status

            assert set(await asyncio.gather(*(send() for _ in range(2 * FILES)))) == {200}


def test_a_crowd_leaves_a_service_answering_and_its_log_short(tmp_path: Path) -> None:
    """More slow uploads than the process may have files open."""
    log = tmp_path / "log"
    with limited_service(log, "full_s=0.2") as url, contextlib.ExitStack() as crowd:
        address = httpx.URL(url)
        slow = [crowd.enter_context(slow_upload(address)) for _ in range(2 * FILES)]
        assert {status_of(url) for _ in range(20)} == {503}
        for one in slow:
            one.close()
        assert eventually_sync(lambda: status_of(url) == 200)
    assert "as many as accepted: more are refused" in log.read_text()


def slow_upload(address: httpx.URL) -> socket.socket:
    one = socket.create_connection((address.host, address.port or 0))
    with contextlib.suppress(ConnectionError):
        one.sendall(HEAD)
    return one


def status_of(url: str) -> int:
    return httpx.post(url, content=b"abc").status_code


async def test_what_follows_a_body_is_bounded_as_a_head() -> None:
    """The parser keeps trailers and what chunks say of themselves, however many there are."""
    async with served(make_app()[0]) as url:
        for endless in (b"A: b\r\n", b"x"):
            reader, writer = await connect(url)
            writer.write(
                b"POST /file HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
            )
            writer.write(b"1\r\n1\r\n0\r\nA: ")
            sending = asyncio.create_task(send_for_ever(writer, endless * 1000))
            answer = await asyncio.wait_for(reader.read(), 20)
            assert b" 431 " in answer
            sending.cancel()
            writer.close()


async def send_for_ever(writer: asyncio.StreamWriter, data: bytes) -> None:
    with contextlib.suppress(ConnectionError):
        while True:
            writer.write(data)
            await writer.drain()


async def test_an_upgrade_of_the_protocol_is_not_offered_and_takes_no_place(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # As where a library of WebSockets is installed, which uvicorn would find.
    name = "uvicorn.protocols.websockets.auto.AutoWebSocketsProtocol"
    monkeypatch.setattr(name, asyncio.Protocol)
    upgrade = (
        b"GET /file HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    async with served(make_app()[0]) as url:
        for _ in range(SHORT.max_connections + 1):
            reader, writer = await connect(url)
            writer.write(upgrade)
            assert (await asyncio.wait_for(reader.readline(), 10)).startswith(b"HTTP/1.1 200")
            writer.close()
        async with httpx.AsyncClient(timeout=10) as client:
            assert (await client.post(f"{url}/file", content=b"1")).json() == 1
