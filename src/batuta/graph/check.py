"""All that is wrong in a graph's document, each mistake in one line, all of them at once."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

from batuta.graph.document import GraphDocument, path, read_form
from batuta.graph.order import find_cycles
from batuta.graph.spelling import Speller, repeated, shown

CYCLES_TOLD: Final = 100
"""Each cycle is named in full; in a graph with more of them, the rest is not looked for."""


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


@dataclass(frozen=True)
class _Outline:
    """What can still be told of a document where parts of it have the wrong form."""

    inputs: list[str]
    products: dict[str, dict[str, Any]]
    providers: dict[str, Any]

    @classmethod
    def of(cls, document: object) -> "_Outline":
        whole = _object(document)
        products = {name: _object(entry) for name, entry in _object(whole.get("products")).items()}
        return cls(_names(whole.get("inputs")), products, _object(whole.get("providers")))


def _object(value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        return {}
    return {key: entry for key, entry in value.items() if isinstance(key, str)}


def _names(value: object) -> list[str]:
    return [name for name in value if isinstance(name, str)] if isinstance(value, list) else []


def _wrong_inputs(outline: _Outline) -> Iterator[str]:
    yield from _repeated_names("inputs", outline.inputs)
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
        mandatory, optional = _names(entry.get("m_input")), _names(entry.get("o_input"))
        for key, names in (("m_input", mandatory), ("o_input", optional)):
            place = path("products", product, key)
            yield from _unknown_names(place, names, known, speller)
            yield from _repeated_names(place, names)
        for name in _repeated_in_both(mandatory, optional):
            yield (
                f"{path('products', product, 'o_input')}: {shown(name)} is in m_input too "
                "(accepted: mandatory or optional)"
            )


def _unknown_names(
    place: str, names: list[str], known: set[str], speller: Speller
) -> Iterator[str]:
    for name in names:
        if name not in known:
            hint = speller.hint(name)
            yield f"{place}: {shown(name)} is unknown{hint} (accepted: an input or a product)"


def _repeated_names(place: str, names: list[str]) -> Iterator[str]:
    for name in repeated(names):
        yield f"{place}: {shown(name)} is given more than once (accepted: once)"


def _repeated_in_both(mandatory: list[str], optional: list[str]) -> list[str]:
    both = set(mandatory).intersection(optional)
    return [name for name in dict.fromkeys(optional) if name in both]


def _wrong_providers(outline: _Outline) -> Iterator[str]:
    first: dict[str, tuple[str, str]] = {}
    for product, entry in outline.products.items():
        provider, url = entry.get("provider"), entry.get("url")
        if not (isinstance(provider, str) and isinstance(url, str)):
            continue
        other, known_url = first.setdefault(provider, (product, url.rstrip("/")))
        if url.rstrip("/") != known_url:
            place = path("products", product, "url")
            yield (
                f"{place}: {shown(url)} for the provider {shown(provider)}, "
                f"which {shown(other)} puts at {shown(known_url)} (accepted: one url per provider)"
            )
    yield from _unknown_providers(outline)


def _unknown_providers(outline: _Outline) -> Iterator[str]:
    named = {entry.get("provider") for entry in outline.products.values()}
    known = {name for name in named if isinstance(name, str)}
    speller = Speller(known)
    for provider in outline.providers:
        if provider not in known:
            place, hint = path("providers", provider), speller.hint(provider)
            yield f"{place}: no product names it{hint} (accepted: a provider in use)"


def _cycles(outline: _Outline) -> Iterator[str]:
    sources = {
        product: list(dict.fromkeys(_names(entry.get("m_input")) + _names(entry.get("o_input"))))
        for product, entry in outline.products.items()
    }
    for cycle in islice(find_cycles(sources), CYCLES_TOLD):
        place, circle = path("products", cycle[0]), " -> ".join((*cycle, cycle[0]))
        yield f"{place}: in a cycle, so that none of it could be made first: {circle}"
