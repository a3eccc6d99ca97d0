"""The multipart form of an import, generated as it is sent; the file is read once, and hashed."""

import hashlib
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from batuta.errors import encodable
from batuta.json_values import text_problem
from batuta.service.client import ServiceError

READ_BYTES: Final = 2**20
_NEW_LINE: Final = b"\r\n"
_SHA256_LENGTH: Final = 64


class ImportBody:
    """The body of an import; it can be iterated again, with the same bytes.

    The digest of the file is computed while it is sent, in a field that follows it.

    Parameters
    ----------
    path : Path
        The file.
    media_type : str
        That of the file.
    fields : mapping
        The other fields.
    sha256 : str or None
        The expected digest; None sends the computed one.

    Attributes
    ----------
    started : bool
        Whether iterating has started.
    sent_sha256 : str or None
        The digest that was sent last, in lower-case hexadecimal.

    Raises
    ------
    OSError
        If the file cannot be read.
    ServiceError
        If its name cannot be sent.
    """

    def __init__(
        self, path: Path, media_type: str, fields: Mapping[str, str], sha256: str | None
    ) -> None:
        self._path = path
        self._sha256 = sha256
        self._boundary = uuid.uuid4().hex.encode()
        self._size = path.stat().st_size
        if (problem := text_problem(path.name)) is not None:
            raise ServiceError(f"file {encodable(path.name)}: its name {problem}; rename it")
        filename = path.name.translate({34: "%22", 13: "%0D", 10: "%0A"})
        kind = f"Content-Type: {media_type}".encode()
        self._before = b"".join(self._field(name, value) for name, value in fields.items())
        self._before += self._head("file", f'; filename="{filename}"') + kind + _NEW_LINE * 2
        self.started = False
        self.sent_sha256: str | None = None

    @property
    def headers(self) -> dict[str, str]:
        """The content type, and the length in bytes."""
        after = len(self._after(sha256="0" * _SHA256_LENGTH))
        return {
            "Content-Type": f"multipart/form-data; boundary={self._boundary.decode()}",
            "Content-Length": str(len(self._before) + self._size + after),
        }

    def __iter__(self) -> Iterator[bytes]:
        self.started = True
        digest = hashlib.sha256()
        yield self._before
        for piece in self._pieces():
            digest.update(piece)
            yield piece
        self.sent_sha256 = (self._sha256 or digest.hexdigest()).lower()
        yield self._after(self.sent_sha256)

    def _pieces(self) -> Iterator[bytes]:
        left = self._size
        with self._path.open("rb", buffering=0) as file:
            while piece := file.read(READ_BYTES):
                left -= len(piece)
                if left < 0:
                    break
                yield piece
        if left:
            raise ServiceError(
                f"{self._path}: its size is no longer {self._size} bytes: it changed while it "
                "was being imported; nothing was recorded"
            )

    def _after(self, sha256: str) -> bytes:
        return (
            _NEW_LINE + self._field("sha256", sha256) + b"--" + self._boundary + b"--" + _NEW_LINE
        )

    def _field(self, name: str, value: str) -> bytes:
        return self._head(name) + _NEW_LINE + value.encode() + _NEW_LINE

    def _head(self, name: str, more: str = "") -> bytes:
        disposition = f'Content-Disposition: form-data; name="{name}"{more}'
        return b"--" + self._boundary + _NEW_LINE + disposition.encode() + _NEW_LINE
