"""Settings and documents checked: every mistake at once, one line each, in our words.

pydantic finds the mistakes; what it says of them is written for programmers. Each kind of mistake
is translated here, once for all files, options and environment variables.
"""

from collections.abc import Callable, Iterator, Mapping
from types import UnionType
from typing import Any, Final, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from batuta.errors import ConfigurationError, describe_value
from batuta.spelling import NameSuggester

M = TypeVar("M", bound=BaseModel)

Place = tuple[int | str, ...]


def validated(
    model: type[M],
    values: object,
    *,
    source: str = "",
    within: str = "",
    key_names: Mapping[str, str] | None = None,
) -> M:
    """Return `values` as a `model`.

    Parameters
    ----------
    model : type
        What is expected.
    values : object
        What was given.
    source : str
        The file that they come from, if they come from one: each line begins with it.
    within : str
        The key of `source` that they are the value of, if they are not all of it.
    key_names : mapping, optional
        How the user gives a key, if not in `source`: ``--port``, or ``BATUTA_PORT``, for ``port``.

    Raises
    ------
    ConfigurationError
        One line per mistake: the key, what was given, what is accepted.
    """
    try:
        return model.model_validate(values)
    except ValidationError as exc:
        details = exc.errors(include_url=False)
    raise ConfigurationError(_Teller(model, source, within, key_names or {}).lines(details))


def statement_of(error: Mapping[str, Any]) -> str:
    """Return what pydantic says of a mistake, without its mark of what a validator of ours says."""
    return str(error["msg"]).removeprefix("Value error, ").removeprefix("Assertion failed, ")


def key_path(place: Place) -> str:
    """Name a place as it is written in Python and in YAML paths: ``pipelines[0].port``."""
    text = ""
    for part in place:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


class _Teller:
    """Describes the mistakes of one document."""

    def __init__(
        self, model: type[BaseModel], source: str, within: str, key_names: Mapping[str, str]
    ) -> None:
        self._model = model
        self._source = source
        self._within = (within,) if within else ()
        self._key_names = key_names

    def lines(self, details: list[ErrorDetails]) -> list[str]:
        meant = set(self._meant(details))
        return [
            self._line(each)
            for each in details
            # A key that is missing because it is misspelt is one mistake.
            if not (each["type"] == "missing" and each["loc"] in meant)
        ]

    def _meant(self, details: list[ErrorDetails]) -> Iterator[Place]:
        for each in details:
            if each["type"] == "extra_forbidden":
                nearest = self._suggester(each["loc"]).nearest(str(each["loc"][-1]))
                if nearest is not None:
                    yield (*each["loc"][:-1], nearest)

    def _line(self, detail: ErrorDetails) -> str:
        place = detail["loc"]
        kind = detail["type"]
        if kind == "extra_forbidden":
            suggester = self._suggester(place)
            hint = suggester.hint(str(place[-1])) or f" (accepted: {', '.join(self._keys(place))})"
            return self._at(place[:-1], f"the key {str(place[-1])!r} is unknown{hint}")
        if kind == "missing":
            about = self._description(place)
            means = f" ({about})" if about else ""
            if place[0] in self._key_names and not self._within:
                return f"{self._key_names[str(place[0])]} is missing{means}"
            return self._at(place[:-1], f"the key {str(place[-1])!r} is missing{means}")
        if kind == "value_error":  # of a validator of ours: a whole statement
            return self._at(place, self._refusal(detail))
        given = self._given(detail)
        tell = _EXPECTED.get(kind)
        if tell is not None:
            return self._at(place, f"{given} given, {tell(detail.get('ctx', {}))} expected")
        about = self._description(place)
        return self._at(place, f"{given} is refused" + (f" ({about})" if about else ""))

    def _at(self, place: Place, statement: str) -> str:
        if len(place) == 1 and not self._within and place[0] in self._key_names:
            return f"{self._key_names[str(place[0])]}: {statement}"
        path = key_path((*self._within, *place))
        return ": ".join(part for part in (self._source, path, statement) if part)

    def _refusal(self, detail: ErrorDetails) -> str:
        statement, given = str(detail["ctx"]["error"]), detail["input"]
        shown = isinstance(given, str) and given not in statement and not _is_secret(detail["loc"])
        return f"{given!r}: {statement}" if shown else statement

    def _given(self, detail: ErrorDetails) -> str:
        """Return what was given, unless it is a secret."""
        if _is_secret(detail["loc"]):
            return "a text that is not shown"
        given = detail["input"]
        if given is None:
            return "nothing"
        if isinstance(given, dict):
            return "a mapping" if given else "an empty mapping"
        if isinstance(given, list):
            return "a list" if given else "an empty list"
        return describe_value(given)

    def _description(self, place: Place) -> str:
        """Return what the field at `place` is described as, without its full stop."""
        owner = _owner(self._model, place)
        if owner is None or not place:
            return ""
        field = owner.model_fields.get(str(place[-1]))
        return (field.description or "").rstrip(".") if field else ""

    def _keys(self, place: Place) -> list[str]:
        owner = _owner(self._model, place)
        return list(owner.model_fields) if owner is not None else []

    def _suggester(self, place: Place) -> NameSuggester:
        return NameSuggester(self._keys(place))


