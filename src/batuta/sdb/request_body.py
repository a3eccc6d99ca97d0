"""The streamed body of a request, received piece by piece."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from http import HTTPStatus
from typing import Final, TypeVar

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError
from starlette.requests import ClientDisconnect

from batuta.service.bodies import BODY_EXTENSION, BodyReceiver, Chunk
from batuta.service.problems import ProblemError

MAX_DRAIN_BYTES: Final = 64 * 2**20
"""How much of a refused body is still read, so that its sender gets to read the answer."""


M = TypeVar("M", bound=BaseModel)


class RequestBody:
    """The streamed body of a request, which knows whether its end was received."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self._ended = False
        self._receiver: BodyReceiver | None = None
        self._started = False
        self.is_cut_short = False

    async def chunks(self) -> AsyncIterator[Chunk]:
        """Yield chunks; raise `ClientDisconnect` if the client goes away before the end.

        One may be used until the next but one is received.
        """
        if not self._started:
            self._started = True
            receive = self._request.scope.get("extensions", {}).get(BODY_EXTENSION)
            self._receiver = receive() if receive is not None else None
        while not self._ended:
            yield await self._next_chunk()

    async def chunks_until(self, ended: asyncio.Event) -> AsyncIterator[Chunk]:
        """Yield chunks as `chunks`, until the end or until `ended` is set.

        Then `is_cut_short` is true.
        """
        chunks, waiting = self.chunks(), asyncio.create_task(ended.wait())
        try:
            while True:
                coming = asyncio.ensure_future(anext(chunks, None))
                await asyncio.wait([coming, waiting], return_when=asyncio.FIRST_COMPLETED)
                if not coming.done():
                    coming.cancel()
                    await asyncio.wait([coming])
                    self._ended = self.is_cut_short = True
                    return
                chunk = await coming
                if chunk is None:
                    return
                yield chunk
        finally:
            waiting.cancel()

    async def _next_chunk(self) -> Chunk:
        if self._receiver is not None:
            view = await self._receiver.next_chunk()
            self._ended = not view
            return view
        message = await self._request.receive()
        if message["type"] == "http.disconnect":
            self._ended = True
            raise ClientDisconnect
        self._ended = not message.get("more_body", False)
        body: bytes = message.get("body", b"")
        return body

    async def drain(self) -> None:
        """Read and discard more of the body: a client still writing may never read the answer."""
        drained_bytes = 0
        with suppress(ClientDisconnect):
            async for chunk in self.chunks():
                drained_bytes += len(chunk)
                if drained_bytes > MAX_DRAIN_BYTES:
                    return


def announced_bytes(request: Request) -> int:
    """Return how long the body is announced to be; 0 if it is not."""
    announced = request.headers.get("content-length", "")
    return int(announced) if announced.isdecimal() else 0


async def read_whole(request: Request, max_bytes: int, what: str) -> bytes:
    """Return the whole body of a request.

    Raises
    ------
    ProblemError
        413, if it is longer than `max_bytes`.
    ClientDisconnect
        If the client goes away before its end.
    """
    content = b""
    async for chunk in RequestBody(request).chunks():
        content += chunk
        if len(content) > max_bytes:
            raise ProblemError(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                f"{what}: larger than {max_bytes} bytes (accepted: at most that)",
            )
    return content


async def read_model(request: Request, model: type[M], max_bytes: int) -> M:
    """Return what the JSON of a request says.

    Raises
    ------
    ProblemError
        413 if it is longer than `max_bytes`, 415 if it is of another media type.
    RequestValidationError
        If it is not what `model` accepts.
    ClientDisconnect
        If the client goes away before its end.
    """
    require_type(request, "application/json")
    content = await read_whole(request, max_bytes, "body")
    try:
        return model.model_validate_json(content)
    except ValidationError as exc:
        raise RequestValidationError(exc.errors(include_url=False)) from exc


def require_type(request: Request, media_type: str) -> None:
    """Refuse a body of another media type.

    Raises
    ------
    ProblemError
        415.
    """
    kind = request.headers.get("content-type", "")
    if kind.partition(";")[0].strip().lower() != media_type:
        raise ProblemError(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            f"Content-Type: {kind[:80]!r} (accepted: {media_type})",
        )
