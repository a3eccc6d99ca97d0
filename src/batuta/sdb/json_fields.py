"""The fields of an import that come as JSON."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from batuta.errors import shortened
from batuta.sdb.fields import FIELDS, FieldReader, ImportRequest, read_json, refuse

FILENAME: Final = "filename"
MEDIA: Final = "media_type"
KNOWN: Final = (*FIELDS, FILENAME, MEDIA)


def read_object(line: bytes) -> dict[str, Any]:
    """Return an object of JSON.

    Raises
    ------
    ProblemError
        422, if it is none.
    """
    try:
        said = read_json(line)
    except RecursionError:
        refuse("line: too deeply nested (accepted: a JSON object)")
    except ValueError as exc:
        refuse(f"line: not JSON: {shortened(str(exc), 200)} (accepted: a JSON object)")
    if not isinstance(said, dict):
        refuse(f"line: {line[:40]!r} (accepted: a JSON object)")
    return said


def request_of(
    said: Mapping[str, Any], problems: Sequence[str] = (), besides: Sequence[str] = ()
) -> ImportRequest:
    """Return what an object asks for; `metadata` and `inputs` may be JSON in it, or its text.

    Parameters
    ----------
    said : mapping
        The fields.
    problems : sequence of str
        What was found to be wrong before.
    besides : sequence of str
        What else is known.

    Raises
    ------
    ProblemError
        422, naming all that is wrong.
    """
    found = list(problems)
    known = (*KNOWN, *besides)
    found += [
        f"unknown: {name[:80]!r}; known: {', '.join(known)}" for name in said if name not in known
    ]
    fields = {
        name: _text(name, value, found).encode(errors="surrogatepass")
        for name, value in said.items()
        if name in FIELDS and value is not None
    }
    kind, filename = (_optional_text(name, said.get(name), found) for name in (MEDIA, FILENAME))
    asked = FieldReader(fields, found).read(kind, filename)
    if found:
        refuse("; ".join(found))
    return asked


def _text(name: str, value: Any, problems: list[str]) -> str:
    """Return a field as in a form: what is JSON there may be JSON here."""
    if isinstance(value, str):
        return value
    if name in {"metadata", "inputs"}:
        return json.dumps(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    problems.append(f"{name}: {str(value)[:80]!r} (accepted: a string)")
    return ""


def _optional_text(name: str, value: Any, problems: list[str]) -> str | None:
    if value is None or isinstance(value, str):
        return value
    problems.append(f"{name}: {str(value)[:80]!r} (accepted: a string)")
    return None
