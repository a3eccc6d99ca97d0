"""What holds for every request and every answer of a service, whatever its route.

- A body is bounded: FastAPI reads it whole before it looks at it.
- An answer is data to a browser. Whatever was imported, logged or sent back, it is not taken for
  another type, runs nothing, and is not loaded by pages of other origins; routes that answer with
  a page of their own say what that may do.
"""

from http import HTTPStatus
from typing import Final

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from batuta.service.problems import SAFE_HEADERS

MAX_BODY_BYTES: Final = 2**24
"""Of a request that is read whole: a thousand orders take a megabyte."""
_BOUND: Final = "batuta.body_bound"
_RAW_HEADERS: Final = tuple(
    (name.lower().encode(), value.encode()) for name, value in SAFE_HEADERS.items()
)


class Guard:
    """ASGI middleware that bounds what is received, and makes answers safe for browsers."""

    def __init__(self, app: ASGIApp, max_body_bytes: int = MAX_BODY_BYTES) -> None:
        self._app = app
        self._max_body_bytes = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        bound = scope[_BOUND] = _Bound(self._max_body_bytes, receive, scope)

        async def send_safely(message: Message) -> None:
            if message["type"] == "http.response.start":
                given = {name.lower() for name, _ in message["headers"]}
                more = [each for each in _RAW_HEADERS if each[0] not in given]
                message = {**message, "headers": [*message["headers"], *more]}
            await send(message)

        await self._app(scope, bound.receive, send_safely)


def lift_body_bound(scope: Scope) -> None:
    """Let a route receive more than `MAX_BODY_BYTES`, as it reads piece by piece."""
    bound: _Bound | None = scope.get(_BOUND)
    if bound is not None:
        bound.max_bytes = None


class _Bound:
    """Counts what a request has brought."""

    def __init__(self, max_bytes: int, receive: Receive, scope: Scope) -> None:
        self.max_bytes: int | None = max_bytes
        self._max_bytes = max_bytes
        self._receive = receive
        self._scope = scope
        self._received: int | None = None

    async def receive(self) -> Message:
        """Receive more.

        Raises
        ------
        HTTPException
            413, if that is too much: before any of it is received, if its length is known.
        """
        if self.max_bytes is None:
            return await self._receive()
        if self._received is None:
            length = Headers(scope=self._scope).get("content-length", "")
            self._received = 0
            self._check(int(length) if length.isdigit() else 0)
        message = await self._receive()
        self._received += len(message.get("body", b""))
        self._check(self._received)
        return message

    def _check(self, size_bytes: int) -> None:
        if size_bytes > self._max_bytes:
            raise HTTPException(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                f"body: at most {self._max_bytes} bytes accepted",
            )
