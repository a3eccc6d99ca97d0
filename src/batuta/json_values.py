"""What JSON, UTF-8 and every supported database can carry, checked before it is recorded.

Python accepts more than can be given back: lone surrogates, which stand for bytes that are not
UTF-8 (PEP 383); NUL, which PostgreSQL cannot store; numbers that are not finite, or larger than
64 bits; values nested so deep that encoding them fails.
"""

import datetime as dt
import enum
import math
import os
import sys
from collections.abc import Iterator, Mapping
from typing import Any, Final

from batuta.errors import describe_value, encodable

MAX_DEPTH: Final = 64
"""Levels of arrays and objects; encoders of JSON give up at some hundreds."""
MAX_INTEGER: Final = 2**63 - 1
MAX_ARRAY_SIZE: Final = 10_000
"""Values of an array that are converted; what is larger belongs in a file."""


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
    return next(json_problems(value, where), None)


def json_problems(value: Any, where: str) -> Iterator[str]:
    """Yield all that of a value cannot be carried, as `json_problem` does the first."""
    waiting: list[tuple[str, Any, int]] = [(where, value, 0)]
    while waiting:
        name, item, depth = waiting.pop()
        if depth > MAX_DEPTH:
            yield f"{where}: nested deeper than {MAX_DEPTH} levels"
            return
        if isinstance(item, dict):
            for key in item:
                if (problem := _key_problem(key)) is not None:
                    yield f"{name}: key {key!r:.80} {problem}"
            waiting += [(f"{name}.{key}", each, depth + 1) for key, each in reversed(item.items())]
        elif isinstance(item, list | tuple):
            parts = [(f"{name}.{at}", each, depth + 1) for at, each in enumerate(item)]
            waiting += reversed(parts)
        elif (problem := _scalar_problem(item)) is not None:
            yield f"{name}: {problem}"


def plain(value: Any, depth: int = 0) -> Any:
    """Return a value in JSON's own types where it has an equal there; the rest as it is.

    Scalars and arrays of NumPy, and what converts itself to one (xarray, pandas), become numbers
    and lists; dates and times, ISO 8601; paths, text; sets, lists; members of an `enum.Enum`, their
    values; numbers that are keys, text.
    """
    if depth > MAX_DEPTH:
        return value
    match value:
        case Mapping():
            return {_plain_key(key): plain(each, depth + 1) for key, each in value.items()}
        case list() | tuple() | set() | frozenset():
            return [plain(each, depth + 1) for each in value]
        case enum.Enum():
            return plain(value.value, depth + 1)
        case _ if hasattr(value, "__array__"):
            return _plain_array(value, depth)
        case _:
            return _plain_scalar(value)


def _plain_scalar(value: Any) -> Any:
    match value:
        case float():
            return float(value)  # that of NumPy is one
        case dt.datetime() | dt.date() | dt.time():
            return None if value != value else value.isoformat()  # noqa: PLR0124  NaT is no equal of itself
        case os.PathLike():
            return os.fspath(value)
        case _:
            return value


def _plain_key(key: object) -> object:
    return str(key) if isinstance(key, int | float | os.PathLike) else key


def _plain_array(value: Any, depth: int) -> Any:
    # NumPy is not imported for this: who has such a value has done it.
    numpy = sys.modules["numpy"]
    array = numpy.asarray(value)
    if array.size > MAX_ARRAY_SIZE:
        return value
    if array.dtype.kind == "M":
        texts = numpy.datetime_as_string(array)
        return numpy.where(numpy.isnat(array), None, texts.astype(object)).tolist()
    return plain(array.tolist(), depth + 1) if array.dtype.kind in "biufUO" else value


def carriable(value: Any, depth: int = 0) -> Any:
    """Return a value with what `json_problem` refuses written as text; numbers not finite as None.

    For values whose loss would cost more than their form: metadata of a product that is finished,
    and records that were made before it was refused, of which one must not break a list.
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
        case float():
            return value if math.isfinite(value) else None
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