def _is_secret(place: Place) -> bool:
    return any(str(key).endswith("token") for key in place)


def _owner(model: type[BaseModel], place: Place) -> type[BaseModel] | None:
    """Return the model that the last key of `place` belongs to, if it belongs to one."""
    owner: Any = model
    for part in place[:-1]:
        owner = _value_type(owner, part)
    return owner if isinstance(owner, type) and issubclass(owner, BaseModel) else None


def _value_type(owner: Any, key: int | str) -> Any:
    """Return the type of what is at `key` of an `owner`: a model, a mapping or a list."""
    if isinstance(owner, type) and issubclass(owner, BaseModel):
        field = owner.model_fields.get(str(key))
        return _without_none(field.annotation) if field else None
    arguments = get_args(owner)
    return _without_none(arguments[-1]) if arguments else None


def _without_none(annotation: Any) -> Any:
    if get_origin(annotation) not in (Union, UnionType):
        return annotation
    return next(part for part in get_args(annotation) if part is not type(None))


def _always(text: str) -> Callable[[Mapping[str, Any]], str]:
    return lambda _context: text


def _at_least_items(context: Mapping[str, Any]) -> str:
    number = context["min_length"]
    return f"at least {number} item{'s' if number != 1 else ''}"


def _characters(number: int) -> str:
    return f"{number} character{'s' if number != 1 else ''}"


_TEXT: Final = _always("a text")
_WHOLE: Final = _always("a whole number")
_NUMBER: Final = _always("a number")
_TRUTH: Final = _always("true or false")
_LIST: Final = _always("a list")
_MAPPING: Final = _always("a mapping of keys")

_EXPECTED: Final[Mapping[str, Callable[[Mapping[str, Any]], str]]] = {
    "string_type": _TEXT,
    "string_sub_type": _TEXT,
    "string_unicode": _TEXT,
    "path_type": _always("a path"),
    "int_type": _WHOLE,
    "int_parsing": _WHOLE,
    "int_parsing_size": _WHOLE,
    "int_from_float": _WHOLE,
    "float_type": _NUMBER,
    "float_parsing": _NUMBER,
    "finite_number": _always("a finite number"),
    "bool_type": _TRUTH,
    "bool_parsing": _TRUTH,
    "list_type": _LIST,
    "tuple_type": _LIST,
    "dict_type": _MAPPING,
    "mapping_type": _MAPPING,
    "model_type": _MAPPING,
    "model_attributes_type": _MAPPING,
    "invalid_key": _always("a key that is a text"),
    "literal_error": lambda context: str(context["expected"]),
    "enum": lambda context: str(context["expected"]),
    "greater_than": lambda context: f"more than {context['gt']:g}",
    "greater_than_equal": lambda context: f"at least {context['ge']:g}",
    "less_than": lambda context: f"less than {context['lt']:g}",
    "less_than_equal": lambda context: f"at most {context['le']:.15g}",
    "too_short": _at_least_items,
    "too_long": lambda context: f"at most {context['max_length']} items",
    "string_too_short": lambda context: f"at least {_characters(context['min_length'])}",
    "string_too_long": lambda context: f"at most {_characters(context['max_length'])}",
}
"""What is accepted where pydantic finds a mistake, by its name for the mistake."""
