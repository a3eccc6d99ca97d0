"""What can be claimed from what is available: functions without database, network or clock.

What becomes of a claim afterwards is decided in `batuta.conductor.decisions.transitions`.
"""

import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from batuta.graph import Graph, OnUpdate, Product

NAMESPACE: Final = uuid.UUID("6f1a2a1e-3f0b-5d0c-9a53-0b6f2f6f0c1d")
CLAIMED_ONCE: Final = "once"


@dataclass(frozen=True, slots=True)
class Arrival:
    """A product instance that is available; version 0 where its source keeps none.

    `archived` tells that the sdb holds that version. Once it holds one, its versions count, and
    not those that others announce.
    """

    product: str
    obs_id: str
    version: int = 0
    archived: bool = False


@dataclass(frozen=True, slots=True)
class Claim:
    """The decision to make `product` for `obs_id` from `inputs` (versions by name)."""

    product: Product
    obs_id: str
    inputs: Mapping[str, int]

    @property
    def key(self) -> str:
        """What is unique among the claims for this product and observation.

        Under ``on_update: ignore`` a product is claimed once; under ``reprocess``, once for
        each set of versions of its inputs.
        """
        if self.product.on_update is OnUpdate.IGNORE:
            return CLAIMED_ONCE
        return ",".join(f"{name}={version}" for name, version in sorted(self.inputs.items()))

    @property
    def processing_id(self) -> str:
        """The id of the processing, computed from the claim and so always the same for it.

        A conductor that lost its database sends the same ids again: the pipeline and the sdb
        recognise them, and the product is made once.
        """
        return processing_id_of(self.product.name, self.obs_id, self.key)


def processing_id_of(product: str, obs_id: str, claim: str) -> str:
    """Return the id of the processing of a claim by its key: always the same for it."""
    return str(uuid.uuid5(NAMESPACE, f"{product}/{obs_id}/{claim}"))


def is_newer(new: tuple[bool, int], known: tuple[bool, int]) -> bool:
    """Return whether a version replaces the known one, each as (archived, version).

    Once the sdb holds one, its versions count, and not those that others announce.
    """
    return (new[0] and not known[0]) or (new[0] == known[0] and new[1] > known[1])


def is_claim_id(processing_id: str) -> bool:
    """Return whether an id has the form of those that are computed from claims."""
    try:
        return uuid.UUID(processing_id).version == 5
    except ValueError:
        return False


def claims_for(
    graph: Graph, obs_id: str, arrived: Iterable[str], available: Mapping[str, int]
) -> Iterator[Claim]:
    """Yield what can be made for `obs_id` now that the products `arrived` are available.

    Parameters
    ----------
    graph : Graph
        The product graph.
    obs_id : str
        The observation.
    arrived : iterable of str
        Names of the products just announced.
    available : mapping
        Version of each product available for `obs_id`, by name, `arrived` included.

    Yields
    ------
    Claim
        One per product that they feed and whose mandatory inputs are all available.
    """
    fed = {product.name: product for name in arrived for product in graph.fed_by(name)}
    for product in fed.values():
        made = product.name in available and product.on_update is OnUpdate.IGNORE
        if product.ready(available) and not made:
            inputs = {name: available[name] for name in product.sources if name in available}
            yield Claim(product, obs_id, inputs)


def pending_optional_inputs(
    graph: Graph, product: Product, available: Mapping[str, int], failed: frozenset[str]
) -> tuple[str, ...]:
    """Return the optional inputs of `product` that are not available yet, but will be made.

    An input that arrives from outside is not among them: nobody knows whether it will come.

    Parameters
    ----------
    failed : frozenset of str
        Products whose processing has failed, or was cancelled, for this observation.
    """
    missing = [name for name in product.o_input if name not in available]
    if not missing:
        return ()
    coming = _reachable_without(graph, available, failed)
    return tuple(name for name in missing if name in coming)


def _reachable_without(
    graph: Graph, available: Mapping[str, int], failed: frozenset[str]
) -> frozenset[str]:
    coming = graph.reachable(available) - failed
    if not failed:
        return coming
    # What depends on a failed product cannot be made either: repeat until nothing more drops out.
    while True:
        sources = coming | available.keys()
        remaining = frozenset(name for name in coming if graph.products[name].ready(sources))
        if remaining == coming:
            return coming
        coming = remaining
