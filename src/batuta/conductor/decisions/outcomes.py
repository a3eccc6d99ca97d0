"""What becomes of an event of ``data.*``: triggered, waiting for, or ignored because."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from batuta.conductor.decisions.approvals import Question, Verdict, decided_text
from batuta.conductor.decisions.deadlines import expired_text
from batuta.conductor.decisions.rules import Claim
from batuta.conductor.decisions.stages import (
    Staged,
    lacking,
    no_claim_text,
    stage_text,
    version_text,
    waited_for,
)
from batuta.graph import Graph, OnUpdate, Product
from batuta.stages import FINAL_RANK


class Outcome(StrEnum):
    """How an event has ended."""

    TRIGGERED = "triggered"
    """At least one processing was claimed from it, or begun again."""
    WAITING = "waiting"
    """Nothing was, and at least one product that it feeds lacks other inputs."""
    IGNORED = "ignored"
    """Nothing follows from it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HeardEvent:
    """A message of ``data.*``, as it was received.

    Attributes
    ----------
    id : str
        That of its CloudEvent; of what has none, its subject and its number in the stream.
    source : str
        What follows ``data.`` in its subject.
    received : float
        When NATS stored it, in seconds since 1970. With `sequence`, the same at each delivery.
    sequence : int
        Its number in the stream.
    product, obs_id, version
        What it is about, where that could be read; version 0 where it names none.
    stage : int or None
        The rank of its stage; None where it tells none.
    problem : str or None
        Why it is not believed, or cannot be read.
    """

    id: str
    source: str
    received: float
    sequence: int
    product: str | None = None
    obs_id: str | None = None
    version: int = 0
    stage: int | None = None
    problem: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Decided:
    """What was decided about a batch of arrivals.

    Attributes
    ----------
    versions : mapping
        What is available of each observation, by its id; without those that are left as they are
        because their records were dropped.
    claims : mapping
        What can be made, by (obs_id, product), claimed now or before.
    started : frozenset of str
        The ids of the processings that were claimed now, or begin again.
    expired : frozenset of tuple of str
        What could be made, and is not worth it any more, as (obs_id, product).
    asked : tuple of Question
        What waits for a person before it is available, or was refused.
    planned : mapping
        The number of the campaign that claims it in its turn, by (obs_id, product).
    staged : mapping
        What is known of the stages of observations of which any was told.
    superseded : tuple of str
        The ids of the processings that were cancelled because a higher stage is made instead.
    awaiting : mapping
        What is to be made after inputs that are made again first, by (obs_id, product).
    joined : mapping
        The processings that were claimed before, and take the new versions, by (obs_id, product).
    same_bytes : frozenset of tuple
        The versions that have the bytes of the one before, as (obs_id, product, version).
    """

    versions: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    claims: Mapping[tuple[str, str], Claim] = field(default_factory=dict)
    started: frozenset[str] = frozenset()
    expired: frozenset[tuple[str, str]] = frozenset()
    asked: tuple[Question, ...] = ()
    planned: Mapping[tuple[str, str], int] = field(default_factory=dict)
    staged: Mapping[str, Staged] = field(default_factory=dict)
    superseded: tuple[str, ...] = ()
    awaiting: Mapping[tuple[str, str], tuple[str, ...]] = field(default_factory=dict)
    joined: Mapping[tuple[str, str], str] = field(default_factory=dict)
    same_bytes: frozenset[tuple[str, str, int]] = frozenset()

    def started_of(self, instance: tuple[str, str]) -> str | None:
        """Return the processing that follows for (obs_id, product); None if none does."""
        claim = self.claims.get(instance)
        if claim is not None and claim.processing_id in self.started:
            return claim.processing_id
        return self.joined.get(instance)


@dataclass(frozen=True, slots=True, kw_only=True)
class EventOutcome:
    """How an event has ended, and what it has caused.

    Attributes
    ----------
    reason : str or None
        For what was ignored: why, in one line. For what is waiting: the stages that are waited for.
    triggered : mapping
        Ids of processings by their products.
    waiting : mapping
        The inputs that it needs and that were not available, by the products that it feeds besides.
    """

    outcome: Outcome
    reason: str | None = None
    triggered: Mapping[str, str] = field(default_factory=dict)
    waiting: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


DROPPED: Final = "the records of its observation were dropped, and it tells nothing new"


def outcome_of(graph: Graph, heard: HeardEvent, decided: Decided) -> EventOutcome:
    """Return what became of an event, by what was decided about the batch that it came in."""
    if heard.problem is not None or heard.product is None or heard.obs_id is None:
        return _ignored(heard.problem)
    fed = graph.fed_by(heard.product)
    asked = _asked(heard, decided)
    if asked is not None:
        return _of_asked(asked, fed)
    versions = decided.versions.get(heard.obs_id)
    if versions is None:
        return _ignored(DROPPED)
    return _of_available(heard, fed, versions, decided)


