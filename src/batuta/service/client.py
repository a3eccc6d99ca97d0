"""Helpers to call another service over REST; translates the errors of httpx into ours."""

import os
import re
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cache
from typing import Any, Final, Protocol

import httpx
from pydantic_core import from_json

from batuta.errors import BatutaError, one_line, printable, shortened
from batuta.service.operators import OPERATOR_HEADER, default_operator
from batuta.tls import MINIMUM_VERSION, client_context, tls_reason, trusted_file

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
        How long the service asks to wait before the next call, in seconds, whatever number that
        is; None if it does not say.
    content : bytes
        The body of the answer.
    """

    def __init__(
        self,
        message: str,
        status: int | None = None,
        retry_after_s: float | None = None,
        content: bytes = b"",
    ) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after_s = retry_after_s
        self.content = content

    @property
    def refused(self) -> bool:
        """Whether a retry would be refused again (a 4xx except 408 and 429)."""
        return self.status is not None and 400 <= self.status < 500 and self.status not in _LATER

    def __reduce__(self) -> tuple[Any, ...]:
        """Keep all attributes when pickled."""
        return type(self), (str(self), self.status, self.retry_after_s, self.content)


_LATER: Final = frozenset({408, 429})


def auth_headers(token: str | None) -> dict[str, str]:
    """Return the headers that send `token`, or that of ``BATUTA_TOKEN``."""
    token = token or os.environ.get("BATUTA_TOKEN")
    return {"Authorization": f"Bearer {token}"} if token else {}


def operator_headers(operator: str | None = None) -> dict[str, str]:
    """Return the header that names who gives a command, by default the user of this machine."""
    return {OPERATOR_HEADER: operator or default_operator()}


def tls_context() -> ssl.SSLContext:
    """Return what all clients trust: the authorities of ``BATUTA_TLS_CA``, or those of the web.

    Raises
    ------
    ConfigurationError
        If that file cannot be read.
    """
    return client_context() if trusted_file() is not None else _context_of_the_web()


@cache
def _context_of_the_web() -> ssl.SSLContext:
    context = httpx.create_ssl_context(trust_env=False)
    context.minimum_version = MINIMUM_VERSION
    return context


def tls_verification(url: str) -> ssl.SSLContext:
    """Return the `verify` argument of httpx for calls to `url`.

    httpx reads the authorities for every client, even one that speaks plain HTTP: a fifth of the
    time that a small processing takes. Only ``https`` needs them.
    """
    return tls_context() if url.startswith("https") else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


@contextmanager
def translate_errors(service: str, url: str) -> Iterator[None]:
    """Turn what httpx raises inside into a `ServiceError` that names `service`."""
    try:
        yield
    except httpx.InvalidURL as exc:
        raise ServiceError(f"{service}: {url!r} is not a URL: {exc}") from exc
    except httpx.HTTPError as exc:
        reason = tls_reason(exc) or one_line(exc) or type(exc).__name__
        error = ServiceError(f"{service} at {url} cannot be reached: {reason}")
        error.unreachable = isinstance(exc, httpx.ConnectError | httpx.ConnectTimeout)
        raise error from exc


def check_response(service: str, response: httpx.Response) -> httpx.Response:
    """Return `response` if it is a success.

    Raises
    ------
    ServiceError
        With the problem's detail, if it is not. The body must have been read.
    """
    if response.is_success or response.status_code == httpx.codes.NOT_MODIFIED:
        return response
    raise refusal(service, response.status_code, response.headers, response.content)


def refusal(service: str, status: int, headers: Mapping[str, str], content: bytes) -> ServiceError:
    """Return what an answer that is no success means: the problem's detail, if it has one."""
    return ServiceError(
        f"{service}: {_detail(status, content)}",
        status=status,
        retry_after_s=_retry_after_s(headers),
        content=content,
    )


class HasContent(Protocol):
    """An answer whose body has been read."""

    @property
    def content(self) -> bytes:
        """The body."""


def answered_json(response: HasContent) -> Any:
    """Return the JSON of an answer; raise `ValueError` if it is none, or is nested too deeply.

    Not `Response.json`: beyond some levels that raises `RecursionError`, and it decodes lone
    surrogates, which can be neither stored nor sent.
    """
    return from_json(response.content)


def answered_text(response: HasContent) -> str:
    """Return the start of an answer, whatever it is, as text that can be stored and printed.

    Not `Response.text`: the charset that an answer declares may be one that Python has, but that
    is none of text, such as ``hex``.
    """
    return printable(response.content[:200].decode(errors="replace"))


def _detail(status: int, content: bytes) -> str:
    try:
        body = from_json(content)
    except ValueError:
        body = None
    detail = body.get("detail") if isinstance(body, dict) else None
    text = str(detail) if detail else f"{status} {httpx.codes.get_reason_phrase(status)}"
    return shortened(printable(text), MAX_DETAIL_LENGTH)


def _retry_after_s(headers_: Mapping[str, str]) -> float | None:
    """Return what ``Retry-After`` asks for: seconds, or a date (RFC 9110, 10.2.3).

    A date is compared with that of the answer, if it has one: so the clocks need not agree.
    """
    value = headers_.get("retry-after", "").strip()
    if _SECONDS.fullmatch(value):
        return float(value)
    until = _http_date(value)
    if until is None:
        return None
    sent = _http_date(headers_.get("date", "")) or datetime.now(UTC)
    return max((until - sent).total_seconds(), 0.0)


def _http_date(value: str) -> datetime | None:
    try:
        found = parsedate_to_datetime(value)
    except (ValueError, OverflowError):
        return None
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found


_SECONDS: Final = re.compile(r"[0-9]{1,300}(\.[0-9]{0,300})?")
