"""Calls of other services from an event loop: connections that are kept, answers that are bounded.

The one place that knows aiohttp. httpx, which the clients without an event loop use, scans its
whole pool at each request and each end of one, so that what a request costs grows with their
number; with aiohttp it does not.
"""

import asyncio
import os
import ssl
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Final

import aiohttp
from yarl import URL

from batuta.errors import one_line
from batuta.service.client import ServiceError, auth_headers, refusal, tls_context
from batuta.tls import tls_reason

KEPT_OPEN_S: Final = 4.0
"""How long an idle connection is kept: services of ours close theirs after 5 s, and a request that
leaves while its connection is being closed is lost."""
MAX_FIELD_BYTES: Final = 65_536
"""The longest line of the head of an answer."""

MAX_REFUSAL_BYTES: Final = 65_536


@dataclass(frozen=True, kw_only=True)
class PoolTimeouts:
    """How long to wait for a connection, and for each part of an answer, in seconds."""

    connect_s: float
    read_s: float


@dataclass(frozen=True, slots=True)
class Answer:
    """A successful answer, read; the names of its headers have no case."""

    status: int
    headers: Mapping[str, str]
    content: bytes


@dataclass(frozen=True, slots=True)
class StreamedAnswer:
    """A successful answer whose body is read as it comes; `chunks` raises `ServiceError`."""

    headers: Mapping[str, str]
    chunks: AsyncIterator[bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class ForwardedRequest:
    """A request of another client, to be sent on as it came; `token` is shown in its name."""

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes | None = None
    token: str | None = None


class HttpPool:
    """Connections to services, whatever their number; made by `open_pool`."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session

    async def send(
        self,
        service: str,
        method: str,
        url: str,
        *,
        body: bytes | None = None,
        max_bytes: int,
        max_s: float,
    ) -> Answer:
        """Send a request and return the successful answer, if it is neither long nor slow.

        Parameters
        ----------
        service : str
            Who is called, for messages.
        method, url : str
            What is called; redirects are not followed.
        body : bytes, optional
            JSON.
        max_bytes, max_s : int, float
            How long the body of the answer may be, and how many seconds all of it may take.

        Raises
        ------
        ServiceError
            If it cannot be reached, takes longer, answers more, or refuses.
        """
        try:
            # The timeouts of the session are for each read: an answer that drips would pass them.
            async with asyncio.timeout(max_s):
                answer = await self._exchange(service, method, url, body, max_bytes)
        except TimeoutError as exc:
            raise ServiceError(
                f"{service}: {method} {url} was not answered within {max_s:g} s"
            ) from exc
        if 200 <= answer.status < 300:
            return answer
        raise refusal(service, answer.status, answer.headers, answer.content)

    @asynccontextmanager
    async def stream(
        self, service: str, url: str, params: Mapping[str, int]
    ) -> AsyncIterator[StreamedAnswer]:
        """Get an answer of any length, which is open for as long as the block runs.

        Raises
        ------
        ServiceError
            If the service cannot be reached, or refuses.
        """
        with _translated(service, url):
            response = await self._session.get(
                url, params=dict(params), allow_redirects=False, ssl=_tls_of(url)
            )
        async with response:
            if not 200 <= response.status < 300:
                content = await _bounded_content(service, response, MAX_REFUSAL_BYTES)
                raise refusal(service, response.status, response.headers, content)
            yield StreamedAnswer(response.headers, _chunks(service, url, response))

    @asynccontextmanager
    async def forward(
        self, service: str, request: ForwardedRequest
    ) -> AsyncIterator[tuple[int, StreamedAnswer]]:
        """Send a request of another client, and give its answer, whatever its status.

        Raises
        ------
        ServiceError
            If the service cannot be reached.
        """
        shown = (
            {**auth_headers(request.token), **request.headers} if request.token else request.headers
        )
        with _translated(service, request.url):
            response = await self._session.request(
                request.method,
                URL(request.url, encoded=True),
                data=request.body,
                headers=shown,
                allow_redirects=False,
                ssl=_tls_of(request.url),
            )
        async with response:
            answer = StreamedAnswer(response.headers, _chunks(service, request.url, response))
            yield response.status, answer

    async def _exchange(
        self, service: str, method: str, url: str, body: bytes | None, max_bytes: int
    ) -> Answer:
        with _translated(service, url):
            async with self._session.request(
                method,
                url,
                data=body,
                headers=_JSON if body is not None else None,
                allow_redirects=False,
                ssl=_tls_of(url),
            ) as response:
                content = await _bounded_content(service, response, max_bytes)
                return Answer(response.status, response.headers, content)


def _tls_of(url: str) -> ssl.SSLContext | bool:
    return tls_context() if url.startswith("https") else True


@contextmanager
def _translated(service: str, url: str) -> Iterator[None]:
    """Turn what aiohttp raises inside into a `ServiceError` that names `service`."""
    try:
        yield
    except (aiohttp.InvalidURL, aiohttp.NonHttpUrlClientError) as exc:
        error = ServiceError(
            f"{service}: {url!r} is not a URL (accepted: http://HOST:PORT/..., https://...)"
        )
        error.unreachable = True
        raise error from exc
    # A timeout of a connection or of a read is one of these as well, and not that of `send`.
    except aiohttp.ClientError as exc:
        reason = tls_reason(exc) or _reason(exc)
        error = ServiceError(f"{service} at {url} cannot be reached: {reason}")
        error.unreachable = isinstance(exc, _NOT_CONNECTED)
        raise error from exc


async def _chunks(service: str, url: str, response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    with _translated(service, url):
        async for chunk in response.content.iter_any():
            yield chunk


def _reason(exc: aiohttp.ClientError) -> str:
    """Return what went wrong, without the address and the options that aiohttp repeats."""
    if isinstance(exc, aiohttp.ClientConnectorError) and (exc.errno or 0) > 0:
        return os.strerror(exc.errno or 0)
    if isinstance(exc, aiohttp.ClientResponseError):  # aiohttp below 3.11 does not say why
        return ": ".join(filter(None, ("its answer is not valid HTTP", one_line(exc.message))))
    told = getattr(exc, "message", None) or getattr(exc, "strerror", None) or exc
    return one_line(told) or type(exc).__name__


async def _bounded_content(service: str, response: aiohttp.ClientResponse, max_bytes: int) -> bytes:
    encoding = response.headers.get("Content-Encoding", "identity")
    if encoding != "identity":
        raise ServiceError(f"{service}: Content-Encoding {encoding!r:.80} (accepted: none)")
    content = bytearray()
    async for chunk in response.content.iter_any():
        content += chunk
        if len(content) > max_bytes:
            raise ServiceError(f"{service}: its answer is longer than {max_bytes} bytes")
    return bytes(content)


@asynccontextmanager
async def open_pool(
    token: str | None, timeouts: PoolTimeouts, *, reuse: bool = True
) -> AsyncIterator[HttpPool]:
    """Open a pool whose requests show `token`, and neither keep nor send cookies.

    Without `reuse`, each request has a connection of its own: over one that is reused, it is lost
    if the service closes it meanwhile, as some do after each answer without saying so.
    """
    connector = (
        aiohttp.TCPConnector(limit=0, keepalive_timeout=KEPT_OPEN_S)
        if reuse
        else aiohttp.TCPConnector(limit=0, force_close=True)
    )
    async with aiohttp.ClientSession(
        connector=connector,
        headers={"Accept-Encoding": "identity", **auth_headers(token)},
        # Those of one service would be sent to the others on its host: ports do not tell apart.
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(
            total=None, sock_connect=timeouts.connect_s, sock_read=timeouts.read_s
        ),
        trust_env=False,
        auto_decompress=False,
        max_line_size=MAX_FIELD_BYTES,
        max_field_size=MAX_FIELD_BYTES,
    ) as session:
        yield HttpPool(session)


_NOT_CONNECTED: Final = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)
_JSON: Final = {"Content-Type": "application/json"}