def _of_available(
    heard: HeardEvent, fed: Iterable[Product], versions: Mapping[str, int], decided: Decided
) -> EventOutcome:
    """Return what became of an event about what is available now, or was before."""
    staged = decided.staged.get(heard.obs_id or "")
    old = _nothing_new(heard, versions, staged, decided)
    if old is not None:
        return _ignored(old)
    triggered: dict[str, str] = {}
    waiting: dict[str, tuple[str, ...]] = {}
    for product in fed:
        instance = heard.obs_id or "", product.name
        begun = decided.started_of(instance)
        lacks = decided.awaiting.get(instance) or lacking(product, versions, staged)
        if begun is not None:
            triggered[product.name] = begun
        elif lacks:
            waiting[product.name] = lacks
    if triggered:
        return EventOutcome(outcome=Outcome.TRIGGERED, triggered=triggered, waiting=waiting)
    if not waiting:
        left = {
            product.name: text
            for product in fed
            if (text := _left_text(product, heard.obs_id or "", decided)) is not None
        }
        return _ignored(_nothing_follows(heard, fed, versions, left, staged))
    reason = None if staged is None else _stages_waited_for(fed, versions, staged)
    return EventOutcome(outcome=Outcome.WAITING, waiting=waiting, reason=reason)


def _nothing_new(
    heard: HeardEvent, versions: Mapping[str, int], staged: Staged | None, decided: Decided
) -> str | None:
    """Return why a version replaces none: it has the same bytes, or a lower stage; None if not."""
    name = heard.product or ""
    if (heard.obs_id, name, heard.version) in decided.same_bytes:
        return f"version {heard.version} of {name} has the bytes of version {versions[name]}"
    return None if staged is None else _below(heard, versions, staged)


def _asked(heard: HeardEvent, decided: Decided) -> Question | None:
    about = (heard.obs_id, heard.product, str(heard.version))
    same = (each for each in decided.asked if (each.obs_id, each.product, each.version) == about)
    return next(same, None)


def _of_asked(asked: Question, fed: Iterable[Product]) -> EventOutcome:
    """Return what became of a version that waits for a person, or was refused."""
    if asked.state is not Verdict.PENDING:
        return _ignored(f"{asked.product}: {decided_text(asked)}")
    approval = (f"approval of {asked.product} version {asked.version}",)
    return EventOutcome(outcome=Outcome.WAITING, waiting={each.name: approval for each in fed})


def withdrawal_of(heard: HeardEvent) -> EventOutcome:
    """Return what became of an event that withdraws a version; nothing is claimed from one."""
    return _ignored(heard.problem or f"version {heard.version} of {heard.product} {_IS_WITHDRAWN}")


_IS_WITHDRAWN: Final = "is withdrawn: used no more"


def tells_withdrawal(reason: str | None) -> bool:
    """Return whether an event was ignored since it withdraws a version."""
    return reason is not None and reason.endswith(_IS_WITHDRAWN)


def _ignored(reason: str | None) -> EventOutcome:
    return EventOutcome(outcome=Outcome.IGNORED, reason=reason)


def _left_text(product: Product, obs_id: str, decided: Decided) -> str | None:
    """Return why a product that could be made was not claimed; None if it could not be."""
    if (obs_id, product.name) in decided.expired:
        return expired_text(product)
    campaign = decided.planned.get((obs_id, product.name))
    return None if campaign is None else f"campaign {campaign} makes {product.name} in its turn"


def _rank(heard: HeardEvent) -> int:
    return FINAL_RANK if heard.stage is None else heard.stage


def _below(heard: HeardEvent, versions: Mapping[str, int], staged: Staged) -> str | None:
    """Return what is of a higher stage than an event; None if nothing is."""
    rank, known = staged.rank(heard.product or ""), versions.get(heard.product or "", 0)
    if _rank(heard) >= rank:
        return None
    which = f"version {heard.version}" if heard.version else "this"
    return (
        f"{version_text(known, rank)} of {heard.product} is available, and {which} is "
        f"{stage_text(_rank(heard))}"
    )


def _stages_waited_for(
    fed: Iterable[Product], versions: Mapping[str, int], staged: Staged
) -> str | None:
    waits = {product.name: waited_for(product, versions, staged) for product in fed}
    return "; ".join(f"{name} waits for {text}" for name, text in waits.items() if text) or None


def _nothing_follows(
    heard: HeardEvent,
    fed: Iterable[Product],
    versions: Mapping[str, int],
    left: Mapping[str, str],
    staged: Staged | None,
) -> str:
    known = versions.get(heard.product or "", 0)
    if heard.version and known > heard.version:
        return f"version {known} of {heard.product} is available, which is newer"
    reasons = [left.get(product.name) or _not_again(product, versions, staged) for product in fed]
    return "; ".join(reasons) or f"no product of the graph is made from {heard.product}"


def _not_again(product: Product, versions: Mapping[str, int], staged: Staged | None) -> str:
    by_stage = None if staged is None else no_claim_text(product, versions, staged)
    if by_stage is not None:
        return by_stage
    if product.name in versions and product.on_update is OnUpdate.IGNORE:
        return f"{product.name} is available, and made once (on_update: ignore)"
    return f"{product.name} was claimed before"
