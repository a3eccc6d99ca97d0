"""Passes requests of the page on to the conductor and to the sdb, in the name of who has signed in.

The page has one origin, so that browsers let nobody else's page do anything, and one address, so
that only the dashboard must be reachable from a desk.
"""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack
from http import HTTPStatus
from typing import Final
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from batuta.service.client import ServiceError
from batuta.service.http_pool import ForwardedRequest, HttpPool, StreamedAnswer
from batuta.service.operators import OPERATOR_HEADER, default_operator, is_operator_name
from batuta.service.problems import ANSWER_POLICY, problem_response

PREFIX: Final = "/api"
MAX_BODY_BYTES: Final = 2**20
"""Of orders: products are imported at the sdb itself."""
_METHODS: Final = ("GET", "POST", "PUT", "PATCH", "DELETE")
_SENT_ON: Final = ("accept", "content-type", "if-none-match", "range", "last-event-id")
_ANSWERED: Final = (
    "content-type",
    "content-length",
    "content-disposition",
    "content-range",
    "accept-ranges",
    "cache-control",
    "etag",
    "location",
    "retry-after",
)


class Gateway:
    """Passes requests on.

    Parameters
    ----------
    pool : HttpPool
        By which services are called.
    services : mapping
        Their addresses, by the first part of the path under `PREFIX`.
    token_of : callable
        Returns the token that is shown to a service in the name of a request's sender; None for
        none.
    """

    def __init__(
        self,
        pool: HttpPool,
        services: Mapping[str, str],
        token_of: Callable[[Request], str | None],
    ) -> None:
        self._pool = pool
        self._services = services
        self._token_of = token_of

    def route(self) -> Route:
        """Return the route of all that is passed on."""
        return Route(f"{PREFIX}/{{service}}/{{path:path}}", self._forward, methods=list(_METHODS))

    async def _forward(self, request: Request) -> Response:
        service = request.path_params["service"]
        base = self._services.get(service)
        if base is None:
            accepted = ", ".join(sorted(self._services))
            return problem_response(
                HTTPStatus.NOT_FOUND, f"service {service!r:.80}: unknown (accepted: {accepted})"
            )
        if not {".", ".."}.isdisjoint(request.path_params["path"].split("/")):
            return problem_response(HTTPStatus.NOT_FOUND, "no address has '.' or '..' in it")
        body = await _bounded_body(request)
        if body is None:
            return problem_response(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                f"body: at most {MAX_BODY_BYTES} bytes accepted",
            )
        token = self._token_of(request)
        stack = AsyncExitStack()
        try:
            status, answer = await stack.enter_async_context(
                self._pool.forward(service, _request(request, base, body, token))
            )
        except ServiceError as exc:
            await stack.aclose()
            return problem_response(HTTPStatus.BAD_GATEWAY, str(exc))
        headers = {name: answer.headers[name] for name in _ANSWERED if name in answer.headers}
        headers["Content-Security-Policy"] = ANSWER_POLICY
        headers["X-Content-Type-Options"] = "nosniff"
        return StreamingResponse(_read(answer, stack), status_code=status, headers=headers)


def _request(request: Request, base: str, body: bytes, token: str | None) -> ForwardedRequest:
    # Quoted again from what was decoded: "?" and "#" of a name stay in that name.
    path = quote(request.path_params["path"], safe="/")
    query = request.url.query
    headers = {name: request.headers[name] for name in _SENT_ON if name in request.headers}
    given = request.headers.get(OPERATOR_HEADER, "")
    if is_operator_name(given):
        headers[OPERATOR_HEADER] = given
    elif token is None:
        # Then only who uses this machine can reach it: whoever has a token may sit elsewhere.
        headers[OPERATOR_HEADER] = default_operator()
    return ForwardedRequest(
        method=request.method,
        url=f"{base}/{path}" + (f"?{query}" if query else ""),
        headers=headers,
        body=body or None,
        token=token,
    )


async def _bounded_body(request: Request) -> bytes | None:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            return None
    return bytes(body)


async def _read(answer: StreamedAnswer, stack: AsyncExitStack) -> AsyncIterator[bytes]:
    async with stack:
        async for chunk in answer.chunks:
            yield chunk
