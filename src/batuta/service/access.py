"""Who may call a service, and how: the right token, and no web page of another origin.

A service without a token listens on loopback only, but the browser of its user can reach it from
any web page. So every request is checked for what a page cannot forge:

- ``Origin``, which browsers send with every request of another origin that may change something
  (Fetch standard, "HTTP extensions"), must name the service itself.
- ``Host`` must name this machine where there is no token: a page whose name is made to resolve to
  127.0.0.1 ("DNS rebinding") is of the same origin for the browser, under a name of its own.
"""

import hmac
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Final
from urllib.parse import SplitResult, urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from batuta.service.problems import ProblemError, problem_response
from batuta.service.settings import is_loopback

PROVED_OPERATOR: Final = "proved_operator"
"""In the state of a request: the operator whose token came with it."""
_SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})


@dataclass(frozen=True, kw_only=True)
class AccessRules:
    """Who may call.

    Parameters
    ----------
    token : str or None
        Required as ``Authorization: Bearer`` if set.
    open_paths : set of str
        Paths that need no token, such as ``/health``.
    open_prefixes : tuple of str
        How paths start that need no token, since they hold one of their own.
    operator_tokens : mapping
        Tokens of single operators, by their names: each opens what `token` does, and proves who
        calls.
    protected_prefixes : tuple of str
        How the paths start that need a token, if not all do: the others are for everybody to read.
    admits : callable, optional
        Tells by its headers whether a request may come without a token.
    """

    token: str | None
    open_paths: AbstractSet[str]
    open_prefixes: tuple[str, ...] = ()
    operator_tokens: Mapping[str, str] = field(default_factory=dict)
    protected_prefixes: tuple[str, ...] = ()
    admits: Callable[[Headers], bool] | None = None

    def need_token(self, scope: Scope) -> bool:
        """Return whether a request needs a token, by its path and method."""
        path = scope["path"]
        if path in self.open_paths or path.startswith(self.open_prefixes):
            return False
        if not self.protected_prefixes:
            return True
        return path.startswith(self.protected_prefixes) or scope["method"] not in _SAFE_METHODS


class AccessControl:
    """ASGI middleware that refuses what `AccessRules` do not allow, as problem details."""

    def __init__(self, app: ASGIApp, rules: AccessRules) -> None:
        self._app = app
        self._rules = rules
        self._expected = None if rules.token is None else _bearer(rules.token)
        self._operators = {name: _bearer(each) for name, each in rules.operator_tokens.items()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it."""
        if scope["type"] == "http":
            try:
                self._check(scope)
            except ProblemError as exc:
                refusal = problem_response(exc.status, exc.detail, exc.headers)
                await refusal(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _check(self, scope: Scope) -> None:
        headers = Headers(scope=scope)
        _check_text(scope)
        host = headers.get("host", "")
        operator = self._operator(headers)
        if operator is not None:
            scope.setdefault("state", {})[PROVED_OPERATOR] = operator
        if self._expected is None:
            _check_host(host)
        elif operator is None and self._rules.need_token(scope) and not self._is_admitted(headers):
            _check_token(headers, self._expected)
        if scope["method"] not in _SAFE_METHODS:
            _check_origin(headers.getlist("origin"), host)

    def _is_admitted(self, headers: Headers) -> bool:
        return self._rules.admits is not None and self._rules.admits(headers)

    def _operator(self, headers: Headers) -> str | None:
        """Return the operator whose own token came with a request."""
        given = headers.get("authorization", "").encode()
        # All are compared, each in constant time.
        found = [name for name, each in self._operators.items() if _same(given, each)]
        return found[0] if found else None


def _bearer(token: str) -> bytes:
    return f"Bearer {token}".encode()


def _same(given: bytes, expected: bytes) -> bool:
    # In constant time: how long it takes must not reveal how much of a guess is right.
    return hmac.compare_digest(given, expected)


def _check_text(scope: Scope) -> None:
    """Refuse an address with NUL, which no name has and PostgreSQL cannot look for."""
    if "\0" in scope["path"] or b"%00" in scope.get("query_string", b""):
        raise ProblemError(HTTPStatus.UNPROCESSABLE_ENTITY, "the address contains NUL (%00)")


def _check_token(headers: Headers, expected: bytes) -> None:
    given = headers.get("authorization", "").encode()
    if not _same(given, expected):
        raise ProblemError(
            HTTPStatus.UNAUTHORIZED,
            "missing or wrong token (accepted: Authorization: Bearer TOKEN; see BATUTA_TOKEN)",
            {"WWW-Authenticate": "Bearer"},
        )


def _check_host(host: str) -> None:
    name = _split(f"//{host}").hostname or ""
    if not (is_loopback(name) or name.endswith(".localhost")):
        raise ProblemError(
            HTTPStatus.FORBIDDEN,
            f"Host {host[:80]!r}: not this machine (accepted without a token: localhost, "
            "127.0.0.1, [::1]; see BATUTA_TOKEN)",
        )


def _check_origin(origins: list[str], host: str) -> None:
    for origin in origins:
        if _split(origin).netloc != host:
            raise ProblemError(
                HTTPStatus.FORBIDDEN,
                f"Origin {origin[:80]!r}: not that of this service (accepted: {host[:80]!r}, or a "
                "client that is not a web page)",
            )


def _split(url: str) -> SplitResult:
    try:
        return urlsplit(url)
    except ValueError:  # such as "[" without "]"
        return urlsplit("")
