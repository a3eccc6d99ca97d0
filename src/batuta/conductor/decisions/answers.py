"""What the answer of a pipeline tells, whoever wrote the pipeline: any JSON, or none at all.

Nothing in an answer is refused. What is understood of it is used; of what is not, it is as if the
pipeline had not said it.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final
from urllib.parse import quote, urljoin, urlsplit

from pydantic import TypeAdapter, ValidationError
from pydantic_core import from_json

from batuta.errors import printable, shortened
from batuta.messaging import ProcessingState as State
from batuta.messaging.processings import MAX_COUNT, Instant

MAX_ID_LENGTH: Final = 500
"""Characters of an id or a path that a pipeline may give."""
MAX_ERROR_LENGTH: Final = 2000
"""Characters of an error that are recorded: more would not fit in an event."""
MAX_CODE_LENGTH: Final = 500
MAX_WORD_LENGTH: Final = 40
"""Characters of a key or a state that may be one of those below."""
MAX_LEVELS: Final = 4
"""How deep inside an answer its processing is looked for."""

ID_KEYS: Final = ("processingid", "jobid", "taskid", "runid", "id", "uuid")
STATE_KEYS: Final = ("state", "status", "phase")
ERROR_KEYS: Final = ("error", "message", "detail", "reason", "title")

STATE_WORDS: Final[Mapping[State, str]] = {
    State.QUEUED: "queued accepted pending waiting submitted scheduled created received held "
    "suspended",
    State.RUNNING: "running started executing processing inprogress active working retry",
    State.SUCCEEDED: "succeeded successful success done completed complete finished ok",
    State.FAILED: "failed failure error errored exception aborted timeout timedout nodefail "
    "outofmemory",
    State.CANCELLED: "cancelled canceled dismissed revoked",
}
"""How states are spelt elsewhere: OGC API Processes, WPS, UWS, openEO, Celery, Slurm, Kubernetes.

