"""What is being made at this moment, what follows from it, and who waits for that: pure functions.

What is to be made from a product that is being made waits for it: made at once, it would be made
from a version that is about to be replaced, and then once more.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from batuta.conductor.decisions.approvals import Verdict
from batuta.conductor.decisions.processing_record import AHEAD_S
from batuta.graph import Graph, OnUpdate, Product
from batuta.messaging import ProcessingState as State

ANNOUNCED_WITHIN_S: Final = 60.0
"""How long the announcement of what has succeeded is waited for, in seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessingEnd:
    """How a processing is, and whether its product was announced.

    Attributes
    ----------
    requested, ended : float or None
        When, in seconds since 1970.
    heard : float or None
        When its product was last heard of; None if it is not available.
    verdict : Verdict or None
        How far the question has come whether anything is made from it; None if nobody is asked.
    """

    state: State
    error: str | None = None
    requested: float | None = None
    ended: float | None = None
    heard: float | None = None
    verdict: Verdict | None = None

    @property
    def announced(self) -> bool:
        """Whether its product was heard of since it was requested."""
        return self.heard is not None and self.heard >= (self.requested or 0.0)

    def is_overdue(self, now: float) -> bool:
        """Return whether the announcement of what has succeeded is not waited for any more."""
        waited_s = now - (self.ended or 0.0)
        # A clock that was ahead, and has recorded the end, must not make it longer.
        return not -AHEAD_S <= waited_s < ANNOUNCED_WITHIN_S


def is_under_way(end: ProcessingEnd, now: float) -> bool:
    """Return whether a version of its product is still to come of a processing."""
    if end.state is State.SUCCEEDED:
        return not end.announced and not end.is_overdue(now)
    return not end.state.ended


def in_order(graph: Graph) -> Iterator[str]:
    """Yield the products of a graph, each after what it is made from."""
    return (name for level in graph.levels() for name in level if name in graph.products)


def follows(
    product: Product, remade: Collection[str], there: Collection[str], before: Collection[str]
) -> bool:
    """Return whether the graph has a product made because others were remade.

    It is what `batuta.conductor.decisions.rules.claims_for` would claim, once for all of them.

    Parameters
    ----------
    there : collection of str
        What is available by then.
    before : collection of str
        What was, before they were remade.
    """
    renewed = [name for name in product.sources if name in remade]
    if not renewed or not product.ready(there):
        return False
    if product.name not in before:
        return True
    if product.on_update is OnUpdate.REPROCESS:
        return product.improves or any(name in product.m_input for name in renewed)
    return product.improves and any(name not in before for name in renewed)


def coming(
    graph: Graph, under_way: Collection[str], available: Collection[str]
) -> Mapping[str, str]:
    """Return of which products a version is to come, by what is under way of an observation.

    Each with the product under way that it comes from: that itself, or what it follows from.
    """
    origins: dict[str, str] = {}
    if not under_way:
        return origins
    before, there = frozenset(available), set(available)
    for name in in_order(graph):
        product = graph.products[name]
        if name in under_way:
            origins[name] = name
        elif follows(product, origins, there, before):
            origins[name] = next(origins[each] for each in product.sources if each in origins)
        else:
            continue
        there.add(name)
    return origins
