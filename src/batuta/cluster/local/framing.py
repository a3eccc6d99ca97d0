"""Messages between the main process and its workers: pickles, each after its length."""

import pickle
import socket
import struct
from collections.abc import Iterator
from typing import Any, Final

_LENGTH: Final = struct.Struct("<Q")
_CHUNK_BYTES: Final = 1 << 20


def framed(message: object) -> bytes:
    """Return the bytes to send for `message`."""
    body = pickle.dumps(message, protocol=5)
    return _LENGTH.pack(len(body)) + body


class Reader:
    """Reads the messages of one socket, all that have arrived at a time."""

    def __init__(self, link: socket.socket) -> None:
        self._link = link
        self._pending = bytearray()

    def messages(self, *, wait: bool = True) -> Iterator[Any]:
        """Receive once and return the messages that are complete; perhaps none.

        Raises
        ------
        EOFError
            If the other side has closed, or died.
        BlockingIOError
            If nothing has arrived, and `wait` is false.
        """
        try:
            received = self._link.recv(_CHUNK_BYTES, 0 if wait else socket.MSG_DONTWAIT)
        except ConnectionResetError:
            received = b""
        if not received:
            raise EOFError
        self._pending += received
        return self._complete()

    def _complete(self) -> Iterator[Any]:
        begin = 0
        while len(self._pending) - begin >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._pending, begin)
            body = begin + _LENGTH.size
            if len(self._pending) - body < length:
                break
            begin = body + length
            yield pickle.loads(self._pending[body:begin])  # noqa: S301 - from a process of ours
        del self._pending[:begin]
