"""The conductor's decisions, as functions of what is known: no database, no network, no clock."""

import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from batuta.graph import Graph, OnUpdate, Product

NAMESPACE: Final = uuid.UUID("6f1a2a1e-3f0b-5d0c-9a53-0b6f2f6f0c1d")
CLAIMED_ONCE: Final = "once"
ASK_MOST_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Arrival:
    """A product instance that is available; version 0 where its source keeps none."""

    product: str
    obs_id: str
    version: int = 0


@dataclass(frozen=True, slots=True)
class Claim:
    """The decision to make `product` for `obs_id` from `inputs` (versions by name)."""

    product: Product
    obs_id: str
    inputs: Mapping[str, int]

    @property
    def key(self) -> str:
        """What no second claim for this product and observation may have.

        Under ``on_update: ignore`` a product is claimed once; under ``reprocess``, once for
        each set of versions of its inputs.
        """
        if self.product.on_update is OnUpdate.IGNORE:
            return CLAIMED_ONCE
        return ",".join(f"{name}={version}" for name, version in sorted(self.inputs.items()))

    @property
    def processing_id(self) -> str:
        """The same for the same claim, always: a conductor that lost its database repeats it.

        So the pipeline and the sdb recognise the repeat, and the product is made once.
        """
        return str(uuid.uuid5(NAMESPACE, f"{self.product.name}/{self.obs_id}/{self.key}"))


def claims_for(
    graph: Graph, obs_id: str, arrived: Iterable[str], available: Mapping[str, int]
) -> Iterator[Claim]:
    """What can be made for `obs_id` now that the products `arrived` have come.

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
        One per product that they feed and whose mandatory inputs are all there.
    """
    fed = {product.name: product for name in arrived for product in graph.fed_by(name)}
    for product in fed.values():
        made = product.name in available and product.on_update is OnUpdate.IGNORE
        if product.ready(available) and not made:
            inputs = {name: available[name] for name in product.sources if name in available}
            yield Claim(product, obs_id, inputs)


def on_their_way(
    graph: Graph, product: Product, available: Mapping[str, int], hopeless: frozenset[str]
) -> tuple[str, ...]:
    """Optional inputs of `product` that are not there yet, but will be made.

    An input that arrives from outside is not on its way: nobody knows whether it will come.

    Parameters
    ----------
    hopeless : frozenset of str
        Products whose processing has failed, or was cancelled, for this observation.
    """
    missing = [name for name in product.o_input if name not in available]
    if not missing:
        return ()
    coming = _reachable_without(graph, available, hopeless)
    return tuple(name for name in missing if name in coming)


def _reachable_without(
    graph: Graph, available: Mapping[str, int], hopeless: frozenset[str]
) -> frozenset[str]:
    coming = graph.reachable(available) - hopeless
    if not hopeless:
        return coming
    # What depends on a hopeless product is hopeless: shrink until nothing more falls.
    while True:
        there = coming | available.keys()
        kept = frozenset(name for name in coming if graph.products[name].ready(there))
        if kept == coming:
            return coming
        coming = kept


def retry_wait_s(attempt: int, first_s: float, most_s: float) -> float:
    """Wait after `attempt` (from 1) has failed: `first_s`, doubled each time, up to `most_s`."""
    return min(most_s, first_s * 2.0 ** min(attempt - 1, 60))


def ask_wait_s(requested_since_s: float, first_s: float) -> float:
    """How long a silent processing is left alone before its pipeline is asked again.

    It grows with the time since the request, so that a long processing is not pestered.
    """
    return min(ASK_MOST_S, max(first_s, requested_since_s / 2))
