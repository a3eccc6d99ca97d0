"""How the keys of a configuration are declared, and checked.

A configuration is a frozen dataclass; the annotation of each field says what its key accepts. They
are few and flat, and every program checks some before its first tile: a library takes a tenth of a
second to be imported and to read them.
"""

import difflib
import math
from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from types import NoneType, UnionType
from typing import (
    Annotated,
    Any,
    Final,
    Literal,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

from batuta.errors import ConfigurationError


@dataclass(frozen=True)
class Accepts:
    """In an annotation: what a key accepts, in words for messages, and whether a value is that.

    Around a tuple, the words are those of the whole; each item is checked by its own annotation.
    """

    text: str
    test: Callable[[Any], bool]


def is_whole_number(value: Any) -> bool:
    """Return whether a value is an integer and not a bool."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_number(value: Any) -> bool:
    """Return whether a value is a finite number and not a bool."""
    return is_whole_number(value) or (isinstance(value, float) and math.isfinite(value))


PositiveInt = Annotated[
    int, Accepts("a whole number above 0", lambda value: is_whole_number(value) and value > 0)
]
PositiveNumber = Annotated[
    float, Accepts("a number above 0", lambda value: is_number(value) and value > 0)
]

_PLAIN: Final[Mapping[Any, Accepts]] = {
    bool: Accepts("true or false", lambda value: isinstance(value, bool)),
    int: Accepts("a whole number", is_whole_number),
    float: Accepts("a number", is_number),
    str: Accepts("a string", lambda value: isinstance(value, str)),
}

DERIVED: Final = {"key": False}
"""Metadata of a field that no key sets."""

_FOREIGN_NAMES: Final = {
    "queue": "partition",
    "partition": "queue",
    "n_workers": "nb_workers",
    "cores": "cores_per_job",
    "processes": "processes_per_job",
    "memory": "max_ram_per_worker",
    "memory_limit": "max_ram_per_worker",
    "project": "account",
    "address": "scheduler_address",
    "tls_ca": "tls_ca_file",
}
"""By the name of an option in dask or in another batch system, our key for it."""

Config = TypeVar("Config")


def keys_of(model: Any) -> dict[str, Field[Any]]:
    """Return the fields of a configuration, or of its class, that keys set, by key, in order."""
    return {each.name: each for each in fields(model) if each.metadata.get("key", True)}


def validated(model: type[Config], values: Mapping[Any, Any]) -> Config:
    """Return the configuration that `values` give.

    Raises
    ------
    ConfigurationError
        One line per mistake: the key, what was given, what is accepted.
    """
    problems: list[str] = []
    found = _table(model, values, "", problems)
    if problems:
        raise ConfigurationError(problems)
    try:
        return model(**found)
    except ValueError as exc:  # of several keys together
        raise ConfigurationError(str(exc)) from None


def _table(
    model: Any, values: Mapping[Any, Any], prefix: str, problems: list[str]
) -> dict[str, Any]:
    """Return the values of the keys of `model`; add the mistakes to `problems`."""
    if "__dataclass_fields__" not in vars(model):
        raise TypeError(f"{model.__name__}: a class decorated with @dataclass expected")
    keys = keys_of(model)
    annotations = get_type_hints(model, include_extras=True)
    found: dict[str, Any] = {}
    for name, key in keys.items():
        if name in values:
            found[name] = _value(annotations[name], values[name], prefix + name, problems)
        elif key.default is MISSING and key.default_factory is MISSING:
            problems.append(f"{prefix}{name}: missing, {expected(annotations[name])} expected")
    elsewhere: Mapping[Any, str] = getattr(model, "elsewhere", {})
    for name in values:
        if name not in keys:
            told = elsewhere.get(name) or f"unknown key{_suggestion(str(name), list(keys))}"
            problems.append(f"{prefix}{name}: {told}")
    return found


def _value(annotation: Any, given: Any, place: str, problems: list[str]) -> Any:
    """Return the value of a key; add its mistake to `problems`, or those of its table."""
    inner, optional = _without_none(annotation)
    if given is None and optional:
        return None
    if is_dataclass(inner) and isinstance(given, Mapping):
        before = len(problems)
        table = _table(inner, given, f"{place}.", problems)
        return inner(**table) if len(problems) == before else None  # type: ignore[operator]
    refused = _refused(inner, given)
    if refused:
        problems.append(f"{place}: {refused[0]!r} given, {expected(annotation)} expected")
    return tuple(given) if isinstance(given, list) and not refused else given


def _refused(annotation: Any, given: Any) -> list[Any]:
    """Return what of a value is refused: all of it, or items of a list."""
    items = _items(annotation)
    if items is None:
        return [] if _rule(annotation).test(given) else [given]
    if not isinstance(given, list | tuple):
        return [given]
    return [each for each in given if not _rule(items).test(each)]


def _items(annotation: Any) -> Any:
    """Return the annotation of the items of a tuple of any length; None of anything else."""
    if get_origin(annotation) is Annotated:
        return _items(annotation.__origin__)
    return get_args(annotation)[0] if get_origin(annotation) is tuple else None


def expected(annotation: Any) -> str:
    """Describe what a key of an annotation accepts."""
    return _rule(_without_none(annotation)[0]).text


def _rule(annotation: Any) -> Accepts:
    if get_origin(annotation) is Annotated:
        own = (each for each in annotation.__metadata__ if isinstance(each, Accepts))
        return next(own, None) or _rule(annotation.__origin__)
    if get_origin(annotation) is Literal:
        choices = get_args(annotation)
        text = f"one of {', '.join(choices)}" if len(choices) > 1 else choices[0]
        return Accepts(text, lambda value: isinstance(value, str) and value in choices)
    if is_dataclass(annotation):
        return Accepts("a table of keys", lambda value: isinstance(value, annotation))  # type: ignore[arg-type]
    if annotation not in _PLAIN:
        raise TypeError(f"{annotation}: no annotation that a key can have")
    return _PLAIN[annotation]


def _without_none(annotation: Any) -> tuple[Any, bool]:
    """Return an annotation without None, and whether it had it."""
    if get_origin(annotation) not in {Union, UnionType}:
        return annotation, False
    (inner,) = (each for each in get_args(annotation) if each is not NoneType)
    return inner, True


def _suggestion(key: str, known: list[str]) -> str:
    meant = _FOREIGN_NAMES.get(key)
    close = [meant] if meant in known else difflib.get_close_matches(key, known, n=1)
    return f", did you mean {close[0]}?" if close else f" (known: {', '.join(known)})"
