"""The multipart form of an import, parsed as a stream, never whole in memory."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Annotated, Any, Final, NoReturn

from pydantic import Field, TypeAdapter, ValidationError
from streaming_form_data.parser import (  # type: ignore[import-untyped]  # it ships no types
    ParseFailedException,
    StreamingFormDataParser,
    UnexpectedPartException,
    parse_content_boundary,
)
from streaming_form_data.targets import BaseTarget  # type: ignore[import-untyped]  # as above

from batuta.json_values import json_problem
from batuta.messaging.processings import split_attempt_id
from batuta.names import name_problem
from batuta.sdb.records import MEDIA_TYPE, InputRef
from batuta.service.problems import ProblemError

FILE: Final = "file"
FIELDS: Final = (
    "product",
    "obs_id",
    "metadata",
    "sha256",
    "processing_id",
    "attempt",
    "provider",
    "inputs",
)
ACCEPTED: Final = ", ".join(("product", "obs_id", FILE, *FIELDS[2:]))
MAX_FIELDS_BYTES: Final = 2**20
"""All fields but the file together; mostly metadata."""
MIN_PARSED_BYTES: Final = 4096
"""The parser (streaming-form-data 2.1) fails on some chunks of one or two bytes, where a file
begins with dashes."""
DEFAULT_MEDIA_TYPE: Final = "application/octet-stream"

_DRIVE: Final = re.compile(r"[A-Za-z]:")
_SHA256: Final = re.compile(r"[0-9a-fA-F]{64}")
_ATTEMPT: Final = re.compile(r"[1-9][0-9]{0,8}")
_PROCESSING_ID: Final = re.compile(r"[!-~]{1,200}")
MAX_INPUTS: Final = 1000
"""Products that one is made from: all of one observation, and listed in its record."""
_INPUTS: Final = TypeAdapter(Annotated[tuple[InputRef, ...], Field(max_length=MAX_INPUTS)])


@dataclass(frozen=True, kw_only=True)
class ImportRequest:
    """The fields of an import, besides the bytes of its file."""

    product: str
    obs_id: str
    media_type: str
    filename: str | None
    metadata: Mapping[str, Any]
    sha256: str | None
    processing_id: str | None
    attempt: int | None
    provider: str | None
    inputs: tuple[InputRef, ...]


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
        coding = headers.get("content-encoding", "identity")
        if coding.lower() != "identity":
            raise ProblemError(
                HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
                f"Content-Encoding: {coding[:80]!r} (accepted: none; compress the file, not the "
                "request)",
                {"Accept-Encoding": "identity"},
            )
        try:
            boundary = parse_content_boundary(headers)
            self._parser = StreamingFormDataParser(headers, strict=True)
        except ParseFailedException as exc:
            raise ProblemError(
                HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
                f"body: {exc} (accepted: multipart/form-data with {ACCEPTED})",
            ) from exc
        self._start = b"\r\n--" + boundary
        self._end = self._start + b"--"
        self._held = b""
        self._started = False
        self._ended = False
        self._tail = b"\r\n"
        self._received_bytes = 0
        self._file = _Part()
        self._fields = {name: _Part() for name in FIELDS}
        for name, part in {**self._fields, FILE: self._file}.items():
            self._parser.register(name, part)

    def feed(self, chunk: bytes) -> None:
        """Parse the next `chunk` of the body.

        Raises
        ------
        ProblemError
            If the form is malformed, has an unknown or repeated field, or its fields are
            too large.
        """
        self._held += chunk
        if len(self._held) >= MIN_PARSED_BYTES:
            self._parse_held()

    @property
    def waiting_bytes(self) -> int:
        """Bytes of the file that `take` would return."""
        return self._file.waiting_bytes

    def take(self) -> list[bytes]:
        """Return the bytes of the file parsed since the last call."""
        return self._file.take()

    def finish(self) -> ImportRequest:
        """Return the fields of the form, once its whole body was fed.

        Raises
        ------
        ProblemError
            Naming all that is missing or wrong.
        """
        self._parse_held()
        if not self._ended:
            _refuse("body: ends before the closing boundary of its multipart form")
        problems = [f"{FILE}: missing"] if not self._file.times else []
        reader = _FieldReader({n: p.take() for n, p in self._fields.items() if p.times}, problems)
        request = reader.read(self._file)
        if problems:
            _refuse("; ".join(problems))
        return request

    def _parse_held(self) -> None:
        chunk, self._held = self._held, b""
        self._received_bytes += len(chunk)
        parsed = self._between_boundaries(chunk)
        try:
            self._parser.data_received(parsed)
        except UnexpectedPartException as exc:
            _refuse(f"{exc.part_name}: unknown field (accepted: {ACCEPTED})")
        except UnicodeDecodeError:
            _refuse("body: malformed multipart form: the name of a field or file is not UTF-8")
        except ParseFailedException:
            _refuse("body: malformed multipart form (accepted: as of RFC 7578)")
        self._check_sizes(len(chunk))

    def _between_boundaries(self, chunk: bytes) -> bytes:
        """Return what the parser is to see of `chunk`: not what precedes or follows the form.

        Both may be there, to be ignored (RFC 2046). The parser refuses the former in any chunk but
        the first bytes, and loses the file if the latter is in the chunk of its last bytes.
        """
        if self._ended:
            return b""
        if not self._started:
            # The first chunk has `MIN_PARSED_BYTES`, or is the whole body.
            self._started = True
            chunk = chunk[max((self._tail + chunk).find(self._start), 0) :]
        seen = self._tail + chunk
        end = seen.find(self._end)
        if end >= 0:
            self._ended = True
            chunk = chunk[: end + len(self._end) - len(self._tail)]
        self._tail = seen[-len(self._end) + 1 :]
        return chunk

    def _check_sizes(self, chunk_bytes: int) -> None:
        parts = {**self._fields, FILE: self._file}
        twice = [name for name, part in parts.items() if part.times > 1]
        if twice:
            _refuse(f"{twice[0]}: given twice (accepted: once)")
        # The parser holds back a little of the file: count a chunk only once the next was parsed.
        beside_file = self._received_bytes - self._file.total_bytes - chunk_bytes
        if beside_file > MAX_FIELDS_BYTES:
            raise ProblemError(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                f"fields: more than {MAX_FIELDS_BYTES} bytes (accepted: at most that, "
                f"all fields but {FILE} together)",
            )


class _Part(BaseTarget):  # type: ignore[misc]  # the library has no types
    """Buffers what was parsed of one part of the form until it is taken."""

    def __init__(self) -> None:
        super().__init__()
        self._pieces: list[bytes] = []
        self.waiting_bytes = 0
        self.total_bytes = 0
        self.times = 0

    def on_start(self) -> None:
        self.times += 1

    def on_data_received(self, chunk: bytes) -> None:
        self._pieces.append(chunk)
        self.waiting_bytes += len(chunk)
        self.total_bytes += len(chunk)

    def take(self) -> list[bytes]:
        pieces, self._pieces, self.waiting_bytes = self._pieces, [], 0
        return pieces


class _FieldReader:
    """Reads the fields of a form, and appends to `problems` a line for each invalid one."""

    def __init__(self, fields: Mapping[str, list[bytes]], problems: list[str]) -> None:
        self._problems = problems
        self._fields = {name: self._text(name, b"".join(p)) for name, p in fields.items()}

    def read(self, file: _Part) -> ImportRequest:
        processing_id, attempt = self._processing()
        return ImportRequest(
            product=self._name("product", required=True) or "",
            obs_id=self._name("obs_id", required=True) or "",
            media_type=self._media_type(file.multipart_content_type),
            filename=self._filename(file.multipart_filename),
            metadata=self._metadata(),
            sha256=self._matching("sha256", _SHA256, "64 hexadecimal digits"),
            processing_id=processing_id,
            attempt=attempt,
            provider=self._name("provider", required=False),
            inputs=self._inputs(),
        )

    def _text(self, name: str, value: bytes) -> str:
        try:
            return value.decode()
        except UnicodeDecodeError:
            self._problems.append(f"{name}: {value[:40]!r} is not UTF-8")
            return ""

    def _name(self, name: str, *, required: bool) -> str | None:
        value = self._fields.get(name)
        if value is None:
            if required:
                self._problems.append(f"{name}: missing")
            return None
        self._note(name_problem(name, value))
        return value

    def _matching(self, name: str, pattern: re.Pattern[str], rule: str) -> str | None:
        value = self._fields.get(name)
        if value is not None and not pattern.fullmatch(value):
            self._note(f"{name}: {value[:80]!r} (accepted: {rule})")
        return value

    def _processing(self) -> tuple[str | None, int | None]:
        """Return the processing and its attempt; all attempts of one import its product once."""
        given = self._matching("processing_id", _PROCESSING_ID, "1 to 200 visible ASCII characters")
        processing_id, attempt = split_attempt_id(given) if given else (given, None)
        return processing_id, self._attempt() or attempt

    def _attempt(self) -> int | None:
        text = self._matching("attempt", _ATTEMPT, "a whole number from 1 to 999999999")
        return int(text) if text is not None and _ATTEMPT.fullmatch(text) else None

    def _media_type(self, value: str | None) -> str:
        if value is not None and not MEDIA_TYPE.fullmatch(value):
            self._note(f"{FILE}: {value[:80]!r} is not a media type (accepted: type/subtype)")
        return value or DEFAULT_MEDIA_TYPE

    def _filename(self, value: str | None) -> str | None:
        """Return the last component of a path; the rest concerns the sender alone."""
        if not value:
            return None
        # As browsers and curl write a quotation mark (WHATWG HTML, "multipart/form-data").
        name = re.split(r"[/\\]", value.replace("%22", '"'))[-1]
        if _DRIVE.match(name):
            # RFC 2616 quotes by backslashes: those of the path, and what they hid, are lost.
            self._note(f"{FILE}: filename {name[:80]!r} is of a path (accepted: a name alone)")
        if not name or len(name) > 255 or not name.isprintable():
            self._note(f"{FILE}: filename {name[:80]!r} (accepted: 1 to 255 printable characters)")
        return name

    def _metadata(self) -> dict[str, Any]:
        text = self._fields.get("metadata", "{}")
        try:
            value = json.loads(text, parse_constant=_not_json, object_pairs_hook=_object)
        except RecursionError:
            self._note("metadata: too deeply nested (accepted: a JSON object)")
            return {}
        except ValueError as exc:
            self._note(f"metadata: not JSON: {exc} (accepted: a JSON object)")
            return {}
        if isinstance(value, dict):
            self._note(json_problem(value, "metadata"))
            return value
        self._note(f"metadata: {text[:80]!r} (accepted: a JSON object)")
        return {}

    def _inputs(self) -> tuple[InputRef, ...]:
        text = self._fields.get("inputs")
        if text is None:
            return ()
        try:
            return _INPUTS.validate_json(text)
        except ValidationError as exc:
            error = exc.errors(include_url=False)[0]
            where = ".".join(map(str, ("inputs", *error["loc"])))
            self._note(f'{where}: {error["msg"]} (accepted: [{{"product": ..., "version": ...}}])')
            return ()

    def _note(self, problem: str | None) -> None:
        if problem is not None:
            self._problems.append(problem)


def _not_json(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not a JSON number")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object, of which Python would keep the last of two equal keys."""
    built = dict(pairs)
    if len(built) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key {twice[:80]!r} is given twice")
    return built


def _refuse(detail: str) -> NoReturn:
    raise ProblemError(HTTPStatus.UNPROCESSABLE_ENTITY, detail)