Case, spaces, hyphens and underscores do not count.
"""

_STATES: Final = {word: state for state, words in STATE_WORDS.items() for word in words.split()}
_SEPARATORS: Final = re.compile(r"[\s_-]+")
_INSTANT: Final[TypeAdapter[Any]] = TypeAdapter(Instant)


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineAnswer:
    """What is understood of an answer.

    Attributes
    ----------
    ids : tuple of str
        All that it calls the processing; empty if it names none.
    attempt : int or None
        Which attempt it is about, 0 for none yet; None if the pipeline does not count them.
    """

    ids: tuple[str, ...] = ()
    state: State | None = None
    attempt: int | None = None
    done: int = 0
    total: int = 0
    error: str | None = None
    started: float | None = None
    profiled: bool = False
    code: str | None = None


def read_answer(content: bytes) -> PipelineAnswer:
    """Return what is understood of the body of an answer."""
    try:
        document = from_json(content)
    except ValueError:
        return PipelineAnswer()
    if isinstance(document, str | int) and not isinstance(document, bool):
        state = state_of(document)
        return (
            PipelineAnswer(state=state)
            if state
            else PipelineAnswer(ids=tuple(_ids({"id": document})))
        )
    fields = _description(document, MAX_LEVELS)
    done, total = _progress(fields.get("progress"))
    return PipelineAnswer(
        ids=tuple(_ids(fields)),
        state=_state(fields),
        attempt=_count(fields.get("attempt")),
        done=done,
        total=total,
        error=_error(fields),
        started=_instant(fields.get("started")),
        profiled=bool(fields.get("profile")),
        code=_text(fields.get("code"), MAX_CODE_LENGTH),
    )


def state_of(word: object) -> State | None:
    """Return the state that a word stands for; None if it is none of `STATE_WORDS`."""
    return _STATES.get(_plain(word)) if isinstance(word, str) else None


def reference(answer: PipelineAnswer, location: str | None, url: str, sent: str) -> str | None:
    """Return what to ask the pipeline for from now on; None for the id that it was `sent`.

    It is the path of `location`, or else the id in the answer. Of a location the path alone counts:
    what a pipeline answers must not send requests, with their token, to another host.

    Parameters
    ----------
    location : str or None
        The ``Location`` of the answer.
    url : str
        What was requested.
    """
    if sent in answer.ids:
        return None
    path = _path(location, url) if location else None
    # "." and ".." would name another address.
    named = [each for each in answer.ids if each not in (".", "..")]
    return path or next(iter(named), None)


def address(url: str, known_as: str) -> str:
    """Return where a pipeline at `url` is asked about what it knows as an id, or by a path."""
    if known_as.startswith("/"):
        return urljoin(url, known_as)
    return f"{url}/processing/{quote(known_as, safe='')}"


def _description(document: object, levels: int) -> Mapping[str, Any]:
    """Return the object, with plain keys, that describes the processing; empty if none does.

    It is the outermost one that has an id or a state; a list of several describes several.
    """
    if levels == 0:
        return {}
    if isinstance(document, list):
        return _description(document[0], levels - 1) if len(document) == 1 else {}
    if not isinstance(document, dict):
        return {}
    fields = {_plain(key): value for key, value in document.items()}
    if any(_ids(fields)) or _state(fields) is not None or "attempt" in fields:
        return fields
    inside = [_description(value, levels - 1) for value in document.values()]
    found = [each for each in inside if each]
    return found[0] if len(found) == 1 else {}


def _plain(text: str) -> str:
    return _plain_word(text) if len(text) <= MAX_WORD_LENGTH else text


@lru_cache(maxsize=1024)
def _plain_word(word: str) -> str:
    # Cached: every answer of a pipeline has the same keys.
    return _SEPARATORS.sub("", word).lower()


def _ids(fields: Mapping[str, Any]) -> Iterator[str]:
    for key in ID_KEYS:
        value = fields.get(key)
        if isinstance(value, str | int) and not isinstance(value, bool):
            text = str(value)
            if 0 < len(text) <= MAX_ID_LENGTH and text.isprintable():
                yield text


def _state(fields: Mapping[str, Any]) -> State | None:
    for key in STATE_KEYS:
        value = fields.get(key)
        if isinstance(value, dict):  # {"status": {"phase": "Running"}}
            value = next((inner for name, inner in value.items() if _plain(name) in STATE_KEYS), "")
        if (state := state_of(value)) is not None:
            return state
    return None


def _error(fields: Mapping[str, Any]) -> str | None:
    for key in ERROR_KEYS:
        value = fields.get(key)
        if isinstance(value, dict):  # {"error": {"code": 3, "message": "..."}}
            value = _error({_plain(name): inner for name, inner in value.items()})
        if (text := _text(value, MAX_ERROR_LENGTH)) is not None:
            return text
    return None


def _text(value: object, max_length: int) -> str | None:
    if not isinstance(value, str) or not value.strip():
        return None
    return shortened(printable(value), max_length)[:max_length]


def _count(value: object) -> int | None:
    is_count = isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_COUNT
    return value if is_count else None  # type: ignore[return-value]  # an int, as checked


def _progress(value: object) -> tuple[int, int]:
    """Return steps done, and all steps; a number alone is a percentage, as in OGC API Processes."""
    if isinstance(value, dict):
        return _count(value.get("done")) or 0, _count(value.get("total")) or 0
    done = _count(int(value) if isinstance(value, float) and 0 <= value <= 100 else value)
    return (done, 100) if done is not None and done <= 100 else (0, 0)


def _instant(value: object) -> float | None:
    try:
        return float(_INSTANT.validate_python(value).timestamp()) if value else None
    except ValidationError:
        return None


def _path(location: str, url: str) -> str | None:
    try:
        parts = urlsplit(urljoin(url, location))
    except ValueError:  # such as "http://["
        return None
    path = parts.path + (f"?{parts.query}" if parts.query else "")
    usable = path.startswith("/") and path.isascii() and path.isprintable() and " " not in path
    if not usable or len(path) > MAX_ID_LENGTH or path == urlsplit(url).path:
        return None
    return path
