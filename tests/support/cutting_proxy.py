"""A proxy that cuts connections after so many bytes of a body, and may be slow."""

import socket
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self

PIECE_BYTES: Final = 2**16


class CuttingProxy:
    """Passes on what is sent to a port of this machine.

    Parameters
    ----------
    port : int
        Where to.
    bytes_per_s : int, optional
        How fast, at most, towards that port.

    Attributes
    ----------
    url : str
        Its address.
    passed_bytes : int
        How much was passed on to the port.
    cuts : int
        How many connections were cut.
    on_cut : callable
        Called before a connection is cut.
    """

    def __init__(self, port: int, bytes_per_s: int | None = None) -> None:
        self._port = port
        self._bytes_per_s = bytes_per_s
        self._sock = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._sock.getsockname()[1]}"
        self.passed_bytes = 0
        self.cuts = 0
        self.on_cut: Callable[[], object] = lambda: None
        self._lock = threading.Lock()
        self._limits: list[int] = []
        self._open: set[socket.socket] = set()
        self._thread = threading.Thread(target=self._accept, daemon=True)

    def cut_after(self, *sizes: int) -> None:
        """Cut the next connections that send a file, each after so many bytes of it."""
        self._limits = list(sizes)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._sock.shutdown(socket.SHUT_RDWR)
        self._sock.close()
        with self._lock:
            for each in self._open:
                _shut(each)
        self._thread.join()

    def _accept(self) -> None:
        threads = []
        while True:
            try:
                client, _ = self._sock.accept()
            except OSError:
                break
            threads.append(threading.Thread(target=self._serve, args=(client,), daemon=True))
            threads[-1].start()
        for thread in threads:
            thread.join()

    def _serve(self, client: socket.socket) -> None:
        try:
            server = socket.create_connection(("127.0.0.1", self._port))
        except OSError:
            client.close()
            return
        with self._lock:
            self._open |= {client, server}
        back = threading.Thread(target=_copy, args=(server, client), daemon=True)
        back.start()
        self._pass_on(client, server)
        for each in (client, server):
            _shut(each)
        back.join()
        with self._lock:
            self._open -= {client, server}
        client.close()
        server.close()

    def _pass_on(self, client: socket.socket, server: socket.socket) -> None:
        passed, limit = 0, None
        while piece := _receive(client):
            if limit is None and len(piece) == PIECE_BYTES and self._limits:
                limit = self._limits.pop(0)
            if limit != 0:
                try:
                    server.sendall(piece)
                except OSError:
                    return
                passed += len(piece)
                self.passed_bytes += len(piece)
            if limit is not None and passed >= limit:
                self.cuts += 1
                self.on_cut()
                return
            if self._bytes_per_s is not None:
                time.sleep(len(piece) / self._bytes_per_s)  # as a slow network


def _receive(sock: socket.socket) -> bytes:
    try:
        return sock.recv(PIECE_BYTES)
    except OSError:
        return b""


def _copy(source: socket.socket, target: socket.socket) -> None:
    while piece := _receive(source):
        try:
            target.sendall(piece)
        except OSError:
            return


def _shut(sock: socket.socket) -> None:
    try:
        sock.shutdown(socket.SHUT_RDWR)
    except OSError:  # closed by the other side
        return
