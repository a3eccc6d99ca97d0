"""The graph as plain text, level by level."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields
from typing import Final

from batuta.graph.graph import Graph
from batuta.graph.model import Product, Provider

_DEFAULTS: Final = {field.name: field.default for field in fields(Product)}
_OPTIONS: Final = {
    "timeout_s": "timeout {:g} s",
    "max_attempts": "at most {} attempts",
    "priority": "priority {}",
    "stated_class": "class {}",
    "o_wait_s": "waits {:g} s for optional inputs",
    "o_wait_from": "waits from: {}",
    "o_min": "needs {} optional inputs",
    "on_update": "on update: {}",
    "on_late": "on late: {}",
    "due_s": "due after {:g} s",
    "expires_s": "expires after {:g} s",
    "due_from": "times from: {}",
}


def as_text(graph: Graph) -> str:
    """Return the graph in plain text: its levels, its providers, then remarks.

    Optional inputs are in brackets; options are listed if they are not the default.
    """
    blocks = [_summary(graph), _inputs(graph)]
    for level, names in enumerate(graph.levels()[1:], start=1):
        rows = [_product_row(graph.products[name]) for name in names]
        blocks.append([f"level {level}", *_aligned(rows)])
    blocks.append(
        ["providers", *_aligned(_provider_row(graph, each) for each in graph.providers.values())]
    )
    if graph.remarks:
        blocks.append(["remarks", *(f"  {remark}" for remark in graph.remarks)])
    return "\n\n".join("\n".join(block) for block in blocks) + "\n"


def _summary(graph: Graph) -> list[str]:
    counts = (
        (len(graph.inputs), "input"),
        (len(graph.products), "product"),
        (len(graph.levels()) - 1, "level"),
        (len(graph.providers), "provider"),
    )
    return [", ".join(_counted(count, noun) for count, noun in counts)]


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _inputs(graph: Graph) -> list[str]:
    rows = [
        (name, f"feeds {', '.join(product.name for product in graph.fed_by(name)) or 'nothing'}")
        for name in graph.inputs
    ]
    return ["inputs", *_aligned(rows)]


def _product_row(product: Product) -> tuple[str, str, str]:
    optional = [f"[{name}]" for name in product.o_input]
    return (
        product.name,
        product.provider,
        f"from {', '.join([*product.m_input, *optional])}{_options(product)}",
    )


def _options(product: Product) -> str:
    given = [
        wording.format(getattr(product, name))
        for name, wording in _OPTIONS.items()
        if getattr(product, name) != _DEFAULTS[name]
    ]
    return f"  ({', '.join(given)})" if given else ""


def _provider_row(graph: Graph, provider: Provider) -> tuple[str, str, str]:
    made = sum(product.provider == provider.name for product in graph.products.values())
    limit = (
        "" if provider.max_concurrent is None else f", at most {provider.max_concurrent} at a time"
    )
    of_class = "".join(
        f", at most {number} of class {each}"
        for each, number in provider.max_concurrent_by_class.items()
    )
    limited = provider.max_concurrent_per_instance
    each = "" if limited is None else f", at most {limited} at a time at each address"
    calls = ", calls back" if provider.callback else ""
    lost = "" if provider.lost_after_s is None else f", lost after {provider.lost_after_s:g} s"
    made_here = _counted(made, "product")
    return (
        provider.name,
        ", ".join(provider.urls),
        f"{made_here}{limit}{each}{of_class}{calls}{lost}",
    )


def _aligned(rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """Yield the rows in columns, indented."""
    table = list(rows)
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for row in table:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        yield f"  {'  '.join(cells)}".rstrip()
