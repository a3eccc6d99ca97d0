"""Downloads of files, read from the socket into one buffer, hashed and written.

The one place that knows `http.client`: httpx reads 64 KiB at a time, and copies each several times,
which takes as long as hashing them.
"""

import hashlib
import os
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection, IncompleteRead
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import httpx

from batuta.errors import one_line
from batuta.service.client import ServiceError, refusal, tls_context
from batuta.tls import tls_reason

CONNECT_S: Final = 5.0
READ_S: Final = 60.0
"""How long to wait for more of an answer, in seconds."""
BUFFER_BYTES: Final = 2**20
MAX_PROBLEM_BYTES: Final = 2**16
DOWNLOAD_ERRORS: Final = (OSError, HTTPException)
"""What a `ServiceError` comes from if the service cannot be reached."""


class Download:
    """Downloads from one service, each on a connection of its own.

    Parameters
    ----------
    service : str
        Its name, for messages.
    url : str
        Its address.
    headers : mapping
        Sent with each request.
    """

    def __init__(self, service: str, url: str, headers: Mapping[str, str]) -> None:
        self._service = service
        self._url = url
        self._headers = dict(headers)
        self._parts = urlsplit(url)

    def fetch(self, path: str, to: Path) -> str:
        """Write what is at `path` to the new file `to`, durably; return its SHA-256.

        Raises
        ------
        OSError
            If the file cannot be written.
        ServiceError
            If the service cannot be reached, or refuses.
        """
        with closing(self._connection()) as connection, to.open("xb", buffering=0) as file:
            answer = self._asked(connection, path)
            digest = hashlib.sha256()
            for piece in self._pieces(answer):
                digest.update(piece)
                written = 0
                while written < len(piece):
                    written += file.write(piece[written:])
            os.fsync(file.fileno())
        return digest.hexdigest()

    def _connection(self) -> HTTPConnection:
        host, port = self._parts.hostname or "", self._parts.port
        if self._parts.scheme == "https":
            return HTTPSConnection(host, port, timeout=CONNECT_S, context=tls_context())
        return HTTPConnection(host, port, timeout=CONNECT_S)

    def _asked(self, connection: HTTPConnection, path: str) -> HTTPResponse:
        with self._reaching(connecting=True):
            connection.connect()
        with self._reaching():
            connection.sock.settimeout(READ_S)
            connection.request("GET", self._parts.path.rstrip("/") + path, headers=self._headers)
            answer = connection.getresponse()
            if answer.status == httpx.codes.OK:
                return answer
            content = answer.read(MAX_PROBLEM_BYTES)
        headers = {name.lower(): value for name, value in answer.getheaders()}
        raise refusal(self._service, answer.status, headers, content)

    def _pieces(self, answer: HTTPResponse) -> Iterator[memoryview]:
        buffer = memoryview(bytearray(BUFFER_BYTES))
        left = answer.length
        while left is None or left:
            with self._reaching():
                count = answer.readinto(buffer)
                if not count and left:
                    raise IncompleteRead(b"", left)
            if not count:
                return
            left = None if left is None else left - count
            yield buffer[:count]

    @contextmanager
    def _reaching(self, *, connecting: bool = False) -> Iterator[None]:
        try:
            yield
        except DOWNLOAD_ERRORS as exc:
            told = getattr(exc, "strerror", None) or one_line(exc) or type(exc).__name__
            reason = tls_reason(exc) or told
            error = ServiceError(f"{self._service} at {self._url} cannot be reached: {reason}")
            error.unreachable = connecting
            raise error from exc
