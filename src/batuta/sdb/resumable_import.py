"""The import of a large file, which goes on where it was cut: in this process, or in the next."""

import hashlib
import json
import logging
from base64 import b64encode
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final, Literal

import httpx
from pydantic import BaseModel

from batuta.sdb.records import StoredProduct
from batuta.sdb.retries import UploadInterruptedError
from batuta.service.client import ServiceError, check_response, translate_errors

LOG: Final = logging.getLogger(__name__)

SERVICE: Final = "sdb"
READ_BYTES: Final = 2**18
CHECKPOINT_BYTES: Final = 32 * 2**20
"""How much is read again, at most, to hash the part that a cut upload goes on from."""
MAX_METADATA_LENGTH: Final = 32_768
"""Longer fields are sent in a form, which cannot be resumed: a head has 64 KiB at most."""
TIMEOUT: Final = httpx.Timeout(900.0, connect=5.0)
"""The sdb may first hash again what it has, and answers once the whole file is on its disk."""
_TUS: Final = {"Tus-Resumable": "1.0.0"}
_OFFSET: Final = "Upload-Offset"
_DIGEST_LENGTH: Final = 64
_UNKNOWN_THERE: Final = frozenset(
    {HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED}
)
"""What an sdb answers that knows no uploads; a scope that lacks is told by the import itself."""
_GONE: Final = frozenset({HTTPStatus.NOT_FOUND, HTTPStatus.GONE})
_ASK_AGAIN: Final = frozenset(
    {HTTPStatus.CONFLICT, HTTPStatus.LOCKED, HTTPStatus.REQUEST_TIMEOUT, *_GONE}
)


class NotResumableError(Exception):
    """The sdb cannot receive the file so: it is older, or too much is said of the file."""


class _State(BaseModel):
    """What is used of the state of an upload."""

    id: str
    offset: int
    state: Literal["receiving", "imported"]
    is_new: bool | None = None
    stored: StoredProduct | None = None


class _States(BaseModel):
    items: list[_State]


