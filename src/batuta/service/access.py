"""Who may call a service, and how: a token with the right scope, no web page of another origin.

A service without a token listens on loopback only, but the browser of its user can reach it from
any web page. So every request is checked for what a page cannot forge:

- ``Origin``, which browsers send with every request of another origin that may change something
  (Fetch standard, "HTTP extensions"), must name the service itself.
- ``Host`` must name this machine where there is no token: a page whose name is made to resolve to
  127.0.0.1 ("DNS rebinding") is of the same origin for the browser, under a name of its own.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from http import HTTPStatus
from typing import Final
from urllib.parse import SplitResult, urlsplit

from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Receive, Scope, Send

from batuta.service.access_tokens import AccessTokens, Grant
from batuta.service.problems import ProblemError, path_of, problem_response
from batuta.service.route_scopes import EVERY_SERVICE, Needed, RouteScopes, RouteTable
from batuta.service.scopes import in_order
from batuta.service.settings import is_loopback

PROVED_OPERATOR: Final = "proved_operator"
"""In the state of a request: the operator whose token came with it."""
_HOSTS_KEPT: Final = 64
_SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_Headers = Sequence[tuple[bytes, bytes]]


@dataclass(frozen=True, kw_only=True)
class AccessRules:
    """Who may call.

    Parameters
    ----------
    tokens : AccessTokens
        What callers show as ``Authorization: Bearer``.
    routes : mapping
        Which scope each route needs.
    session_of : callable, optional
        Returns what the sender of a ``Cookie`` header may do, if it names one who has signed in.
    """

    tokens: AccessTokens
    routes: RouteTable = field(default_factory=lambda: EVERY_SERVICE)
    session_of: Callable[[str], Grant | None] | None = None

    def grant_of(self, headers: _Headers) -> Grant | None:
        """Return what the sender of a request may do; None if nothing shows who that is."""
        token = bearer_token(headers)
        grant = None if token is None else self.tokens.find(token)
        if grant is None and self.session_of is not None:
            grant = self.session_of(_header(headers, b"cookie").decode("latin-1"))
        return grant


class AccessControl:
    """ASGI middleware that refuses what `AccessRules` do not allow, as problem details."""

    def __init__(self, app: ASGIApp, rules: AccessRules) -> None:
        self._app = app
        self._rules = rules
        self._scopes = RouteScopes(rules.routes)

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
        headers: _Headers = scope["headers"]
        _check_text(scope)
        grant = self._rules.grant_of(headers)
        if grant is not None and grant.name is not None:
            scope.setdefault("state", {})[PROVED_OPERATOR] = grant.name
        if not self._rules.tokens.required:
            _check_host(_header(headers, b"host").decode("latin-1"))
        elif grant is None or not grant.is_unrestricted:
            self._check_scope(scope, grant)
        if scope["method"] not in _SAFE_METHODS:
            _check_origin(headers, _header(headers, b"host").decode("latin-1"))

    def _check_scope(self, scope: Scope, grant: Grant | None) -> None:
        needed = self._scopes.needed(scope["method"], scope["path"])
        if not needed or (grant is not None and grant.allows(needed)):
            return
        if grant is None:
            raise self._unknown(bearer_token(scope["headers"]))
        raise _forbidden(scope, grant, needed)

    def _unknown(self, token: bytes | None) -> ProblemError:
        problem = "missing token"
        if token is not None:
            problem = self._rules.tokens.expiry_of(token) or "wrong token"
        return ProblemError(
            HTTPStatus.UNAUTHORIZED,
            f"{problem} (accepted: Authorization: Bearer TOKEN; see BATUTA_TOKEN)",
            {"WWW-Authenticate": "Bearer"},
        )


def bearer_token(headers: _Headers) -> bytes | None:
    """Return the token that the headers of a request show (RFC 6750), if they show one."""
    kind, _, token = _header(headers, b"authorization").partition(b" ")
    return token.strip() or None if kind.lower() == b"bearer" else None


def scope_problem(what: str, grant: Grant, needed: Needed) -> str:
    """Return what is said to somebody whose token has no scope for something."""
    names = " or ".join(in_order(needed))
    has = ", ".join(grant.scopes)
    return f"{what}: needs a token with the scope {names} (that of {grant.name} has: {has})"


def _header(headers: _Headers, name: bytes) -> bytes:
    """Return the first header of a name, in small letters; empty if there is none."""
    for each, value in headers:
        if each == name:
            return value
    return b""


def _forbidden(scope: Scope, grant: Grant, needed: Needed) -> ProblemError:
    what = f"{scope['method']} {path_of(HTTPConnection(scope))}"
    names = " ".join(in_order(needed))
    return ProblemError(
        HTTPStatus.FORBIDDEN,
        scope_problem(what, grant, needed),
        {"WWW-Authenticate": f'Bearer error="insufficient_scope", scope="{names}"'},
    )


def _check_text(scope: Scope) -> None:
    """Refuse an address with NUL, which no name has and PostgreSQL cannot look for."""
    if "\0" in scope["path"] or b"%00" in scope.get("query_string", b""):
        raise ProblemError(HTTPStatus.UNPROCESSABLE_ENTITY, "the address contains NUL (%00)")


@lru_cache(maxsize=_HOSTS_KEPT)
def _is_this_machine(host: str) -> bool:
    name = _split(f"//{host}").hostname or ""
    return is_loopback(name) or name.endswith(".localhost")


def _check_host(host: str) -> None:
    if not _is_this_machine(host):
        raise ProblemError(
            HTTPStatus.FORBIDDEN,
            f"Host {host[:80]!r}: not this machine (accepted without a token: localhost, "
            "127.0.0.1, [::1]; see BATUTA_TOKEN)",
        )


def _check_origin(headers: _Headers, host: str) -> None:
    for origin in [value.decode("latin-1") for name, value in headers if name == b"origin"]:
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
