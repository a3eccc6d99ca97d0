"""Helpers to call another service over REST; translates the errors of httpx into ours."""

import asyncio
import os
import re
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any, Final

import httpx
from pydantic_core import from_json

from batuta.errors import BatutaError, one_line, printable, shortened

TIMEOUT: Final = httpx.Timeout(30.0, connect=5.0)
MAX_DETAIL_LENGTH: Final = 2000
"""Characters of an answer that a message quotes: more would not fit in an event."""


class ServiceError(BatutaError):
    """Another service cannot be reached, or refuses.

    Parameters
    ----------
    message : str
        One line: which service, what was requested, what it answered.
    status : int or None
        The HTTP status that it answered; None if it did not answer.
    retry_after_s : float or None
        How long to wait before the next call, in seconds.
    """

    def __init__(
        self, message: str, status: int | None = None, retry_after_s: float | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after_s = retry_after_s

    @property
    def refused(self) -> bool:
        """Whether a retry would be refused again (a 4xx except 408 and 429)."""
        return self.status is not None and 400 <= self.status < 500 and self.status not in _LATER

    def __reduce__(self) -> tuple[Any, ...]:
        """Keep all attributes when pickled."""
        return type(self), (str(self), self.status, self.retry_after_s)


_LATER: Final = frozenset({408, 429})


def auth_headers(token: str | None) -> dict[str, str]:
    """Return the headers that send `token`, or that of ``BATUTA_TOKEN``."""
    token = token or os.environ.get("BATUTA_TOKEN")
    return {"Authorization": f"Bearer {token}"} if token else {}


def tls_verification(url: str) -> ssl.SSLContext | bool:
    """Return the `verify` argument of httpx for calls to `url`.

    httpx reads the system's authorities for every client, even one that speaks plain HTTP: a
    fifth of the time that a small processing takes. Only ``https`` needs them.
    """
    return True if url.startswith("https") else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


@contextmanager
def translate_errors(service: str, url: str) -> Iterator[None]:
    """Turn what httpx raises inside into a `ServiceError` that names `service`."""
    try:
        yield
    except httpx.InvalidURL as exc:
        raise ServiceError(f"{service}: {url!r} is not a URL: {exc}") from exc
    except httpx.HTTPError as exc:
        reason = one_line(exc) or type(exc).__name__
        error = ServiceError(f"{service} at {url} cannot be reached: {reason}")
        error.unreachable = isinstance(exc, httpx.ConnectError)
        raise error from exc


def no_cookies() -> CookieJar:
    """Return a jar that keeps no cookie, for a client of services that others wrote.

    httpx keeps them all, and sends those of one service to the others on its host, whose headers
    would grow until they are refused: cookies are not told apart by port.
    """
    return CookieJar(DefaultCookiePolicy(allowed_domains=()))


async def bounded_answer(
    service: str, client: httpx.AsyncClient, request: httpx.Request, *, max_bytes: int, max_s: float
) -> httpx.Response:
    """Send a request and return the successful answer, read, if it is neither long nor slow.

    The timeouts of httpx are for each read: an answer that drips would pass them for ever.

    Parameters
    ----------
    service : str
        Who is called, for messages.
    client, request : httpx.AsyncClient, httpx.Request
        The request should ask for no compression (``Accept-Encoding: identity``).
    max_bytes, max_s : int, float
        How long the body may be, and how many seconds all of it may take.

    Raises
    ------
    ServiceError
        If it cannot be reached, takes longer, answers more, or refuses.
    """
    try:
        async with asyncio.timeout(max_s):
            with translate_errors(service, str(request.url)):
                response = await client.send(request, stream=True)
                try:
                    content = await _bounded_content(service, response, max_bytes)
                finally:
                    await response.aclose()
    except TimeoutError as exc:
        raise ServiceError(
            f"{service}: {request.method} {request.url} was not answered within {max_s:g} s"
        ) from exc
    whole = httpx.Response(response.status_code, headers=response.headers, content=content)
    return check_response(service, whole)


async def _bounded_content(service: str, response: httpx.Response, max_bytes: int) -> bytes:
    encoding = response.headers.get("content-encoding", "identity")
    if encoding != "identity":
        raise ServiceError(f"{service}: Content-Encoding {encoding!r:.80} (accepted: none)")
    content = bytearray()
    async for chunk in response.aiter_raw():
        content += chunk
        if len(content) > max_bytes:
            raise ServiceError(f"{service}: its answer is longer than {max_bytes} bytes")
    return bytes(content)


def check_response(service: str, response: httpx.Response) -> httpx.Response:
    """Return `response` if it is a success.

    Raises
    ------
    ServiceError
        With the problem's detail, if it is not. The body must have been read.
    """
    if response.is_success or response.status_code == httpx.codes.NOT_MODIFIED:
        return response
    raise ServiceError(
        f"{service}: {_detail(response)}",
        status=response.status_code,
        retry_after_s=_retry_after_s(response.headers),
    )


def answered_json(response: httpx.Response) -> Any:
    """Return the JSON of an answer; raise `ValueError` if it is none, or is nested too deeply.

    Not `Response.json`: beyond some levels that raises `RecursionError`, and it decodes lone
    surrogates, which can be neither stored nor sent. The body must have been read.
    """
    return from_json(response.content)


def answered_text(response: httpx.Response) -> str:
    """Return the start of an answer, whatever it is, as text that can be stored and printed.

    Not `Response.text`: the charset that an answer declares may be one that Python has, but that
    is none of text, such as ``hex``.
    """
    return printable(response.content[:200].decode(errors="replace"))


def _detail(response: httpx.Response) -> str:
    try:
        body = answered_json(response)
    except ValueError:
        body = None
    detail = body.get("detail") if isinstance(body, dict) else None
    text = str(detail) if detail else f"{response.status_code} {response.reason_phrase}"
    return shortened(printable(text), MAX_DETAIL_LENGTH)


def _retry_after_s(headers_: Mapping[str, str]) -> float | None:
    value = headers_.get("retry-after", "")
    return float(value) if _SECONDS.fullmatch(value) else None


_SECONDS: Final = re.compile(r"[0-9]{1,9}(\.[0-9]*)?")
