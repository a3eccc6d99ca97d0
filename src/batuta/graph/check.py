"""All that is wrong in a graph's document, each mistake in one line, all of them at once."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Final

from batuta.graph.document import GraphDocument, path, read_form
from batuta.graph.order import find_cycles
from batuta.graph.spelling import Speller, repeated, shown

CYCLES_TOLD: Final = 100
"""Each cycle is named in full; in a graph with more of them, the rest is not looked for."""

_TWICE: Final = "{} is given more than once (accepted: once)"


def check(document: object) -> tuple[GraphDocument | None, list[str]]:
    """Check a document as a whole.

    Returns
    -------
    tuple of GraphDocument or None, and list of str
        The document, typed where its form is right, and one line per mistake. There is a graph
        only where the list is empty.
    """
    typed, problems = read_form(document)
    outline = _Outline.of(document)
    problems += _wrong_inputs(outline)
    problems += _wrong_sources(outline)
    problems += _wrong_providers(outline)
    problems += _cycles(outline)
    return typed, problems


@dataclass(frozen=True, slots=True)
class _Entry:
    """What can be told of one product."""

    mandatory: list[str]
    optional: list[str]
    provider: str | None
    url: str | None

    @classmethod
    def of(cls, value: object) -> "_Entry":
        entry = value if isinstance(value, dict) else {}
        provider, url = entry.get("provider"), entry.get("url")
        return cls(
            _names(entry.get("m_input")),
            _names(entry.get("o_input")),
            provider if isinstance(provider, str) else None,
            url.rstrip("/") if isinstance(url, str) else None,
        )


@dataclass(frozen=True, slots=True)
class _Outline:
    """What can still be told of a document where parts of it have the wrong form."""

    inputs: list[str]
    products: dict[str, _Entry]
    providers: list[str]

    @classmethod
    def of(cls, document: object) -> "_Outline":
        whole = document if isinstance(document, dict) else {}
        products = {name: _Entry.of(value) for name, value in _named(whole.get("products"))}
        providers = [name for name, _ in _named(whole.get("providers"))]
        return cls(_names(whole.get("inputs")), products, providers)


def _named(value: object) -> Iterator[tuple[str, object]]:
    if isinstance(value, dict):
        yield from ((name, entry) for name, entry in value.items() if isinstance(name, str))


def _names(value: object) -> list[str]:
    return [name for name in value if isinstance(name, str)] if isinstance(value, list) else []


def _wrong_inputs(outline: _Outline) -> Iterator[str]:
    for name in repeated(outline.inputs):
        yield f"inputs: {_TWICE.format(shown(name))}"
    arriving = set(outline.inputs)
    for name in outline.products:
        if name in arriving:
            yield (
                f"{path('products', name)}: is also among the inputs "
                "(accepted: an input arrives, a product is made)"
            )


def _wrong_sources(outline: _Outline) -> Iterator[str]:
    known = {*outline.inputs, *outline.products}
    speller = Speller(known)
    for product, entry in outline.products.items():
        for key, names in (("m_input", entry.mandatory), ("o_input", entry.optional)):
            # Places are named only where something is wrong: naming all would take longer than
            # the checks.
            for name in names:
                if name not in known:
                    place, hint = path("products", product, key), speller.hint(name)
                    unknown = f"{shown(name)} is unknown{hint}"
                    yield f"{place}: {unknown} (accepted: an input or a product)"
            for name in repeated(names):
                yield f"{path('products', product, key)}: {_TWICE.format(shown(name))}"
        for name in _in_both(entry):
            place = path("products", product, "o_input")
            yield f"{place}: {shown(name)} is in m_input too (accepted: mandatory or optional)"


def _in_both(entry: _Entry) -> list[str]:
    both = set(entry.mandatory).intersection(entry.optional)
    return [name for name in dict.fromkeys(entry.optional) if name in both]


def _wrong_providers(outline: _Outline) -> Iterator[str]:
    first: dict[str, tuple[str, str]] = {}
    for product, entry in outline.products.items():
        if entry.provider is None or entry.url is None:
            continue
        other, known_url = first.setdefault(entry.provider, (product, entry.url))
        if entry.url != known_url:
            place = path("products", product, "url")
            yield (
                f"{place}: {shown(entry.url)} for the provider {shown(entry.provider)}, "
                f"which {shown(other)} puts at {shown(known_url)} (accepted: one url per provider)"
            )
    yield from _unknown_providers(outline)


def _unknown_providers(outline: _Outline) -> Iterator[str]:
    named = {entry.provider for entry in outline.products.values()}
    known = {name for name in named if name is not None}
    speller = Speller(known)
    for provider in outline.providers:
        if provider not in known:
            place, hint = path("providers", provider), speller.hint(provider)
            yield f"{place}: no product names it{hint} (accepted: a provider in use)"


def _cycles(outline: _Outline) -> Iterator[str]:
    sources = {
        product: list(dict.fromkeys(entry.mandatory + entry.optional))
        for product, entry in outline.products.items()
    }
    for cycle in islice(find_cycles(sources), CYCLES_TOLD):
        place, circle = path("products", cycle[0]), " -> ".join((*cycle, cycle[0]))
        yield f"{place}: in a cycle, so that none of it could be made first: {circle}"
