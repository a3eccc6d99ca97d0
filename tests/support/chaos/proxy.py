"""A network that can be cut: each link is a TCP proxy between one service and another."""

import asyncio
import contextlib
import socket
from typing import Final, Literal

State = Literal["open", "cut", "stall", "mute"]
CHUNK_BYTES: Final = 2**16


class Link:
    """A proxy on a port of this machine, in front of a server.

    Parameters
    ----------
    target : int or str
        The port of the server on this machine, or the path of its socket.
    """

    def __init__(self, target: int | str) -> None:
        self._target = target
        self._sock = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._sock.getsockname()[1]
        self._state: State = "open"
        self._flows = asyncio.Event()
        self._flows.set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None

    async def open(self) -> None:
        """Begin to accept connections."""
        self._server = await asyncio.start_server(self._accept, sock=self._sock)

    async def close(self) -> None:
        """End all connections, and accept no more."""
        if self._server is not None:
            self._server.close()
        self._flows.set()
        self._reset()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def set(self, state: State) -> None:
        """Cut it, stall it, lose what answers, or open it again."""
        before, self._state = self._state, state
        if state == "stall":
            self._flows.clear()
        else:
            self._flows.set()
        # Of a stream that has lost bytes nothing more can be made sense of.
        if state == "cut" or before == "mute":
            self._reset()

    def _reset(self) -> None:
        for writer in self._writers:
            writer.transport.abort()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._state == "cut":
            writer.transport.abort()
            return
        try:
            there, back = await self._connect()
        except OSError:
            writer.transport.abort()
            return
        self._writers |= {writer, back}
        pumps = {
            asyncio.create_task(self._pump(reader, back, answers=False)),
            asyncio.create_task(self._pump(there, writer, answers=True)),
        }
        self._tasks |= pumps
        try:
            await asyncio.wait(pumps)
        finally:
            self._tasks -= pumps
            self._writers -= {writer, back}
            for each in (writer, back):
                each.close()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if isinstance(self._target, str):
            return await asyncio.open_unix_connection(self._target)
        return await asyncio.open_connection("127.0.0.1", self._target)

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, answers: bool
    ) -> None:
        try:
            while chunk := await reader.read(CHUNK_BYTES):
                await self._flows.wait()
                if answers and self._state == "mute":
                    continue
                writer.write(chunk)
                await writer.drain()
            await self._flows.wait()
        except OSError:
            writer.transport.abort()
            return
        with contextlib.suppress(OSError, RuntimeError):
            # The other direction may go on: a request may be complete before its answer begins.
            if writer.can_write_eof():
                writer.write_eof()
