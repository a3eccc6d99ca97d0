"""The body of an import, generated as it is sent; the file is read once, and hashed."""

import hashlib
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final
from urllib.parse import quote, urlencode

from batuta.errors import encodable
from batuta.json_values import text_problem
from batuta.names import name_problem
from batuta.service.client import ServiceError

READ_BYTES: Final = 2**18
"""What a socket takes at once, about: more would be copied again and again while it is sent."""
MAX_QUERY_LENGTH: Final = 16_384
"""Longer fields are sent in a form: a service accepts heads of 64 KiB, and proxies less."""
_NEW_LINE: Final = b"\r\n"
_SHA256_LENGTH: Final = 64
_FORMS: Final = ("multipart/form-data", "application/x-www-form-urlencoded")


class ImportBody:
    """The body of an import; it can be iterated again, with the same bytes.

    It is the file itself, and its fields are in the address; where these are too long, or it has a
    quicklook, it is a form. The digest of the file is computed while it is sent, and follows it.

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
    quicklook : bytes, optional
        A picture of it, sent with it in a form.

    Attributes
    ----------
    target : str
        The path that it is to be sent to, with its query.
    headers : dict
        The content type, and the length in bytes.
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
        self,
        path: Path,
        media_type: str,
        fields: Mapping[str, str],
        sha256: str | None,
        quicklook: bytes | None = None,
    ) -> None:
        self._path = path
        self._sha256 = sha256
        self._size = path.stat().st_size
        if (problem := text_problem(path.name)) is not None:
            raise ServiceError(f"file {encodable(path.name)}: its name {problem}; rename it")
        self._form: _Form | None = None
        self._before = b""
        self.sent_sha256: str | None = None
        bare = None
        if quicklook is None:
            bare = _bare_target(path.name, media_type, fields, sha256 or "appended")
        if bare is None:
            self._form = _Form()
            self._before = self._form.before(path.name, media_type, fields, quicklook)
            media_type = self._form.media_type
        self.target = bare or "/products"
        after = len(self._after("0" * _SHA256_LENGTH))
        self.headers = {
            "Content-Type": media_type,
            "Content-Length": str(len(self._before) + self._size + after),
        }

    def __iter__(self) -> Iterator[bytes]:
        digest = hashlib.sha256()
        if self._before:
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
        if self._form is not None:
            return self._form.after(sha256)
        return b"" if self._sha256 is not None else sha256.encode()


def _bare_target(
    filename: str, media_type: str, fields: Mapping[str, str], sha256: str
) -> str | None:
    """Return the address of an import without a form; None if one is needed."""
    names = fields["product"], fields["obs_id"]
    if media_type in _FORMS or any(name_problem("", name) is not None for name in names):
        return None
    others = {name: value for name, value in fields.items() if name not in {"product", "obs_id"}}
    query = urlencode({"filename": filename, **others, "sha256": sha256})
    if len(query) > MAX_QUERY_LENGTH:
        return None
    product, obs_id = (quote(name, safe="") for name in names)
    return f"/products/{product}/{obs_id}?{query}"


class _Form:
    """A multipart form (RFC 7578), its file and its digest last."""

    def __init__(self) -> None:
        self._boundary = uuid.uuid4().hex.encode()
        self.media_type = f"multipart/form-data; boundary={self._boundary.decode()}"

    def before(
        self, filename: str, media_type: str, fields: Mapping[str, str], quicklook: bytes | None
    ) -> bytes:
        filename = filename.translate({34: "%22", 13: "%0D", 10: "%0A"})
        kind = f"Content-Type: {media_type}".encode()
        parts = [self._field(name, value.encode()) for name, value in fields.items()]
        if quicklook is not None:
            parts.append(self._field("quicklook", quicklook))
        parts += [self._head("file", f'; filename="{filename}"'), kind, _NEW_LINE * 2]
        return b"".join(parts)

    def after(self, sha256: str) -> bytes:
        return (
            _NEW_LINE
            + self._field("sha256", sha256.encode())
            + b"--"
            + self._boundary
            + b"--"
            + _NEW_LINE
        )

    def _field(self, name: str, value: bytes) -> bytes:
        return self._head(name) + _NEW_LINE + value + _NEW_LINE

    def _head(self, name: str, more: str = "") -> bytes:
        disposition = f'Content-Disposition: form-data; name="{name}"{more}'
        return b"--" + self._boundary + _NEW_LINE + disposition.encode() + _NEW_LINE
