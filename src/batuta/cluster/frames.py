"""Messages between the main process and its workers.

A message is a pickle and, apart from it, the buffers of its arrays, which are so copied once by the
sender and once by the receiver, straight into their place.
"""

import pickle
import socket
import struct
from collections.abc import Iterator, Sequence
from typing import Any, Final, TypeAlias

_HEADER: Final = struct.Struct("<QI")
"""Bytes of the pickle; number of buffers, whose sizes follow."""
_CHUNK_BYTES: Final = 1 << 16
_MAX_PIECES: Final = 64
"""What one system call sends: less than any system's limit."""

Piece: TypeAlias = bytes | memoryview


def framed(message: object) -> list[Piece]:
    """Give what to send for `message`: `pickle.PickleBuffer` in it travel apart."""
    buffers: list[memoryview] = []
    body = pickle.dumps(
        message, protocol=5, buffer_callback=lambda buffer: buffers.append(buffer.raw())
    )
    sizes = [buffer.nbytes for buffer in buffers]
    header = _HEADER.pack(len(body), len(sizes)) + struct.pack(f"<{len(sizes)}Q", *sizes)
    return [header + body, *buffers]


def send(link: socket.socket, pieces: Sequence[Piece]) -> None:
    """Send all pieces, whole; waits as long as it takes."""
    waiting = [memoryview(piece) for piece in pieces]
    while waiting:
        sent = link.sendmsg(waiting[:_MAX_PIECES])
        while waiting and sent >= waiting[0].nbytes:
            sent -= waiting.pop(0).nbytes
        if sent:
            waiting[0] = waiting[0][sent:]


class Reader:
    """Reads the messages of one socket, as many as are there at each go."""

    def __init__(self, link: socket.socket) -> None:
        self._link = link
        self._pending = bytearray()
        """Received, and not yet part of a message that is whole."""
        self._body: bytes | None = None
        """Of the message whose buffers are awaited."""
        self._buffers: list[bytearray] = []
        self._filled = 0
        """Bytes of the first buffer that is not whole."""
        self._next = 0

    def messages(self, *, wait: bool = True) -> Iterator[Any]:
        """Receive once and give the messages that are whole.

        Raises
        ------
        EOFError
            If the other side has closed, or died.
        BlockingIOError
            If nothing is there, and `wait` is false.
        """
        flags = 0 if wait else socket.MSG_DONTWAIT
        try:
            received = self._receive(flags)
        except ConnectionResetError:
            received = 0
        if not received:
            raise EOFError
        return self._whole()

    def _receive(self, flags: int) -> int:
        """Receive straight into the buffer that is awaited, if there is one."""
        if self._body is not None and not self._pending:
            room = memoryview(self._buffers[self._next])[self._filled :]
            received = self._link.recv_into(room, flags=flags)
            self._filled += received
            return received
        content = self._link.recv(_CHUNK_BYTES, flags)
        self._pending += content
        return len(content)

    def _whole(self) -> Iterator[Any]:
        while self._has_header() and self._fill():
            body, buffers = self._body or b"", self._buffers
            self._body, self._buffers, self._next = None, [], 0
            yield pickle.loads(body, buffers=buffers)  # noqa: S301 - from a process of ours

    def _has_header(self) -> bool:
        """Take the pickle of the next message, if it is whole."""
        if self._body is not None:
            return True
        if len(self._pending) < _HEADER.size:
            return False
        length, count = _HEADER.unpack_from(self._pending)
        begin = _HEADER.size + 8 * count
        if len(self._pending) < begin + length:
            return False
        sizes = struct.unpack_from(f"<{count}Q", self._pending, _HEADER.size)
        self._body = bytes(self._pending[begin : begin + length])
        self._buffers = [bytearray(size) for size in sizes]
        self._filled = 0
        del self._pending[: begin + length]
        return True

    def _fill(self) -> bool:
        """Fill the buffers with what is there; whether all are full."""
        while self._next < len(self._buffers):
            buffer = self._buffers[self._next]
            taken = min(len(buffer) - self._filled, len(self._pending))
            buffer[self._filled : self._filled + taken] = self._pending[:taken]
            del self._pending[:taken]
            self._filled += taken
            if self._filled < len(buffer):
                return False
            self._next += 1
            self._filled = 0
        return True