class ResumableImport:
    """An import by the tus protocol 1.0.

    The digest follows the file, as it is computed while that is sent.

    Parameters
    ----------
    http : httpx.Client
        A connection to the sdb.
    path : Path
        The file.
    media_type : str
        That of the file.
    fields : mapping
        The other fields.
    sha256 : str or None
        The expected digest; None sends the computed one.
    quicklook : bytes or None
        A picture of it.

    Attributes
    ----------
    offset : int
        How much of it the sdb had, when it was last asked.
    sent_sha256 : str or None
        The digest that was sent.
    """

    def __init__(
        self,
        http: httpx.Client,
        path: Path,
        media_type: str,
        fields: Mapping[str, str],
        sha256: str | None,
        quicklook: bytes | None,
    ) -> None:
        self._http = http
        self._path = path
        self._sha256 = sha256
        self._quicklook = quicklook
        self._signature = _signature_of(path)
        self._size = self._signature[0]
        self._length = self._size + (_DIGEST_LENGTH if sha256 is None else 0)
        picture = hashlib.sha256(quicklook).hexdigest() if quicklook is not None else None
        said = {**fields, "filename": path.name, "filetype": media_type}
        told = [str(path.resolve()), *self._signature, said, sha256, picture]
        self._fingerprint = hashlib.sha256(json.dumps(told).encode()).hexdigest()
        said |= {"sha256": sha256 or "appended", "fingerprint": self._fingerprint}
        self._metadata = _encoded(said)
        self._id: str | None = None
        self._hashed = _HashedFile(path)
        self.offset = 0
        self.sent_sha256: str | None = sha256.lower() if sha256 is not None else None

    def send(self) -> tuple[StoredProduct, bool]:
        """Send what the sdb does not have yet; return the record, and whether it is new.

        To be called again with the same object after a failure that may pass.

        Raises
        ------
        NotResumableError
            If the sdb cannot receive it so.
        OSError
            If the file cannot be read.
        ServiceError
            If it is refused, or the sdb cannot be reached.
        """
        if _signature_of(self._path) != self._signature:
            raise _changed(self._path, self._size)
        if self._id is None:
            self._id = self._find() or self._create()
            self._send_quicklook()
        state = self._state()
        self.offset = state.offset
        if state.state == "receiving":
            if self.offset:
                LOG.info("%s: goes on at byte %d of %d", self._path, self.offset, self._length)
            self._append()
            state = self._state()
        if state.stored is None:
            raise UploadInterruptedError(f"{SERVICE}: upload {self._id}: is not imported yet")
        if self.sent_sha256 is None:  # by a process before this one
            self.sent_sha256 = self._hashed.digest_until(self._size).hexdigest()
        return state.stored, bool(state.is_new)

    def _find(self) -> str | None:
        """Return the upload of this file that a process before this one has left."""
        found = self._ask("GET", "/uploads", params={"fingerprint": self._fingerprint})
        if found.status_code in _UNKNOWN_THERE:
            raise NotResumableError
        states = _States.model_validate_json(check_response(SERVICE, found).content)
        return next((each.id for each in states.items if each.state == "receiving"), None)

    def _create(self) -> str:
        headers = {**_TUS, "Upload-Length": str(self._length), "Upload-Metadata": self._metadata}
        created = check_response(SERVICE, self._ask("POST", "/uploads", headers=headers))
        return created.headers["location"].rpartition("/")[2]

    def _send_quicklook(self) -> None:
        if self._quicklook is not None:
            path = f"/uploads/{self._id}/quicklook"
            self._check(self._ask("PUT", path, content=self._quicklook))

    def _state(self) -> _State:
        found = self._check(self._ask("GET", f"/uploads/{self._id}"))
        return _State.model_validate_json(found.content)

    def _append(self) -> None:
        headers = {
            **_TUS,
            _OFFSET: str(self.offset),
            "Content-Type": "application/offset+octet-stream",
            "Content-Length": str(self._length - self.offset),
        }
        pieces = self._pieces(self.offset)
        self._check(self._ask("PATCH", f"/uploads/{self._id}", headers=headers, content=pieces))

    def _check(self, response: httpx.Response) -> httpx.Response:
        """Return an answer that is a success; after what may pass, the sdb is asked again."""
        try:
            return check_response(SERVICE, response)
        except ServiceError as exc:
            # A conflict without an offset is that of the import, and stays.
            is_final = exc.status == HTTPStatus.CONFLICT and not response.headers.get(_OFFSET)
            if exc.status not in _ASK_AGAIN or is_final:
                raise
            if exc.status in _GONE:
                self._id = None
            raise UploadInterruptedError(str(exc), exc.status) from exc

    def _ask(self, method: str, path: str, **given: Any) -> httpx.Response:
        with translate_errors(SERVICE, str(self._http.base_url)):
            return self._http.request(method, path, timeout=TIMEOUT, **given)

    def _pieces(self, start: int) -> Iterator[bytes]:
        if self._sha256 is not None:
            yield from _read(self._path, start, self._size)
            return
        position = min(start, self._size)
        self._hashed.digest_until(position)
        for piece in _read(self._path, position, self._size):
            self._hashed.add(piece)
            yield piece
        self.sent_sha256 = self._hashed.digest_until(self._size).hexdigest()
        yield self.sent_sha256[max(start - self._size, 0) :].encode()


class _HashedFile:
    """The digest of the beginning of a file, which can go back to what it was before."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._kept = [(0, hashlib.sha256())]
        self._size = 0
        self._digest = hashlib.sha256()

    def digest_until(self, size: int) -> "hashlib._Hash":
        """Return the digest of the first `size` bytes; reads those that are not known."""
        if size < self._size:
            while self._kept[-1][0] > size:
                self._kept.pop()
            self._size, self._digest = self._kept[-1][0], self._kept[-1][1].copy()
        for piece in _read(self._path, self._size, size):
            self.add(piece)
        return self._digest

    def add(self, piece: bytes) -> None:
        """Add what follows."""
        self._digest.update(piece)
        self._size += len(piece)
        if self._size - self._kept[-1][0] >= CHECKPOINT_BYTES:
            self._kept.append((self._size, self._digest.copy()))


def _read(path: Path, start: int, stop: int) -> Iterator[bytes]:
    if start >= stop:
        return
    left = stop - start
    with path.open("rb", buffering=0) as file:
        file.seek(start)
        while left and (piece := file.read(min(READ_BYTES, left))):
            left -= len(piece)
            yield piece
    if left:
        raise _changed(path, stop)


def _signature_of(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_size, found.st_mtime_ns


def _changed(path: Path, size: int) -> ServiceError:
    return ServiceError(
        f"{path}: is no longer the file of {size} bytes that it was: it changed while it was being "
        "imported; nothing was recorded"
    )


def _encoded(fields: Mapping[str, str]) -> str:
    encoded = ",".join(
        f"{name} {b64encode(value.encode()).decode()}" for name, value in fields.items()
    )
    if len(encoded) > MAX_METADATA_LENGTH:
        raise NotResumableError
    return encoded
