"""The form of a graph's document: which keys there are, and what each accepts.

The form alone: unknown names and cycles are found in `batuta.graph.check`.
"""

from collections.abc import Mapping
from functools import lru_cache
from typing import Annotated, Any, Final, cast
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from batuta.graph.model import Approval, DueFrom, LateResult, MadeAt, OnLate, OnUpdate, WaitFrom
from batuta.graph.spelling import NameSuggester, quote
from batuta.names import NAME_PATTERN, NAME_RULE, SERVICE_PATTERN, SERVICE_RULE
from batuta.work_classes import CLASS_RULE, WorkClass

MAX_DURATION_S: Final = 31_536_000
"""One year. A longer duration is a mistake, and would overflow the timers that use it."""


@lru_cache(maxsize=4096)
def _checked_url(url: str) -> str:
    parts = urlsplit(url)
    if not (url.isascii() and url.isprintable() and " " not in url):
        raise ValueError(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.port == 0:
        raise ValueError(url)
    if parts.username is not None or parts.password is not None or "?" in url or "#" in url:
        raise ValueError(url)
    return url.rstrip("/")


_Name = Annotated[str, Field(pattern=NAME_PATTERN)]
_ServiceName = Annotated[str, Field(pattern=SERVICE_PATTERN)]
_BY_CLASS: Final = f"an object: a whole number from 1 to 1000000 for any of {CLASS_RULE}"
_Class = Annotated[WorkClass, Field(strict=False)]
_Number = Annotated[int, Field(ge=1, le=1_000_000)]
_Url = Annotated[str, AfterValidator(_checked_url)]


def _as_list(value: object) -> object:
    return [value] if isinstance(value, str) else value


_Urls = Annotated[list[_Url], BeforeValidator(_as_list), Field(min_length=1, max_length=100)]


class _Document(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


_PERIOD: Final = f"seconds, above 0, at most {MAX_DURATION_S}, or null"


class ProductDocument(_Document):
    """One entry of ``products``; each description says what the key accepts."""

    m_input: list[str] = Field(
        min_length=1, description="a list of at least one name: without any, nothing triggers it"
    )
    o_input: list[str] = Field(default=[], description="a list of names")
    provider: _ServiceName = Field(description=f"a service's name: {SERVICE_RULE}")
    url: _Urls = Field(
        description="http:// or https://, a host, no user, query or fragment, ASCII only; or a "
        "list of 1 to 100 of them"
    )
    timeout: float = Field(
        default=3600.0,
        gt=0,
        le=MAX_DURATION_S,
        description=f"seconds, above 0, at most {MAX_DURATION_S}",
    )
    max_attempts: int = Field(
        default=10, ge=1, le=1000, description="a whole number from 1 to 1000"
    )
    priority: int = Field(
        default=0, ge=-1_000_000, le=1_000_000, description="a whole number within ±1000000"
    )
    o_wait: float = Field(
        default=0.0, ge=0, le=MAX_DURATION_S, description=f"seconds, from 0 to {MAX_DURATION_S}"
    )
    on_update: OnUpdate = Field(
        default=OnUpdate.IGNORE, strict=False, description="'reprocess' or 'ignore'"
    )
    o_wait_from: WaitFrom = Field(
        default=WaitFrom.COMPLETE,
        strict=False,
        description="'complete', 'first_input' or 'last_input'",
    )
    o_min: int = Field(
        default=0, ge=0, description="a whole number, at most that of the optional inputs"
    )
    on_late: OnLate | None = Field(
        default=None, strict=False, description="'improve' or 'ignore', or null: as on_update"
    )
    due: float | None = Field(default=None, gt=0, le=MAX_DURATION_S, description=_PERIOD)
    expires: float | None = Field(default=None, gt=0, le=MAX_DURATION_S, description=_PERIOD)
    due_from: DueFrom = Field(
        default=DueFrom.FIRST_INPUT, strict=False, description="'first_input' or 'event_time'"
    )
    approval: Approval | None = Field(
        default=None, strict=False, description="'before', 'after', or null: nobody is asked"
    )
    late_result: LateResult = Field(
        default=LateResult.ADOPT, strict=False, description="'adopt', 'ask' or 'refuse'"
    )
    stages: MadeAt = Field(
        default=MadeAt.EACH,
        strict=False,
        description="'each', 'final', 'first_and_final' or 'first'",
    )
    work_class: WorkClass | None = Field(
        default=None,
        strict=False,
        alias="class",
        description=f"one of {CLASS_RULE}, or null: as what it is made from, else live",
    )


class ProviderDocument(_Document):
    """One entry of ``providers``."""

    max_concurrent: int | None = Field(
        default=None, ge=1, le=1_000_000, description="a whole number from 1 to 1000000, or null"
    )
    max_concurrent_by_class: dict[_Class, _Number] = Field(default={}, description=_BY_CLASS)
    max_concurrent_per_instance: int | None = Field(
        default=None, ge=1, le=1_000_000, description="a whole number from 1 to 1000000, or null"
    )
    lost_after: float | None = Field(default=None, gt=0, le=MAX_DURATION_S, description=_PERIOD)
    callback: bool = Field(default=False, description="true or false")


class GraphDocument(_Document):
    """The whole document."""

    inputs: list[_Name] = Field(description=f"a list of names: {NAME_RULE}")
    expected: list[_Name] = Field(
        default=[], description="a list of names that are among the inputs"
    )
    products: dict[_Name, ProductDocument] = Field(description="an object: a product per name")
    providers: dict[_ServiceName, ProviderDocument] = Field(
        default={}, description="an object: a provider per name"
    )
    classes: dict[_Class, _Number] = Field(default={}, description=_BY_CLASS)


_ENTRIES: Final[dict[str, type[_Document]]] = {
    "products": ProductDocument,
    "providers": ProviderDocument,
}
_KEY_MARK: Final = ("[key]",)  # how pydantic marks that a key is wrong, rather than its value
_KEY_RULES: Final = {"products": NAME_RULE, "providers": SERVICE_RULE}


def read_form(document: object) -> tuple[GraphDocument | None, list[str]]:
    """Check the form of a document; return it typed, or None and one line per mistake."""
    try:
        return GraphDocument.model_validate(document), []
    except ValidationError as exc:
        return None, [_describe(detail) for detail in exc.errors(include_url=False)]


def key_problems(keys: Mapping[str, Any]) -> list[str]:
    """Check keys of a product, without those that say what it is made from and by whom."""
    try:
        ProductDocument.model_validate(
            {"m_input": ["A"], "provider": "provider", "url": "http://localhost", **keys}
        )
    except ValidationError as exc:
        details = exc.errors(include_url=False)
        return [
            f"{detail['loc'][0]}: {quote(detail['input'])} is refused "
            f"(accepted: {_rule(('products', 'A', detail['loc'][0]))})"
            for detail in details
        ]
    return []


def _describe(detail: ErrorDetails) -> str:
    place = _place(detail)
    holder = place[:-1]
    if detail["type"] == "missing":
        return f"{path(*holder)}: the key {place[-1]!r} is missing (accepted: {_rule(place)})"
    if detail["type"] == "extra_forbidden":
        keys = list(_fields(_model_at(holder)))
        hint = NameSuggester(keys).hint(str(place[-1]))
        accepted = ", ".join(keys)
        return (
            f"{path(*holder)}: the key {quote(place[-1])} is unknown{hint} (accepted: {accepted})"
        )
    if place[2:] == _KEY_MARK:
        return f"{place[0]}: {quote(place[1])} is not a name (accepted: {_KEY_RULES[place[0]]})"
    where = detail["loc"] if _is_of_class(detail) else place
    return f"{path(*where)}: {quote(detail['input'])} is refused (accepted: {_rule(place)})"


def _is_of_class(detail: ErrorDetails) -> bool:
    """Return whether the value for one class is wrong, and not the name of the class."""
    by_class = {"classes", "max_concurrent_by_class"}
    return not by_class.isdisjoint(detail["loc"][-2:-1])


def _place(detail: ErrorDetails) -> tuple[Any, ...]:
    """Return where a mistake is: key, name of the entry, key of the entry, as far as they apply."""
    place = cast("tuple[Any, ...]", detail["loc"])
    return place[:1] if place[:1] in {("inputs",), ("expected",), ("classes",)} else place[:3]


def path(*place: object) -> str:
    """Name a place in the document as ``products.QPO_ECL.m_input``."""
    parts = (
        part if isinstance(part, str) and part.isprintable() else quote(part) for part in place
    )
    return ".".join(parts) or "the document"


def _rule(place: tuple[Any, ...]) -> str:
    """Return what is accepted at a place."""
    if len(place) in {0, 2}:
        return "an object with the keys " + ", ".join(_fields(_model_at(place)))
    return _fields(_model_at(place[:-1]))[place[-1]].description or ""


def _fields(model: type[_Document]) -> dict[str, FieldInfo]:
    """Return the fields of a model by the keys that stand for them."""
    return {field.alias or name: field for name, field in model.model_fields.items()}


def _model_at(place: tuple[Any, ...]) -> type[_Document]:
    return _ENTRIES[place[0]] if place else GraphDocument
