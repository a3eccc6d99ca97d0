"""The import of a body that is the file itself, with its fields in the address."""

from http import HTTPStatus
from typing import Final
from urllib.parse import parse_qsl

from fastapi import Request

from batuta.messaging.processings import split_attempt_id
from batuta.sdb.fields import (
    FIELDS,
    FieldReader,
    ImportRequest,
    ImportSubject,
    refuse,
    refuse_compressed,
)
from batuta.service.bodies import Chunk
from batuta.service.problems import ProblemError

APPENDED: Final = "appended"
"""The value of ``sha256`` by which the digest is the end of the body."""
DIGEST_LENGTH: Final = 64
_FORMS: Final = ("multipart/form-data", "application/x-www-form-urlencoded")


class BareBody:
    """Takes the body of a request for a file.

    With ``sha256=appended``, the last 64 bytes of the body are the digest of those before, in
    hexadecimal: its sender hashes the file while it is sent, and reads it once.

    Parameters
    ----------
    request : Request
        Its path has ``product`` and ``obs_id``; its query, the other fields.

    Raises
    ------
    ProblemError
        415 if the body is a form, or is compressed; 422 if a field is unknown or given twice.
    """

    def __init__(self, request: Request) -> None:
        refuse_compressed(request.headers)
        self._media_type = request.headers.get("content-type")
        if (self._media_type or "").partition(";")[0].strip().lower() in _FORMS:
            raise ProblemError(
                HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
                f"Content-Type: {self._media_type!r:.80} (accepted: that of the file; a form is "
                "for POST /products)",
            )
        self._fields = _query_fields(request)
        self._filename = self._fields.pop("filename", None)
        self._is_appended = self._fields.get("sha256") == APPENDED.encode()
        self._pieces: list[memoryview] = []
        self._held = b""
        self.waiting_bytes = 0

    @property
    def subject(self) -> ImportSubject:
        """Whose version the file is: the address says it."""
        product, obs_id = (self._fields[name].decode() for name in FIELDS[:2])
        given = self._fields.get("processing_id")
        processing_id = given.decode(errors="replace") if given is not None else None
        return ImportSubject(
            product=product,
            obs_id=obs_id,
            processing_id=split_attempt_id(processing_id)[0] if processing_id else None,
        )

    @property
    def max_besides_bytes(self) -> int:
        """How much of the body is not of the file: the digest that follows it."""
        return DIGEST_LENGTH if self._is_appended else 0

    def feed(self, chunk: Chunk) -> None:
        """Take the next part of the file."""
        view = memoryview(chunk)
        if not self._is_appended:
            self._append(view)
        elif len(view) >= DIGEST_LENGTH:
            self._append(memoryview(self._held))
            self._append(view[:-DIGEST_LENGTH])
            self._held = bytes(view[-DIGEST_LENGTH:])
        else:
            self._held += view
            self._append(memoryview(self._held[:-DIGEST_LENGTH]))
            self._held = self._held[-DIGEST_LENGTH:]

    def take(self) -> list[memoryview]:
        """Return the bytes of the file since the last call."""
        pieces, self._pieces, self.waiting_bytes = self._pieces, [], 0
        return pieces

    def finish(self) -> ImportRequest:
        """Return the fields, once the whole body was fed.

        Raises
        ------
        ProblemError
            Naming all that is wrong.
        """
        problems: list[str] = []
        if self._is_appended:
            self._fields["sha256"] = self._held
        reader = FieldReader(self._fields, problems)
        filename = reader.text("filename", self._filename) if self._filename is not None else None
        asked = reader.read(self._media_type, filename)
        if problems:
            refuse("; ".join(problems))
        return asked

    def _append(self, piece: memoryview) -> None:
        if piece:
            self._pieces.append(piece)
            self.waiting_bytes += len(piece)


def _query_fields(request: Request) -> dict[str, bytes]:
    query = request.scope["query_string"].decode("latin-1")
    # What is not UTF-8 is told by `FieldReader`, not replaced.
    # Unknown keys, and keys given twice, are refused for all routes: see `service.query_keys`.
    pairs = parse_qsl(query, keep_blank_values=True, errors="surrogateescape")
    fields = {name: request.path_params[name].encode() for name in FIELDS[:2]}
    for name, value in pairs:
        fields[name] = value.encode(errors="surrogateescape")
    return fields
