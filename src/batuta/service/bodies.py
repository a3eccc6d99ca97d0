"""Large bodies of requests, received into buffers that are used again.

The ASGI way hands over pieces of what one read of a socket gives, each copied several times. Here
the socket is read into buffers of a megabyte, without a copy, while those before are worked on.
"""

import asyncio
from collections import deque
from typing import Final, Protocol

from starlette.requests import ClientDisconnect

BODY_EXTENSION: Final = "batuta.body"
"""In ``scope["extensions"]``: a function that returns a `BodyReceiver`, or None for a body that is
short, or of a length that is not known. To be called before anything of the body is received."""
BUFFER_BYTES: Final = 2**20
BUFFERS: Final = 3
"""One is being filled, one is the newest that was handed out, and one may still be worked on."""
MIN_BODY_BYTES: Final = 2**18
"""Less is not worth a change of protocol."""


Chunk = bytes | memoryview


class BodySource(Protocol):
    """The connection that a body comes from."""

    def count_received(self, size_bytes: int) -> None:
        """Count what the client has sent."""

    def pause_body(self) -> None:
        """Stop reading: all buffers are in use."""

    def resume_body(self) -> None:
        """Go on reading."""

    def body_ended(self) -> None:
        """Take the connection back: the body has ended."""

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""

    def pause_writing(self) -> None:
        """Wait before more is written."""

    def resume_writing(self) -> None:
        """Go on writing."""


class BodyReceiver(asyncio.BufferedProtocol):
    """Receives the rest of a body.

    Parameters
    ----------
    source : BodySource
        Its connection.
    received : bytes
        The beginning of the body.
    left_bytes : int
        How much more is to come.
    """

    def __init__(self, source: BodySource, received: bytes, left_bytes: int) -> None:
        self._source = source
        self._left_bytes = left_bytes
        self._filled: deque[tuple[memoryview, bytearray | None]] = deque()
        self._handed_out: deque[bytearray] = deque()
        self._free: list[bytearray] = []
        self._made = 0
        self._filling: bytearray | None = None
        self._fill = 0
        self._arrived = asyncio.Event()
        self._gone = False
        if received:
            self._filled.append((memoryview(received), None))

    async def next_chunk(self) -> memoryview:
        """Return the next part of the body; empty at its end.

        It is valid until the call after the next one: the one before may still be worked on.

        Raises
        ------
        ClientDisconnect
            If the client has gone before the end.
        """
        if len(self._handed_out) == BUFFERS - 1:
            self._free.append(self._handed_out.popleft())
            if self._left_bytes and not self._gone:
                self._source.resume_body()
        while not self._filled and self._left_bytes and not self._gone:
            self._arrived.clear()
            await self._arrived.wait()
        if not self._filled:
            if self._gone:
                raise ClientDisconnect
            return memoryview(b"")
        view, buffer = self._filled.popleft()
        if buffer is not None:
            self._handed_out.append(buffer)
        return view

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002  asyncio's signature
        """Return where the next bytes go: no further than the body."""
        if self._filling is None:
            self._filling = self._free.pop() if self._free else self._new_buffer()
        end = min(BUFFER_BYTES, self._fill + self._left_bytes)
        return memoryview(self._filling)[self._fill : end]

    def buffer_updated(self, nbytes: int) -> None:
        """Hand out a buffer once it is full, or has the end of the body."""
        self._source.count_received(nbytes)
        self._fill += nbytes
        self._left_bytes -= nbytes
        if self._fill < BUFFER_BYTES and self._left_bytes:
            return
        assert self._filling is not None  # noqa: S101  it was just written to
        self._filled.append((memoryview(self._filling)[: self._fill], self._filling))
        self._filling, self._fill = None, 0
        self._arrived.set()
        if not self._left_bytes:
            self._source.body_ended()
        elif not self._free and self._made == BUFFERS:
            self._source.pause_body()

    def disconnect(self) -> None:
        """Raise `ClientDisconnect` where the body is awaited, after all that has arrived.

        Who keeps what has arrived need not be sent it again.
        """
        if self._filling is not None and self._fill:
            self._filled.append((memoryview(self._filling)[: self._fill], self._filling))
            self._filling, self._fill = None, 0
        self._gone = True
        self._arrived.set()

    def connection_lost(self, exc: Exception | None) -> None:
        """Note that there will be no more."""
        self.disconnect()
        self._source.connection_lost(exc)

    def pause_writing(self) -> None:
        """Pass it on to the connection, whose answers wait."""
        self._source.pause_writing()

    def resume_writing(self) -> None:
        """Pass it on to the connection, whose answers go on."""
        self._source.resume_writing()

    def _new_buffer(self) -> bytearray:
        self._made += 1
        return bytearray(BUFFER_BYTES)
