"""What the product uses of aiohttp, httpx and http.client, on the simulated network."""

import asyncio
from collections.abc import AsyncIterator, Generator, Mapping
from http.client import HTTPException
from typing import Any, Final, Self

import aiohttp
import httpx
from aiohttp.client_reqrep import ConnectionKey
from multidict import CIMultiDict

from tests.support.simulation.loop import wait
from tests.support.simulation.network import Answer, CutError, Network, RefusedError


class _Content:
    def __init__(self, content: bytes) -> None:
        self._content = content

    async def iter_any(self) -> AsyncIterator[bytes]:
        if self._content:
            yield self._content


class _Response:
    """An answer, as aiohttp's `ClientResponse` is read."""

    def __init__(self, answer: Answer) -> None:
        self.status = answer.status
        self.headers = CIMultiDict(answer.headers)
        self.content = _Content(answer.content)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close nothing."""


class _Request:
    """What aiohttp's `request` returns: awaited, or entered."""

    def __init__(self, session: "ClientSession", method: str, url: str, body: bytes) -> None:
        self._asked = session, method, url, body

    def __await__(self) -> Generator[Any, None, _Response]:
        return self._send().__await__()

    async def __aenter__(self) -> _Response:
        return await self._send()

    async def __aexit__(self, *_: object) -> None:
        """Close nothing."""

    async def _send(self) -> _Response:
        session, method, url, body = self._asked
        key = ConnectionKey("", 80, False, True, None, None, None)
        try:
            async with asyncio.timeout(session.read_s):
                answer = await session.network.request(method, url, session.headers, body)
        except RefusedError as exc:
            raise aiohttp.ClientConnectorError(key, exc) from exc
        except CutError as exc:
            raise aiohttp.ServerDisconnectedError(str(exc)) from exc
        except TimeoutError as exc:
            raise aiohttp.SocketTimeoutError("no answer in time") from exc
        return _Response(answer)


class ClientSession:
    """What `HttpPool` uses of aiohttp's session."""

    def __init__(
        self,
        network: Network,
        *,
        headers: Mapping[str, str],
        timeout: aiohttp.ClientTimeout,
        **_: object,
    ) -> None:
        self.network = network
        self.headers = list(headers.items())
        self.read_s = timeout.sock_read

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close nothing."""

    def request(
        self,
        method: str,
        url: object,
        *,
        data: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        **_: object,
    ) -> _Request:
        session = ClientSession.__new__(ClientSession)
        session.network, session.read_s = self.network, self.read_s
        length = {"content-length": str(len(data))} if data is not None else {}
        session.headers = [*self.headers, *(headers or {}).items(), *length.items()]
        return _Request(session, method, str(url), data or b"")


class Transport(httpx.BaseTransport):
    """Sends the requests of an `httpx.Client` that is used in a simulated thread."""

    def __init__(self, network: Network) -> None:
        self._network = network

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        body = b"".join(request.stream)  # type: ignore[arg-type]  # of a client that is not async
        read_s = request.extensions["timeout"]["read"]
        try:
            answer = wait(_within(read_s, self._network, request, body))
        except RefusedError as exc:
            raise httpx.ConnectError(str(exc)) from exc
        except CutError as exc:
            raise httpx.ReadError(str(exc)) from exc
        except TimeoutError as exc:
            raise httpx.ReadTimeout("no answer in time") from exc
        return httpx.Response(answer.status, headers=answer.headers, content=answer.content)


async def _within(read_s: float, network: Network, request: httpx.Request, body: bytes) -> Answer:
    headers = list(request.headers.items())
    async with asyncio.timeout(read_s):
        return await network.request(request.method, str(request.url), headers, body)


class _Socket:
    def settimeout(self, seconds: float) -> None:
        """Wait as long as the connection says."""


class _HttpAnswer:
    """An answer, as `http.client.HTTPResponse` is read."""

    def __init__(self, answer: Answer) -> None:
        self.status = answer.status
        self.length = len(answer.content)
        self._answer = answer
        self._read = 0

    def readinto(self, buffer: memoryview) -> int:
        piece = self._answer.content[self._read : self._read + len(buffer)]
        buffer[: len(piece)] = piece
        self._read += len(piece)
        return len(piece)

    def read(self, size: int) -> bytes:
        return self._answer.content[:size]

    def getheaders(self) -> list[tuple[str, str]]:
        return self._answer.headers


READ_S: Final = 60.0


class Connection:
    """What `Download` uses of `http.client.HTTPConnection`."""

    def __init__(self, network: Network, host: str, port: int, **_: object) -> None:
        self._network = network
        self._address = f"http://{host}:{port}"
        self.sock = _Socket()
        self._asked: tuple[str, str, list[tuple[str, str]]] | None = None

    def connect(self) -> None:
        """Connect when the request is sent."""

    def close(self) -> None:
        """Close nothing."""

    def request(self, method: str, path: str, headers: Mapping[str, str]) -> None:
        self._asked = method, path, list(headers.items())

    def getresponse(self) -> _HttpAnswer:
        assert self._asked is not None
        return _HttpAnswer(wait(self._send(*self._asked)))

    async def _send(self, method: str, path: str, headers: list[tuple[str, str]]) -> Answer:
        try:
            async with asyncio.timeout(READ_S):
                return await self._network.request(method, self._address + path, headers, b"")
        except CutError as exc:
            raise HTTPException(str(exc)) from exc
