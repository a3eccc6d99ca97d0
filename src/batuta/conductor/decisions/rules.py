"""What can be claimed from what is available: functions without database, network or clock.

What becomes of a claim afterwards is decided in `batuta.conductor.decisions.transitions`.
"""

import uuid
from collections.abc import Collection, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from types import MappingProxyType
from typing import Final

from batuta.conductor.decisions.events import Archived
from batuta.conductor.decisions.processing_record import ProcessingRecord
from batuta.conductor.decisions.stages import Staged
from batuta.graph import Approval, Graph, OnUpdate, Product, WaitFrom
from batuta.stages import FINAL_RANK, lowest, stage_of
from batuta.work_classes import WorkClass, most_urgent

NAMESPACE: Final = uuid.UUID("6f1a2a1e-3f0b-5d0c-9a53-0b6f2f6f0c1d")
CLAIMED_ONCE: Final = "once"
MANUAL: Final = "by hand"
"""How the claims that operators make begin: as many as they ask for."""
NOTHING_TOLD: Final[Mapping[str, WorkClass]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Arrival:
    """A product instance that is available; version 0 where its source keeps none.

    `told_class` is the class of work that its event told, or that was told for the processing
    that made it; None if none was. `stage` is the rank of its stage, in the same way.

    `made_by` is the processing that made it, where one did; `sha256` the digest of its bytes, where
    that is told.

    `archived` tells that the sdb holds that version. Once it holds one, its versions count, and
    not those that others announce. `event_time` is the own time of the event that told it, in
    seconds since 1970; None if it gives none.
    """

    product: str
    obs_id: str
    version: int = 0
    archived: bool = False
    event_time: float | None = None
    told_class: WorkClass | None = None
    stage: int | None = None
    made_by: str | None = None
    sha256: str | None = None

    @property
    def order(self) -> tuple[bool, int, int]:
        """What the newest version of a product is the greatest of: see `order_of`."""
        return order_of(self.archived, self.stage, self.version)


@dataclass(frozen=True, slots=True)
class Claim:
    """The decision to make `product` for `obs_id` from `inputs` (versions by name).

    `told_class` is the class that it inherits of its inputs; None for that of the graph. `stage`
    is the rank of the lowest stage of its inputs; None if none is told of any. `again` counts the
    processings that it had before and that are not to be continued: they were stopped, or made it
    from what is withdrawn by now.
    """

    product: Product
    obs_id: str
    inputs: Mapping[str, int]
    told_class: WorkClass | None = None
    stage: int | None = None
    again: int = 0

    @property
    def key(self) -> str:
        """What is unique among the claims for this product and observation.

        Under ``on_update: ignore`` a product is claimed once; under ``reprocess``, once for
        each set of versions of its inputs. Under ``on_late: ignore`` optional inputs make no
        claim another one; under ``improve`` those do that are added. What is claimed at a stage
        below the final one is claimed at the next one as well.
        """
        below = self.stage is not None and self.stage < FINAL_RANK
        at = f"@{stage_of(self.stage or 0)}" if below else ""
        return self._made_from + at + (f"~{self.again}" if self.again else "")

    @property
    def _made_from(self) -> str:
        product, improves = self.product, self.product.improves
        if product.on_update is OnUpdate.IGNORE:
            added = sorted(set(self.inputs).intersection(product.o_input)) if improves else []
            return ",".join([CLAIMED_ONCE, *added])
        names = self.inputs if improves else set(self.inputs).intersection(product.m_input)
        return ",".join(f"{name}={self.inputs[name]}" for name in sorted(names))

    @property
    def inputs_text(self) -> str:
        """Its inputs and their versions, for people."""
        return inputs_text(self.inputs)

    @property
    def processing_id(self) -> str:
        """The id of the processing, computed from the claim and so always the same for it.

        A conductor that lost its database sends the same ids again: the pipeline and the sdb
        recognise them, and the product is made once.
        """
        return processing_id_of(self.product.name, self.obs_id, self.key)


def inputs_text(inputs: Mapping[str, int]) -> str:
    """Return inputs and their versions, for people."""
    return ", ".join(f"{name} v{n}" if n else name for name, n in inputs.items())


@lru_cache(maxsize=1024)
def processing_id_of(product: str, obs_id: str, claim: str) -> str:
    """Return the id of the processing of a claim by its key: always the same for it."""
    return str(uuid.uuid5(NAMESPACE, f"{product}/{obs_id}/{claim}"))


def order_of(archived: bool, stage: int | None, version: int) -> tuple[bool, int, int]:
    """Return what the newest version of a product is the greatest of.

    Once the sdb holds one, its versions count, and not those that others announce. Of these, one of
    a higher stage replaces all of lower ones, whatever their numbers.
    """
    return (archived, FINAL_RANK if stage is None else stage, version)


def is_claim_id(processing_id: str) -> bool:
    """Return whether an id has the form of those that are computed from claims."""
    try:
        return uuid.UUID(processing_id).version == 5
    except ValueError:
        return False


def claims_for(
    graph: Graph,
    obs_id: str,
    arrived: Collection[str],
    available: Mapping[str, int],
    told: Mapping[str, WorkClass] = NOTHING_TOLD,
    staged: Staged | None = None,
) -> Iterator[Claim]:
    """Yield what can be made for `obs_id` now that the products `arrived` are available.

    Parameters
    ----------
    graph : Graph
        The product graph.
    obs_id : str
        The observation.
    arrived : collection of str
        Names of the products just announced.
    available : mapping
        Version of each product available for `obs_id`, by name, `arrived` included.
    told : mapping
        The classes that were told of them, by name.
    staged : Staged or None
        What is known of their stages; None if none is told of any.

    Yields
    ------
    Claim
        One per product that they feed and whose mandatory inputs are all available.
    """
    fed = {product.name: product for name in arrived for product in graph.fed_by(name)}
    for product in fed.values():
        usable, stage, rises = available, None, False
        if staged is not None:
            usable = staged.usable(product, available)
            stage = staged.stage_from(product, usable)
            rises = staged.rises(product, stage)
            if not staged.allows(product, stage):
                continue
        if product.ready(usable) and (rises or not _is_settled(product, arrived, available)):
            inputs = {name: usable[name] for name in product.sources if name in usable}
            yield Claim(product, obs_id, inputs, inherited_class(product, arrived, told), stage)


def inherited_class(
    product: Product, arrived: Collection[str], told: Mapping[str, WorkClass]
) -> WorkClass | None:
    """Return the most urgent class told of what `arrived`, or else of all the inputs.

    What arrives now is why the product is made: one that is remade as backfill makes no alert of
    what follows because the observation once was one.
    """
    if not told:
        return None
    now = most_urgent(told.get(name) for name in product.sources if name in arrived)
    return now or most_urgent(map(told.get, product.sources))


def inherit_classes(
    arrivals: Sequence[Arrival], made_by: Collection[ProcessingRecord]
) -> Sequence[Arrival]:
    """Return the arrivals, each with the class told for the processing that made it."""
    told = {(each.product, each.obs_id): each.told_class for each in made_by if each.told_class}
    if not told:
        return arrivals
    return [
        replace(each, told_class=each.told_class or told.get((each.product, each.obs_id)))
        for each in arrivals
    ]


def inherit_stages(
    arrivals: Sequence[Arrival], made: Collection[Archived], made_by: Collection[ProcessingRecord]
) -> Sequence[Arrival]:
    """Return the arrivals, none at a higher stage than the processing that made it.

    A pipeline may tell a lower one of what it made; that it tells none does not make it final.
    """
    by_id = {each.id: each for each in made_by if each.stage is not None}
    if not by_id:
        return arrivals
    of_version = {
        (each.product, each.obs_id, each.version): by_id[each.processing_id].stage
        for each in made
        if each.processing_id in by_id
    }
    # What names no processing was attributed to the one that is at its provider.
    of_product = {(each.product, each.obs_id): each.stage for each in by_id.values()}

    def stage_of_maker(each: Arrival) -> int | None:
        instance = (each.product, each.obs_id)
        return of_version.get((*instance, each.version), of_product.get(instance))

    return [
        replace(each, stage=lowest([each.stage, maker]))
        if (maker := stage_of_maker(each)) is not None
        else each
        for each in arrivals
    ]


def _is_settled(product: Product, arrived: Collection[str], available: Container[str]) -> bool:
    """Return whether a product that is available stays as it is."""
    if product.name not in available or product.on_update is OnUpdate.REPROCESS:
        return False
    return not product.improves or not set(product.o_input).intersection(arrived)


def takes_inputs_while_it_waits(product: Product) -> bool:
    """Return whether what arrives before `product` is requested joins the claim that waits.

    A person approves what is newest, once.
    """
    improves = product.improves and product.on_update is OnUpdate.IGNORE
    return product.o_wait_s > 0 or improves or product.approval is Approval.BEFORE


@dataclass(frozen=True, slots=True)
class InputTimes:
    """When the first and the last input became available for an observation.

    Inputs are what arrives from outside; times are seconds since 1970, by the conductor's clock.
    """

    first: float
    last: float


def wait_ends_at(product: Product, times: InputTimes | None, now: float) -> float:
    """Return when `product`, claimed `now`, is made without the optional inputs that lack then.

    Parameters
    ----------
    times : InputTimes or None
        None if no input of the graph is known to have arrived: then it counts from now.
    """
    if times is None or product.o_wait_from is WaitFrom.COMPLETE:
        return now + product.o_wait_s
    start = times.first if product.o_wait_from is WaitFrom.FIRST_INPUT else times.last
    # A clock that was set back must not make it longer.
    return max(now, min(start, now) + product.o_wait_s)


def pending_optional_inputs(
    graph: Graph, product: Product, available: Mapping[str, int], failed: frozenset[str]
) -> tuple[str, ...]:
    """Return the optional inputs of `product` that are not available yet, but will be.

    An input that arrives from outside is not among them, since nobody knows whether it will come,
    unless the graph says that it is expected.

    Parameters
    ----------
    failed : frozenset of str
        Products whose processing has failed, or was cancelled, for this observation.
    """
    missing = [name for name in product.o_input if name not in available]
    if not missing:
        return ()
    coming = _reachable_without(graph, {*available, *graph.expected}, failed)
    coming |= frozenset(graph.expected)
    return tuple(name for name in missing if name in coming)


def _reachable_without(
    graph: Graph, available: Collection[str], failed: frozenset[str]
) -> frozenset[str]:
    coming = graph.reachable(available) - failed
    if not failed:
        return coming
    # What depends on a failed product cannot be made either: repeat until nothing more drops out.
    while True:
        sources = coming.union(available)
        remaining = frozenset(name for name in coming if graph.products[name].ready(sources))
        if remaining == coming:
            return coming
        coming = remaining
