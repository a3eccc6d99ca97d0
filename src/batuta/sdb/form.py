"""The multipart form of an import, parsed as a stream, never whole in memory."""

from collections.abc import Mapping
from dataclasses import replace
from http import HTTPStatus
from typing import Final

from multipart import (  # type: ignore[import-untyped]  # it ships no types
    MultipartError,
    MultipartSegment,
    PushMultipartParser,
    parse_options_header,
)

from batuta.quicklook import MAX_GIVEN_BYTES
from batuta.sdb.fields import (
    FIELDS,
    FILE,
    MAX_FIELDS_BYTES,
    QUICKLOOK,
    FieldReader,
    ImportRequest,
    refuse,
    refuse_compressed,
)
from batuta.service.bodies import Chunk
from batuta.service.problems import ProblemError

ACCEPTED: Final = ", ".join(("product", "obs_id", FILE, *FIELDS[2:], QUICKLOOK))
_HELD_BYTES: Final = 8192
"""More than the parser may hold back of the file: part of a header, or of a boundary."""
_MAX_BOUNDARY: Final = 256


class ImportForm:
    """Parses the body of an import as a stream; `take` returns the bytes of the file.

    Parameters
    ----------
    headers : mapping
        The request's headers.

    Raises
    ------
    ProblemError
        415 if the body is not a multipart form, or is compressed.
    """

    def __init__(self, headers: Mapping[str, str]) -> None:
        refuse_compressed(headers)
        self._parser = _parser_of(headers.get("content-type", ""))
        self._received_bytes = 0
        self._file = _Part()
        self._quicklook = _Part()
        self._fields: dict[str, _Part] = {}
        self._current = self._file

    @property
    def subject(self) -> None:
        """Whose version the file is: not known before its fields."""

    @property
    def max_besides_bytes(self) -> int:
        """How much of the body is not of the file, at most."""
        return MAX_FIELDS_BYTES + MAX_GIVEN_BYTES + _HELD_BYTES

    def feed(self, chunk: Chunk) -> None:
        """Parse the next `chunk` of the body.

        Raises
        ------
        ProblemError
            If the form is malformed, has an unknown or repeated field, or its fields are
            too large.
        """
        copied = bytes(chunk)
        self._received_bytes += len(copied)
        if copied:  # to the parser, an empty one is the end
            self._parse(copied)
        self._check_sizes()

    @property
    def waiting_bytes(self) -> int:
        """Bytes of the file that `take` would return."""
        return self._file.waiting_bytes

    def take(self) -> list[memoryview]:
        """Return the bytes of the file parsed since the last call."""
        return [memoryview(piece) for piece in self._file.take()]

    def finish(self) -> ImportRequest:
        """Return the fields of the form, once its whole body was fed.

        Raises
        ------
        ProblemError
            Naming all that is missing or wrong.
        """
        try:
            self._parser.close()
        except MultipartError:
            refuse("body: ends before the closing boundary of its multipart form")
        problems = [f"{FILE}: missing"] if self._file.segment is None else []
        fields = {name: b"".join(part.take()) for name, part in self._fields.items()}
        request = FieldReader(fields, problems).read(*self._file.described)
        if problems:
            refuse("; ".join(problems))
        if self._quicklook.segment is None:
            return request
        return replace(request, quicklook=b"".join(self._quicklook.take()))

    def _parse(self, chunk: bytes) -> None:
        try:
            for event in self._parser.parse(chunk):
                if isinstance(event, MultipartSegment):
                    self._current = self._part_of(event)
                elif event is not None:  # which ends a part
                    self._current.append(event)
        except MultipartError as exc:
            refuse(f"body: malformed multipart form: {exc} (accepted: as of RFC 7578)")

    def _part_of(self, segment: MultipartSegment) -> "_Part":
        name = segment.name
        files = {FILE: self._file, QUICKLOOK: self._quicklook}
        if name not in files and name not in FIELDS:
            refuse(f"{name[:80]}: unknown field (accepted: {ACCEPTED})")
        part = files.get(name) or self._fields.setdefault(name, _Part())
        if part.segment is not None:
            refuse(f"{name}: given twice (accepted: once)")
        part.segment = segment
        return part

    def _check_sizes(self) -> None:
        if self._quicklook.total_bytes > MAX_GIVEN_BYTES:
            raise ProblemError(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                f"{QUICKLOOK}: larger than {MAX_GIVEN_BYTES} bytes (accepted: at most that)",
            )
        files = self._file.total_bytes + self._quicklook.total_bytes
        if self._received_bytes - files > MAX_FIELDS_BYTES + _HELD_BYTES:
            raise ProblemError(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                f"fields: more than {MAX_FIELDS_BYTES} bytes (accepted: at most that, "
                f"all fields but {FILE} and {QUICKLOOK} together)",
            )


def _parser_of(content_type: str) -> PushMultipartParser:
    kind, options = parse_options_header(content_type)
    problem: object = f"Content-Type: {content_type[:80]!r}"
    if kind == "multipart/form-data" and 0 < len(options.get("boundary", "")) <= _MAX_BOUNDARY:
        try:
            return PushMultipartParser(options["boundary"])
        except (MultipartError, UnicodeEncodeError) as exc:
            problem = exc
    raise ProblemError(
        HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
        f"body: {problem} (accepted: multipart/form-data with a boundary, and {ACCEPTED})",
    )


class _Part:
    """Buffers what was parsed of one part of the form until it is taken."""

    def __init__(self) -> None:
        self.segment: MultipartSegment | None = None
        self._pieces: list[bytes] = []
        self.waiting_bytes = 0
        self.total_bytes = 0

    @property
    def described(self) -> tuple[str | None, str | None]:
        """Its media type, and the name of its file."""
        if self.segment is None:
            return None, None
        return self.segment.header("Content-Type"), self.segment.filename

    def append(self, piece: bytes) -> None:
        self._pieces.append(piece)
        self.waiting_bytes += len(piece)
        self.total_bytes += len(piece)

    def take(self) -> list[bytes]:
        pieces, self._pieces, self.waiting_bytes = self._pieces, [], 0
        return pieces
