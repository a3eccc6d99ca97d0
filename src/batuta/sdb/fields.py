"""The fields of an import, whether they come in a form or in the address."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Annotated, Any, Final, NoReturn, Protocol

from pydantic import Field, TypeAdapter, ValidationError

from batuta.json_values import json_problem
from batuta.messaging.processings import split_attempt_id
from batuta.names import name_problem
from batuta.sdb.records import MEDIA_TYPE, InputRef
from batuta.service.bodies import Chunk
from batuta.service.problems import ProblemError
from batuta.stages import Stage, stage_from_text
from batuta.validation import statement_of
from batuta.work_classes import CLASS_RULE, CLASSES, WorkClass

FILE: Final = "file"
QUICKLOOK: Final = "quicklook"
FIELDS: Final = (
    "product",
    "obs_id",
    "metadata",
    "sha256",
    "processing_id",
    "attempt",
    "provider",
    "inputs",
    "stage",
    "code",
    "graph_version",
    "class",
)
MAX_FIELDS_BYTES: Final = 2**20
"""All fields but the file together; mostly metadata."""
DEFAULT_MEDIA_TYPE: Final = "application/octet-stream"

_DRIVE: Final = re.compile(r"[A-Za-z]:")
_SHA256: Final = re.compile(r"[0-9a-fA-F]{64}")
_ATTEMPT: Final = re.compile(r"[1-9][0-9]{0,8}")
_VERSION_TEXT: Final = re.compile(r"[!-~](?:[ -~]{0,198}[!-~])?")
_VERSION_RULE: Final = "1 to 200 printable ASCII characters"
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
    code: str | None
    graph_version: str | None
    stage: Stage | None = None
    work_class: WorkClass | None = None
    quicklook: bytes | None = None


@dataclass(frozen=True, kw_only=True)
class ImportSubject:
    """What an import is of: known before its body where the address has the fields."""

    product: str
    obs_id: str
    processing_id: str | None


class BodyDecoder(Protocol):
    """Tells the file, and the fields of its import, in the body of a request."""

    @property
    def subject(self) -> ImportSubject | None:
        """Whose version the file is, if that is known before the body."""

    @property
    def max_besides_bytes(self) -> int:
        """How much of the body is not of the file, at most."""

    def feed(self, chunk: Chunk) -> None:
        """Take the next `chunk` of the body; raise `ProblemError` if it cannot be accepted."""

    @property
    def waiting_bytes(self) -> int:
        """Bytes of the file that `take` would return."""

    def take(self) -> list[memoryview]:
        """Return the bytes of the file since the last call."""

    def finish(self) -> ImportRequest:
        """Return the fields, once all was fed; raise `ProblemError` naming all that is wrong."""


class FieldReader:
    """Reads the fields of a form, and appends to `problems` a line for each invalid one."""

    def __init__(self, fields: Mapping[str, bytes], problems: list[str]) -> None:
        self._problems = problems
        self._fields = {name: self.text(name, value) for name, value in fields.items()}

    def read(self, media_type: str | None, filename: str | None) -> ImportRequest:
        """Return the request, if none of it was a problem."""
        processing_id, attempt = self._processing()
        return ImportRequest(
            product=self._name("product", required=True) or "",
            obs_id=self._name("obs_id", required=True) or "",
            media_type=self._media_type(media_type),
            filename=self._filename(filename),
            metadata=self._metadata(),
            sha256=self._matching("sha256", _SHA256, "64 hexadecimal digits"),
            processing_id=processing_id,
            attempt=attempt,
            provider=self._name("provider", required=False),
            inputs=self._inputs(),
            stage=self._stage(),
            work_class=self._work_class(),
            code=self._matching("code", _VERSION_TEXT, _VERSION_RULE),
            graph_version=self._matching("graph_version", _VERSION_TEXT, _VERSION_RULE),
        )

    def text(self, name: str, value: bytes) -> str:
        """Return a value as text."""
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
        name = re.split(r"[/\\]", value)[-1]
        if _DRIVE.match(name):
            # RFC 2616 quotes by backslashes: those of the path, and what they hid, are lost.
            self._note(f"{FILE}: filename {name[:80]!r} is of a path (accepted: a name alone)")
        if not name or len(name) > 255 or not name.isprintable():
            self._note(f"{FILE}: filename {name[:80]!r} (accepted: 1 to 255 printable characters)")
        return name

    def _metadata(self) -> dict[str, Any]:
        text = self._fields.get("metadata")
        if text is None:
            return {}
        try:
            value = read_json(text)
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
            self._note(
                f'{where}: {statement_of(error)} (accepted: [{{"product": ..., "version": ...}}])'
            )
            return ()

    def _work_class(self) -> WorkClass | None:
        text = self._fields.get("class")
        if text is None or text in CLASSES:
            return None if text is None else WorkClass(text)
        self._note(f"class: {text[:80]!r} given (accepted: {CLASS_RULE})")
        return None

    def _stage(self) -> Stage | None:
        text = self._fields.get("stage")
        if text is None:
            return None
        try:
            return stage_from_text(text)
        except ValueError as exc:
            self._note(f"stage: {exc}")
            return None

    def _note(self, problem: str | None) -> None:
        if problem is not None:
            self._problems.append(problem)


def read_json(text: str | bytes) -> Any:
    """Return the JSON that a text is; what Python would take for JSON, and is none, is refused.

    Raises
    ------
    ValueError
        If it is none.
    RecursionError
        If it is too deeply nested.
    """
    return _DECODER.decode(text if isinstance(text, str) else text.decode())


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


_DECODER: Final = json.JSONDecoder(parse_constant=_not_json, object_pairs_hook=_object)
"""Made once: `json.loads` makes one of these at each call."""


def refuse(detail: str) -> NoReturn:
    """Raise the problem of a request that cannot be accepted."""
    raise ProblemError(HTTPStatus.UNPROCESSABLE_ENTITY, detail)


def refuse_compressed(headers: Mapping[str, str]) -> None:
    """Refuse a body that was compressed on its way."""
    coding = headers.get("content-encoding", "identity")
    if coding.lower() != "identity":
        raise ProblemError(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            f"Content-Encoding: {coding[:80]!r} (accepted: none; compress the file, not the "
            "request)",
            {"Accept-Encoding": "identity"},
        )
