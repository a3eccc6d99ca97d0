"""HTTP between simulated processes: requests that are slow, refused, or cut before or after."""

import asyncio
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from starlette.types import ASGIApp

from tests.support.simulation.loop import PROCESS, Process, SimulationLoop, checkpoint

LATENCY_S: Final = 0.01
SLOW_S: Final = 1.5
"""What one message in thirty takes at most."""
LOST_S: Final = 3600.0
"""How long whoever waits for what is lost would wait."""


class RefusedError(ConnectionError):
    """There is nobody at that address, or it cannot be reached."""


class CutError(ConnectionError):
    """The connection was cut after the request was sent: whether it was executed is unknown."""


@dataclass(frozen=True)
class Answer:
    """An answer that was read to its end."""

    status: int
    headers: list[tuple[str, str]]
    content: bytes


@dataclass(eq=False)
class Server:
    """A process that answers at an address."""

    process: Process
    app: ASGIApp
    answering: dict["asyncio.Future[Answer]", None] = field(default_factory=dict)


class Network:
    """All connections between processes.

    Parameters
    ----------
    loop : SimulationLoop
        Where time passes.
    is_faulty : callable
        Whether a fault of this kind is to happen to what a process does now.
    separated : callable
        How two processes are separated: "cut", "partition", or "".
    note : callable
        Records what happens.
    on_defect : callable
        Called with what a service did not expect: it answers 500, and whoever asked may go on.
    """

    def __init__(
        self,
        loop: SimulationLoop,
        is_faulty: Callable[[str, str], bool],
        separated: Callable[[str, str], str],
        note: Callable[[str], None],
        on_defect: Callable[[str], None],
    ) -> None:
        self._on_defect = on_defect
        self._loop = loop
        self._is_faulty = is_faulty
        self._separated = separated
        self._note = note
        self._servers: dict[int, Server] = {}
        self._names: dict[int, str] = {}

    def name(self, port: int, name: str) -> None:
        """Record whose a port is, whether it listens or not."""
        self._names[port] = name

    def listen(self, port: int, process: Process, app: ASGIApp) -> None:
        """Answer at a port, until the process is killed or `close` is called."""
        server = Server(process, app)
        self._servers[port] = server
        process.on_kill.append(lambda: self._break(port, server))

    def listens(self, port: int) -> bool:
        """Return whether anybody answers at a port."""
        return port in self._servers

    def close(self, port: int) -> None:
        """Stop answering at a port."""
        if port in self._servers:
            self._break(port, self._servers[port])

    def delay_s(self) -> float:
        """Draw how long a message takes."""
        chance = self._loop.chance
        return chance.random() * (SLOW_S if chance.random() < 0.03 else LATENCY_S)

    async def request(
        self, method: str, url: str, headers: list[tuple[str, str]], body: bytes
    ) -> Answer:
        """Send a request; raise `RefusedError` or `CutError` if there is no answer."""
        client = PROCESS.get()
        assert client is not None, "simulation: a request of nobody"
        if client.ended:
            raise RefusedError("the simulation has ended")
        parts = urlsplit(url)
        port = parts.port or 80
        target = self._names.get(port, "nobody")
        what = f"{client} -> {target} {method} {parts.path}"
        await checkpoint(self._loop, "request")
        await asyncio.sleep(self.delay_s())
        server = await self._reach(client, port, target, what)
        if self._is_faulty("lost_request", client.name):
            self._note(f"{what}: cut before it is executed")
            raise CutError("connection reset before the request was executed")
        answer = self._answer(server, method, url, headers, body)
        cut = self._is_faulty("lost_answer", client.name)
        try:
            answered = await asyncio.shield(answer)
        except asyncio.CancelledError:
            if answer.cancelled():
                raise CutError("connection reset by the other side") from None
            raise
        if cut or self._separated(client.name, target):
            self._note(f"{what}: executed, its answer {answered.status} is lost")
            raise CutError("connection reset before the answer was read")
        await asyncio.sleep(self.delay_s())
        self._note(f"{what}: {answered.status}")
        await checkpoint(self._loop, "answer")
        return answered

    async def _reach(self, client: Process, port: int, target: str, what: str) -> Server:
        separated = self._separated(client.name, target)
        if separated == "cut":
            self._note(f"{what}: disappears")
            await asyncio.sleep(LOST_S)
        server = self._servers.get(port)
        if separated or server is None:
            self._note(f"{what}: refused")
            raise RefusedError(111, "Connection refused")
        return server

    def _answer(
        self, server: Server, method: str, url: str, headers: list[tuple[str, str]], body: bytes
    ) -> "asyncio.Future[Answer]":
        """Answer a request in the process of its server, which goes on without the client."""
        answer: asyncio.Future[Answer] = self._loop.create_future()
        server.answering[answer] = None

        async def work() -> None:
            await checkpoint(self._loop, "asked")
            try:
                found = await call_app(server.app, method, url, headers, body)
            except Exception as exc:  # noqa: BLE001  as a server does: it answers 500
                if server.process.alive:
                    self._on_defect(f"{server.process} {method} {url}: {exc!r:.300}")
                found = Answer(500, [], repr(exc).encode())
            await checkpoint(self._loop, "answered")
            server.answering.pop(answer, None)
            if not answer.done():
                answer.set_result(found)

        self._loop.spawn(server.process, work())
        return answer

    def _break(self, port: int, server: Server) -> None:
        if self._servers.get(port) is server:
            del self._servers[port]
        for answer in server.answering:
            answer.cancel()
        server.answering.clear()


async def call_app(
    app: ASGIApp, method: str, url: str, headers: list[tuple[str, str]], body: bytes
) -> Answer:
    """Call an application as a server does."""
    parts = urlsplit(url)
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": unquote(parts.path),
        "raw_path": parts.path.encode(),
        "root_path": "",
        "query_string": parts.query.encode(),
        "headers": [(b"host", parts.netloc.encode())]
        + [(name.lower().encode(), value.encode()) for name, value in headers],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", parts.port or 80),
        "extensions": {},
    }
    received = iter([{"type": "http.request", "body": body, "more_body": False}])
    status, sent, content = 0, [("date", formatdate(usegmt=True))], bytearray()

    async def receive() -> MutableMapping[str, Any]:
        return next(received, {"type": "http.disconnect"})

    async def send(message: MutableMapping[str, Any]) -> None:
        nonlocal status
        if message["type"] == "http.response.start":
            status = message["status"]
            sent.extend((name.decode(), value.decode()) for name, value in message["headers"])
        else:
            content.extend(message.get("body", b""))

    await app(scope, receive, send)
    return Answer(status, sent, bytes(content))
