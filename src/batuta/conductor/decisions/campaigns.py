"""What a campaign makes, in which order, and how each of it ends: functions without a database.

A campaign makes products of many observations again, or those that lack. Which of them is planned
first, observation by observation, from what is available; nothing else is made by it.
"""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cached_property
from typing import Final

from batuta.conductor.decisions.approvals import Verdict
from batuta.conductor.decisions.commands import retry
from batuta.conductor.decisions.processing_record import AT_PROVIDER, ProcessingRecord
from batuta.conductor.decisions.remaking import ProcessingEnd, follows, in_order, is_under_way
from batuta.graph import Graph, Product
from batuta.messaging import ProcessingState as State
from batuta.work_classes import WorkClass, most_urgent


class CampaignScope(StrEnum):
    """Which of the products that a campaign names it makes."""

    ALL = "all"
    """Wherever their inputs are available, whether or not they were made before."""
    MISSING = "missing"
    """Those that are not available."""
    STALE = "stale"
    """Those that are marked as stale: see `batuta.conductor.decisions.staleness`."""
    FAILED = "failed"
    """Those whose newest processing has failed."""


class CampaignState(StrEnum):
    """How a campaign is."""

    PLANNING = "planning"
    PLANNED = "planned"
    RUNNING = "running"
    PAUSED = "paused"
    CANCELLING = "cancelling"
    """Nothing more is requested; what is at its pipeline goes on to its end."""
    CANCELLED = "cancelled"
    DONE = "done"

    @property
    def ended(self) -> bool:
        """Whether nothing follows."""
        return self in (CampaignState.CANCELLED, CampaignState.DONE)


class CampaignOrder(StrEnum):
    """What an operator may order for a campaign."""

    START = "start"
    PAUSE = "pause"
    RESUME = "resume"
    CANCEL = "cancel"


_ORDERS: Final[Mapping[CampaignOrder, Mapping[CampaignState, CampaignState]]] = {
    CampaignOrder.START: {CampaignState.PLANNED: CampaignState.RUNNING},
    CampaignOrder.PAUSE: {CampaignState.RUNNING: CampaignState.PAUSED},
    CampaignOrder.RESUME: {CampaignState.PAUSED: CampaignState.RUNNING},
    CampaignOrder.CANCEL: {
        CampaignState.PLANNING: CampaignState.CANCELLED,
        CampaignState.PLANNED: CampaignState.CANCELLED,
        CampaignState.RUNNING: CampaignState.CANCELLING,
        CampaignState.PAUSED: CampaignState.CANCELLING,
    },
}


def after_order(state: CampaignState, order: CampaignOrder) -> CampaignState | None:
    """Return the state after an order; None if it cannot be ordered in `state`."""
    return _ORDERS[order].get(state)


def states_for(order: CampaignOrder) -> tuple[CampaignState, ...]:
    """Return the states in which something can be ordered."""
    return tuple(_ORDERS[order])


NOTHING_TO_MAKE: Final = "nothing is to be made"


def after_planning(processings: int) -> tuple[CampaignState, str | None]:
    """Return the state of a campaign that is planned, and why, if it has ended.

    One that makes nothing ends at once: there is nothing to start, and nothing to be cancelled.
    """
    if processings:
        return CampaignState.PLANNED, None
    return CampaignState.DONE, NOTHING_TO_MAKE


# ---------------------------------------------------------------------- which products


@dataclass(frozen=True, slots=True)
class ObservationPlan:
    """What a campaign makes of an observation.

    Attributes
    ----------
    products : tuple of str
        In the order in which they are made.
    lacking : tuple of str
        What it was to make, and whose inputs are not available.
    """

    products: tuple[str, ...]
    lacking: tuple[str, ...]


def plan_observation(
    graph: Graph, wanted: Collection[str], available: Collection[str]
) -> ObservationPlan:
    """Return what a campaign makes of an observation.

    That is what is wanted and can be made, and what the graph has made as a consequence: so the
    plan tells all that will be made.
    """
    planned: list[str] = []
    lacking: list[str] = []
    before, there, remade = set(available), set(available), set[str]()
    for name in in_order(graph):
        product = graph.products[name]
        if name in wanted:
            if not product.ready(there):
                lacking.append(name)
                continue
        elif not follows(product, remade, there, before):
            continue
        planned.append(name)
        remade.add(name)
        there.add(name)
    return ObservationPlan(tuple(planned), tuple(lacking))


# ---------------------------------------------------------------------- step by step


class ItemState(StrEnum):
    """How a product of an observation is that a campaign makes."""

    BLOCKED = "blocked"
    """Something that it is made from is made by the same campaign first."""
    READY = "ready"
    """Next, once the campaign has a place."""
    AWAITING = "awaiting"
    """Something that it is made from is being made by others: then it is ready again."""
    OPEN = "open"
    """Its processing has been claimed, and has not ended."""
    MADE = "made"
    FAILED = "failed"
    SKIPPED = "skipped"
    CANCELLED = "cancelled"

    @property
    def settled(self) -> bool:
        """Whether it has ended."""
        return self in SETTLED


SETTLED: Final = frozenset(
    {ItemState.MADE, ItemState.FAILED, ItemState.SKIPPED, ItemState.CANCELLED}
)
NOT_CLAIMED: Final = (ItemState.BLOCKED, ItemState.READY, ItemState.AWAITING)
"""Begun, and without a processing."""


@dataclass(frozen=True, slots=True)
class Step:
    """The state that an item enters, and why, if it is not made."""

    state: ItemState
    reason: str | None = None


