"""Checking a graph's document: every mistake is found at once, and described in one line."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Final

from batuta.graph.document import GraphDocument, path, read_form
from batuta.graph.order import find_cycles
from batuta.graph.spelling import NameSuggester, duplicates, quote

MAX_CYCLES: Final = 100
"""Each cycle is named in full; beyond so many, the search stops."""

_GIVEN_TWICE: Final = "{} is given more than once (accepted: once)"


def check(document: object) -> tuple[GraphDocument | None, list[str]]:
    """Check a document as a whole.

    Returns
    -------
    tuple of GraphDocument or None, and list of str
        The document, None if its form is wrong, and one line per mistake. The graph is valid only
        if the list is empty.
    """
    typed, problems = read_form(document)
    outline = _Outline.of(document)
    problems += _wrong_inputs(outline)
    problems += _wrong_sources(outline)
    problems += _wrong_times(outline)
    problems += _wrong_providers(outline)
    problems += _cycles(outline)
    return typed, problems


@dataclass(frozen=True, slots=True)
class _Entry:
    """What can be read of one product."""

    mandatory: list[str]
    optional: list[str]
    needed_optional: object
    times: tuple[object, object]
    provider: str | None
    urls: list[str]

    @classmethod
    def of(cls, value: object) -> "_Entry":
        entry = value if isinstance(value, dict) else {}
        provider, urls = entry.get("provider"), entry.get("url")
        return cls(
            _names(entry.get("m_input")),
            _names(entry.get("o_input")),
            entry.get("o_min"),
            (entry.get("due"), entry.get("expires")),
            provider if isinstance(provider, str) else None,
            [url.rstrip("/") for url in ([urls] if isinstance(urls, str) else _names(urls))],
        )


@dataclass(frozen=True, slots=True)
class _Outline:
    """What can be read of a document of which parts may have the wrong form."""

    inputs: list[str]
    expected: list[str]
    products: dict[str, _Entry]
    providers: list[str]

    @classmethod
    def of(cls, document: object) -> "_Outline":
        whole = document if isinstance(document, dict) else {}
        products = {name: _Entry.of(value) for name, value in _named(whole.get("products"))}
        providers = [name for name, _ in _named(whole.get("providers"))]
        inputs, expected = _names(whole.get("inputs")), _names(whole.get("expected"))
        return cls(inputs, expected, products, providers)


def _named(value: object) -> Iterator[tuple[str, object]]:
    if isinstance(value, dict):
        yield from ((name, entry) for name, entry in value.items() if isinstance(name, str))


def _names(value: object) -> list[str]:
    return [name for name in value if isinstance(name, str)] if isinstance(value, list) else []


def _wrong_inputs(outline: _Outline) -> Iterator[str]:
    for name in duplicates(outline.inputs):
        yield f"inputs: {_GIVEN_TWICE.format(quote(name))}"
    arriving = set(outline.inputs)
    for name in outline.products:
        if name in arriving:
            yield (
                f"{path('products', name)}: is also among the inputs "
                "(accepted: an input arrives, a product is made)"
            )
    yield from _wrong_expected(outline)


def _wrong_expected(outline: _Outline) -> Iterator[str]:
    for name in duplicates(outline.expected):
        yield f"expected: {_GIVEN_TWICE.format(quote(name))}"
    arriving = set(outline.inputs)
    suggester = NameSuggester(arriving)
    for name in outline.expected:
        if name not in arriving:
            hint = suggester.hint(name)
            yield f"expected: {quote(name)} is not among the inputs{hint} (accepted: an input)"


def _wrong_sources(outline: _Outline) -> Iterator[str]:
    known = {*outline.inputs, *outline.products}
    suggester = NameSuggester(known)
    for product, entry in outline.products.items():
        for key, names in (("m_input", entry.mandatory), ("o_input", entry.optional)):
            # Places are named only where something is wrong: naming all would take longer than
            # the checks.
            for name in names:
                if name not in known:
                    place, hint = path("products", product, key), suggester.hint(name)
                    unknown = f"{quote(name)} is unknown{hint}"
                    yield f"{place}: {unknown} (accepted: an input or a product)"
            for name in duplicates(names):
                yield f"{path('products', product, key)}: {_GIVEN_TWICE.format(quote(name))}"
        for name in _in_both(entry):
            place = path("products", product, "o_input")
            yield f"{place}: {quote(name)} is in m_input too (accepted: mandatory or optional)"
        needed, there = entry.needed_optional, len(set(entry.optional))
        if isinstance(needed, int) and needed > there:
            place = path("products", product, "o_min")
            yield f"{place}: {needed} of {there} optional inputs (accepted: at most {there})"


def _wrong_times(outline: _Outline) -> Iterator[str]:
    for product, entry in outline.products.items():
        due, expires = entry.times
        numbers = isinstance(due, int | float) and isinstance(expires, int | float)
        if numbers and expires < due:  # type: ignore[operator]  # both are numbers
            place = path("products", product, "expires")
            yield f"{place}: {expires} s, before it is due (accepted: at least {due} s)"


def _in_both(entry: _Entry) -> list[str]:
    both = set(entry.mandatory).intersection(entry.optional)
    return [name for name in dict.fromkeys(entry.optional) if name in both]


def _wrong_providers(outline: _Outline) -> Iterator[str]:
    first: dict[str, tuple[str, list[str]]] = {}
    for product, entry in outline.products.items():
        for url in duplicates(entry.urls):
            yield f"{path('products', product, 'url')}: {_GIVEN_TWICE.format(quote(url))}"
        if entry.provider is None or not entry.urls:
            continue
        other, known = first.setdefault(entry.provider, (product, entry.urls))
        if entry.urls != known:
            place = path("products", product, "url")
            yield (
                f"{place}: {_several(entry.urls)} for the provider {quote(entry.provider)}, "
                f"which {quote(other)} puts at {_several(known)} (accepted: one url per provider)"
            )
    yield from _unknown_providers(outline)


def _several(urls: list[str]) -> str:
    return ", ".join(map(quote, urls))


def _unknown_providers(outline: _Outline) -> Iterator[str]:
    named = {entry.provider for entry in outline.products.values()}
    known = {name for name in named if name is not None}
    suggester = NameSuggester(known)
    for provider in outline.providers:
        if provider not in known:
            place, hint = path("providers", provider), suggester.hint(provider)
            yield f"{place}: no product names it{hint} (accepted: a provider in use)"


def _cycles(outline: _Outline) -> Iterator[str]:
    sources = {
        product: list(dict.fromkeys(entry.mandatory + entry.optional))
        for product, entry in outline.products.items()
    }
    for cycle in islice(find_cycles(sources), MAX_CYCLES):
        place, circle = path("products", cycle[0]), " -> ".join((*cycle, cycle[0]))
        yield f"{place}: in a cycle, so that none of it could be made first: {circle}"
