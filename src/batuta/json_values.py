"""What JSON, UTF-8 and every supported database can carry, checked before it is recorded.

Python accepts more than can be given back: lone surrogates, which stand for bytes that are not
UTF-8 (PEP 383); NUL, which PostgreSQL cannot store; numbers that are not finite, or larger than
64 bits; values nested so deep that encoding them fails.
"""

import math
from typing import Any, Final

from batuta.errors import describe_value, encodable

MAX_DEPTH: Final = 64
"""Levels of arrays and objects; encoders of JSON give up at some hundreds."""
MAX_INTEGER: Final = 2**63 - 1


def text_problem(text: str) -> str | None:
    """Return why `text` cannot be carried, or None if it can."""
    if "\0" in text:
        return "contains NUL"
    if not _is_utf8(text):
        return "contains a lone surrogate, which UTF-8 cannot encode"
    return None


def json_problem(value: Any, where: str) -> str | None:
    """Return what of a value cannot be carried, and where it is, or None if all of it can.

    Parameters
    ----------
    value : any
        Of `dict`, `list`, `tuple`, `str`, `int`, `float`, `bool` and None.
    where : str
        Its name, which the answer begins with: ``metadata.site: contains NUL``.
    """
    waiting: list[tuple[str, Any, int]] = [(where, value, 0)]
    while waiting:
        name, item, depth = waiting.pop()
        if depth > MAX_DEPTH:
            return f"{where}: nested deeper than {MAX_DEPTH} levels"
        if isinstance(item, dict):
            for key, nested in item.items():
                problem = _key_problem(key)
                if problem is not None:
                    return f"{name}: key {key!r:.80} {problem}"
                waiting.append((f"{name}.{key}", nested, depth + 1))
        elif isinstance(item, list | tuple):
            waiting += [(f"{name}.{at}", nested, depth + 1) for at, nested in enumerate(item)]
        elif (problem := _scalar_problem(item)) is not None:
            return f"{name}: {problem}"
    return None


def carriable(value: Any, depth: int = 0) -> Any:
    """Return a value with what `json_problem` refuses written as text.

    For records that were made before it was refused: one of them must not break a list.
    """
    if depth == MAX_DEPTH and isinstance(value, dict | list | tuple):
        return "..."
    match value:
        case dict():
            return {_escaped(str(key)): carriable(item, depth + 1) for key, item in value.items()}
        case list() | tuple():
            return [carriable(item, depth + 1) for item in value]
        case str():
            return _escaped(value)
        case _:
            return value if _scalar_problem(value) is None else f"{value!r:.80}"


def _escaped(text: str) -> str:
    return encodable(text).replace("\0", "\\0")


def _key_problem(key: object) -> str | None:
    return text_problem(key) if isinstance(key, str) else "is not a string"


def _scalar_problem(item: object) -> str | None:
    match item:
        case bool() | None:
            return None
        case str():
            return text_problem(item)
        case int():
            return None if -MAX_INTEGER - 1 <= item <= MAX_INTEGER else "larger than 64 bits"
        case float():
            return None if math.isfinite(item) else f"{item} is not a JSON number"
        case _:
            return f"{describe_value(item)} is not a JSON value"


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