def next_steps(graph: Graph, items: Mapping[str, ItemState]) -> dict[str, Step]:
    """Return what becomes of the blocked items of an observation.

    Parameters
    ----------
    items : mapping
        The items of one observation, by product; those that were made may be left out.
    """
    now = dict(items)
    steps: dict[str, Step] = {}
    for name in [each for each in in_order(graph) if items.get(each) is ItemState.BLOCKED]:
        product = graph.products[name]
        states = {source: now[source] for source in product.sources if source in now}
        if not all(state.settled for state in states.values()):
            continue
        lost = [
            source
            for source, state in states.items()
            if state is not ItemState.MADE and source in product.m_input
        ]
        step = Step(ItemState.READY)
        if lost:
            ends = ", ".join(f"{source} {_ENDS[states[source]]}" for source in lost)
            step = Step(ItemState.SKIPPED, f"left as it is: {ends}")
        steps[name] = step
        now[name] = step.state
    for name, state in items.items():
        if state is ItemState.BLOCKED and name not in graph.products:
            steps[name] = Step(ItemState.SKIPPED, f"the graph no longer makes {name}")
    return steps


_ENDS: Final = {
    ItemState.FAILED: "failed",
    ItemState.SKIPPED: "was skipped",
    ItemState.CANCELLED: "was cancelled",
}


def first_states(graph: Graph, products: Collection[str]) -> dict[str, Step]:
    """Return the first states of the items of an observation."""
    return {
        name: Step(ItemState.BLOCKED)
        if name not in graph.products or set(graph.products[name].sources) & set(products)
        else Step(ItemState.READY)
        for name in products
    }


def settlement(end: ProcessingEnd | None, now: float) -> Step | None:
    """Return how an item ends with its processing; None if it goes on.

    What was made counts once it was announced, since what follows is made from that version; an
    announcement that does not come is waited for `ANNOUNCED_WITHIN_S`. A processing that is no
    longer there was never requested: an input of it was withdrawn, and its item is tried again.
    """
    if end is None:
        return Step(ItemState.READY)
    match end.state:
        case State.SUCCEEDED:
            return _after_success(end, now)
        case State.FAILED:
            return Step(ItemState.FAILED, end.error or "failed")
        case State.CANCELLED:
            return Step(ItemState.CANCELLED, end.error or "cancelled")
        case _:
            return None


def _after_success(end: ProcessingEnd, now: float) -> Step | None:
    if end.verdict in (Verdict.REFUSED, Verdict.WITHDRAWN):
        return Step(ItemState.FAILED, f"made, and {end.verdict}: nothing is made from it")
    overdue = end.is_overdue(now) and end.verdict is not Verdict.PENDING
    return Step(ItemState.MADE) if end.announced or overdue else None


def after_wait(awaited: ProcessingEnd | None, now: float) -> Step | None:
    """Return what becomes of an item that awaits a processing; None if it goes on waiting.

    However that has ended: what is available then is what it is made from.
    """
    under_way = awaited is not None and is_under_way(awaited, now)
    return None if under_way else Step(ItemState.READY)


def adopt(
    record: ProcessingRecord,
    product: Product,
    campaign: int,
    work_class: WorkClass,
    priority: int | None,
    now: float,
) -> ProcessingRecord | None:
    """Return a processing that was there before as one of a campaign; None if it cannot be.

    One that waits, or has failed, and is of the same inputs, makes what the campaign would make: it
    is that processing which the campaign makes, so that nothing is made twice.
    """
    if record.state in AT_PROVIDER or record.state in (State.SUCCEEDED, State.CANCELLED):
        return None
    if record.state in (State.UNAPPROVED, State.WAITING, State.HELD):
        return replace(record, campaign=campaign)
    renewed = retry(record, product, now)
    if renewed is None:
        return None
    of_class = most_urgent((record.told_class, work_class)) or work_class
    return replace(
        renewed,
        campaign=campaign,
        work_class=of_class,
        told_class=of_class,
        priority=renewed.priority if priority is None else priority,
        told_priority=renewed.told_priority if priority is None else priority,
    )


# ---------------------------------------------------------------------- observations by name


@dataclass(frozen=True)
class NamePatterns:
    """Names of observations: ``*`` stands for any text, ``?`` for any letter; none: all names.

    All that match are at least `first`, and less than `end`, letter by letter; "" for no bound.
    """

    patterns: Sequence[str]

    def matching(self, names: Iterable[str]) -> frozenset[str]:
        """Return the names that match one of them."""
        if not self.patterns:
            return frozenset(names)
        matches = self._compiled.fullmatch
        return frozenset(name for name in names if matches(name) is not None)

    @cached_property
    def _compiled(self) -> re.Pattern[str]:
        letters = {"*": ".*", "?": "."}
        return re.compile(
            "|".join(
                "".join(letters.get(letter, re.escape(letter)) for letter in each)
                for each in self.patterns
            )
        )

    @property
    def first(self) -> str:
        """The least that a name can be."""
        return min((_prefix(each) for each in self.patterns), default="")

    @property
    def end(self) -> str:
        """What all names are less than; "" if there is no bound."""
        prefixes = [_prefix(each) for each in self.patterns]
        if not prefixes or "" in prefixes:
            return ""
        return max(each[:-1] + chr(ord(each[-1]) + 1) for each in prefixes)


EVERY_NAME: Final = NamePatterns(())


def is_pattern(name: str) -> bool:
    """Return whether a name has a wildcard."""
    return "*" in name or "?" in name


def _prefix(pattern: str) -> str:
    return re.split(r"[*?]", pattern, maxsplit=1)[0]
