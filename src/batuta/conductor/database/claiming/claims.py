"""Recording what is available and what is claimed from it, inside a transaction."""

import uuid
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import sqlalchemy as sa

from batuta.conductor.database.claiming.campaign_items import planned_by_campaigns
from batuta.conductor.database.claiming.claim_rows import new_row
from batuta.conductor.database.claiming.deadlines import DeadlineStore
from batuta.conductor.database.claiming.earlier_claims import EarlierClaims
from batuta.conductor.database.claiming.optional_waits import UNSUCCESSFUL, OptionalWaits
from batuta.conductor.database.claiming.stage_records import read_staged, supersede_lower
from batuta.conductor.database.claiming.stale_marks import mark_stale
from batuta.conductor.database.claiming.updates import (
    after_their_inputs,
    renew_unsent_of_campaigns,
    same_bytes,
    supersede_older,
    without_outdated,
)
from batuta.conductor.database.current_graph import CurrentGraph, ReadsGraph
from batuta.conductor.database.holds.held_work import hold_again, hold_new
from batuta.conductor.database.records import MAX_IN, Row
from batuta.conductor.database.schema import processings as table
from batuta.conductor.database.statements import (
    AVAILABLE_OF,
    CLAIMED_AT,
    insert_claims,
    record_available,
)
from batuta.conductor.decisions.outcomes import Decided
from batuta.conductor.decisions.processing_record import ProcessingRecord
from batuta.conductor.decisions.rules import (
    MANUAL,
    NOTHING_TOLD,
    Arrival,
    Claim,
    claims_for,
    inherited_class,
    takes_inputs_while_it_waits,
)
from batuta.conductor.decisions.stages import Ranks, Staged
from batuta.conductor.decisions.staleness import (
    NOTHING_AWAITED,
    NOTHING_STALE,
    Staleness,
)
from batuta.graph import Graph, Product
from batuta.messaging import ProcessingState as State
from batuta.stages import lowest
from batuta.work_classes import WorkClass, most_urgent

BY_HAND: Final = "requested by hand"
"""What an operator has ordered who made such a claim."""


class ClaimStore(ReadsGraph):
    """Records availability and claims; every method works in the transaction of its caller.

    Parameters
    ----------
    graph : Graph or CurrentGraph
        The product graph, or what holds the one in force.
    """

    def __init__(self, graph: Graph | CurrentGraph) -> None:
        super().__init__(graph)
        self._deadlines = DeadlineStore(self._current)
        self._waits = OptionalWaits(self._current)
        self._earlier = EarlierClaims(self._current)

    def lock_observations(self, connection: sa.Connection, observations: Collection[str]) -> None:
        """Let no other conductor change the same observations until the transaction ends.

        Whoever changes what is available of an observation locks it first.

        Two conductors that each receive one of a product's two inputs, and do not see the
        other's uncommitted row, would both find the product not ready, and nobody would claim
        it. Observations are locked in one order everywhere, so that two batches that share
        several never wait for each other. SQLite has one writer at a time: nothing to do.
        """
        if connection.dialect.name == "postgresql":
            for obs_id in sorted(observations):
                connection.execute(
                    sa.text("SELECT pg_advisory_xact_lock(hashtextextended(:obs_id, 42))"),
                    {"obs_id": obs_id},
                )

    def record_available(
        self, connection: sa.Connection, arrivals: Sequence[Arrival], now: float
    ) -> None:
        """Record that products are available; of several versions, the newest archived one."""
        newest: dict[tuple[str, str], Arrival] = {}
        told: dict[tuple[str, str], WorkClass | None] = {}
        for arrival in arrivals:
            key = (arrival.obs_id, arrival.product)
            newest[key] = max(arrival, newest.get(key, arrival), key=lambda each: each.order)
            told[key] = most_urgent((arrival.told_class, told.get(key)))
        if not newest:
            return
        connection.execute(
            record_available(connection.dialect.name),
            [
                {
                    "obs_id": obs_id,
                    "product": product,
                    "version": each.version,
                    "archived": each.archived,
                    "heard": now,
                    "since": now,
                    "told_class": told[obs_id, product],
                    "stage": each.stage,
                    "made_by": each.made_by,
                    "sha256": each.sha256,
                }
                # In one order everywhere, as observations are locked.
                for (obs_id, product), each in sorted(newest.items(), key=lambda item: item[0])
            ],
        )

    def claim(
        self,
        connection: sa.Connection,
        arrivals: Sequence[Arrival],
        now: float,
        *,
        withdrawn: bool = False,
    ) -> Decided:
        """Claim all that can be made now that `arrivals` are recorded; return what was decided.

        What a campaign makes in its turn is left to it. With `withdrawn`, these are what is left:
        claims of long ago hold again.
        """
        arrived: defaultdict[str, set[str]] = defaultdict(set)
        for arrival in arrivals:
            arrived[arrival.obs_id].add(arrival.product)
        known = self._known(connection, arrived)
        versions = known.versions
        staged = read_staged(connection, known.ranks) if known.ranks else {}
        # Before what is made again is claimed: that waits for what it is made from.
        stale = (
            mark_stale(connection, self._graph, known.updated, now, staged) if known.updated else {}
        )
        claims = self._possible(arrived, known, staged)
        planned: Mapping[tuple[str, str], int] = {}
        if known.campaign_runs:
            renew_unsent_of_campaigns(connection, self._graph, arrived, versions, staged)
            if claims:
                planned = planned_by_campaigns(connection, {each.obs_id for each in claims})
                claims = [each for each in claims if _instance(each) not in planned]
        awaiting = NOTHING_AWAITED
        current: Mapping[str, Mapping[str, int]] = versions
        if stale:
            claims, awaiting = after_their_inputs(claims, stale)
            current = without_outdated(versions, stale)
        if withdrawn:
            claims = [self._anew(connection, each, stale) for each in claims]
        possible = {_instance(each) for each in claims}
        self._deadlines.record(connection, arrivals, versions, now)
        claims = self._deadlines.without_expired(connection, claims, now)
        made = _NOTHING_MADE
        if claims:
            made = self._make(connection, claims, current, now, known, staged)
        self._begin_waits_anew(connection, arrived, versions, now)
        worth_making = {_instance(each): each for each in claims}
        return Decided(
            versions=versions,
            claims=worth_making,
            started=made.started,
            expired=frozenset(possible - worth_making.keys()),
            planned=planned,
            staged=staged,
            superseded=made.superseded,
            awaiting=awaiting,
            joined=made.joined,
            same_bytes=(
                same_bytes(arrivals, versions, known.ranks) if known.updated else frozenset()
            ),
        )

    def _possible(
        self, arrived: Mapping[str, set[str]], known: "Known", staged: Mapping[str, Staged]
    ) -> list[Claim]:
        """Return what can be claimed of what has arrived."""
        return [
            claim
            for obs_id, names in arrived.items()
            for claim in claims_for(
                self._graph,
                obs_id,
                sorted(names),
                known.versions[obs_id],
                known.told.get(obs_id, NOTHING_TOLD),
                staged.get(obs_id),
            )
        ]

    def _make(
        self,
        connection: sa.Connection,
        claims: Sequence[Claim],
        current: Mapping[str, Mapping[str, int]],
        now: float,
        known: "Known",
        staged: Mapping[str, Staged],
    ) -> "_Made":
        """Insert claims, or have them join those that wait; return what became of them."""
        started = {claim.processing_id for claim in claims}
        waiting = [claim for claim in claims if takes_inputs_while_it_waits(claim.product)]
        # Before the claims are inserted: an unsent claim that takes the new inputs makes
        # the new one its equal, which the unique key then drops.
        renewed = [each for each in claims if each.obs_id in known.updated]
        self._earlier.refresh_inputs(connection, [each for each in waiting if each not in renewed])
        joined = self._earlier.refresh_inputs(connection, renewed)
        superseded = supersede_older(connection, renewed, now)
        # Where all claims are new, none of them has failed: nothing to look for.
        if self._insert(connection, claims, current, now, known) != len(claims):
            started = self._claimed_at(connection, started, now)
            retried = self._earlier.retry_failed(connection, claims, now)
            hold_again(connection, retried, now)
            started |= retried
        self._waits.end_over(connection, waiting, current, now)
        if staged:
            superseded += supersede_lower(connection, claims, staged, now)
        return _Made(frozenset(started), superseded, joined)

    def _begin_waits_anew(
        self,
        connection: sa.Connection,
        arrived: Mapping[str, set[str]],
        versions: Mapping[str, Mapping[str, int]],
        now: float,
    ) -> None:
        """Count the waits anew that begin with an observation's last input."""
        if not self._graph.waiting_from_last_input:
            return
        begun_anew = [
            Claim(product, obs_id, {})
            for obs_id, names in arrived.items()
            if not names.isdisjoint(self._graph.inputs)
            for product in self._graph.waiting_from_last_input
        ]
        self._waits.end_over(connection, begun_anew, versions, now)

    def after_withdrawal(
        self, connection: sa.Connection, obs_id: str, *, left: bool, now: float
    ) -> None:
        """Mark what was made from a withdrawn version; claim from an older one, if one is left."""
        if not left:
            ranks = self._known(connection, [obs_id]).ranks
            staged = read_staged(connection, ranks) if ranks else {}
            mark_stale(connection, self._graph, [obs_id], now, staged)
        else:
            # All of it anew: what waited for what was to be made from that version need not.
            arrivals = [
                Arrival(name, obs_id, version, archived=True)
                for name, version in self._available(connection, [obs_id])[obs_id].items()
            ]
            self.claim(connection, arrivals, now, withdrawn=True)

    def _anew(
        self, connection: sa.Connection, claim: Claim, stale: Mapping[str, Staleness]
    ) -> Claim:
        """Return a claim as another one, where it has been fulfilled and its product is outdated.

        The processing of the claim may be continued by nobody: the sdb has what it has imported.
        """
        outdated = claim.product.name in stale.get(claim.obs_id, NOTHING_STALE).outdated
        while outdated:
            row = connection.execute(
                sa.select(table.c.state).where(table.c.id == claim.processing_id)
            ).one_or_none()
            if row is None or row.state != State.SUCCEEDED:
                break
            claim = replace(claim, again=claim.again + 1)
        return claim

    def lacking(self, connection: sa.Connection, product: Product, obs_id: str) -> tuple[str, ...]:
        """Return the inputs that are not available and keep a product from being made."""
        return product.lacks(self._available(connection, [obs_id])[obs_id])

    def find_retrying(self, connection: sa.Connection, product: Product, obs_id: str) -> str | None:
        """Return the processing of a product, of the inputs of now, that waits to be retried."""
        versions = self._available(connection, [obs_id])[obs_id]
        inputs = {name: versions[name] for name in product.sources if name in versions}
        rows = connection.execute(
            sa.select(table.c.id, table.c.inputs).where(
                table.c.obs_id == obs_id,
                table.c.product == product.name,
                table.c.state == State.RETRYING,
            )
        )
        return next((row.id for row in rows if row.inputs == inputs), None)

    def claim_manually(
        self,
        connection: sa.Connection,
        product: Product,
        obs_id: str,
        now: float,
        work_class: WorkClass | None = None,
    ) -> Row:
        """Record a processing that an operator asked for, whatever was made before."""
        known = self._known(connection, [obs_id])
        versions, told = known.versions[obs_id], known.told.get(obs_id, NOTHING_TOLD)
        inputs = {name: versions[name] for name in product.sources if name in versions}
        processing_id = str(uuid.uuid4())
        told_class = work_class or inherited_class(product, (), told)
        stage = lowest(map(known.ranks.get(obs_id, {}).get, inputs))
        row = new_row(Claim(product, obs_id, inputs, told_class, stage), now, now)
        row |= {"id": processing_id, "claim": f"{MANUAL} {processing_id}"}
        row["graph_version"] = self._current.number
        hold_new(connection, [row], now)
        connection.execute(sa.insert(table).values(row))
        return connection.execute(sa.select(table).where(table.c.id == processing_id)).one()

    def end_futile_waits(
        self, connection: sa.Connection, ended: Iterable[Row | ProcessingRecord], now: float
    ) -> None:
        """Make due what waited for optional inputs that, as `ended` shows, will not come."""
        failed = [row for row in ended if row.state in UNSUCCESSFUL]
        claims = [
            Claim(product, row.obs_id, {})
            for row in failed
            for product in self._graph.products.values()
            if product.o_wait_s > 0
        ]
        if claims:
            versions = self._available(connection, {claim.obs_id for claim in claims})
            self._waits.end_over(connection, claims, versions, now)

    def inputs_are_available(self, connection: sa.Connection, row: Row) -> bool:
        """Return whether a processing's inputs are still available in the versions claimed."""
        versions = self._available(connection, [row.obs_id])[row.obs_id]
        return all(versions.get(name, -1) >= version for name, version in row.inputs.items())

    def take_current_inputs(self, connection: sa.Connection, row: Row) -> None:
        """Make a processing that is to be tried again of what is available now."""
        versions = self._available(connection, [row.obs_id])[row.obs_id]
        inputs = {name: versions.get(name, version) for name, version in row.inputs.items()}
        if inputs != row.inputs:
            change = sa.update(table).where(table.c.id == row.id).values(inputs=inputs)
            connection.execute(change)

    def _available(
        self, connection: sa.Connection, observations: Iterable[str]
    ) -> dict[str, dict[str, int]]:
        return self._known(connection, observations).versions

    def _known(self, connection: sa.Connection, observations: Iterable[str]) -> "Known":
        """Return what is known of observations: what is available, and what was told of it."""
        found: dict[str, dict[str, int]] = {obs_id: {} for obs_id in observations}
        told: dict[str, dict[str, WorkClass]] = {}
        ranks: defaultdict[str, dict[str, int]] = defaultdict(dict)
        campaign: int | None = None
        # Of nothing that is available, it is not told.
        holds = True
        updated: set[str] = set()
        names = list(found)
        for start in range(0, len(names), MAX_IN):
            for row in AVAILABLE_OF.execute(connection, names[start : start + MAX_IN]):
                obs_id, product, version, told_class, stage, updates, campaign, holds = tuple(row)
                found[obs_id][product] = version
                if updates:
                    updated.add(obs_id)
                if told_class is not None:
                    told.setdefault(obs_id, {})[product] = WorkClass(told_class)
                if stage is not None:
                    ranks[obs_id][product] = stage
        return Known(found, told, dict(ranks), campaign is not None, bool(holds), updated)

    def _insert(
        self,
        connection: sa.Connection,
        claims: Sequence[Claim],
        versions: Mapping[str, Mapping[str, int]],
        now: float,
        known: "Known",
    ) -> int:
        """Insert the claims that are new; return how many are, or -1 if the database cannot say."""
        rows = [
            new_row(claim, now, self._waits.end_of(connection, claim, versions[claim.obs_id], now))
            | {"graph_version": self._current.number}
            for claim in claims
        ]
        if known.has_holds:
            hold_new(connection, rows, now)
        return connection.execute(insert_claims(connection.dialect.name), rows).rowcount

    def _claimed_at(self, connection: sa.Connection, ids: Collection[str], now: float) -> set[str]:
        """Return those of the processings `ids` that were claimed `now`, and not before."""
        wanted = list(ids)
        found: set[str] = set()
        for start in range(0, len(wanted), MAX_IN):
            some = {"ids": wanted[start : start + MAX_IN], "now": now}
            found.update(connection.scalars(CLAIMED_AT, some))
        return found


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of observations.

    Attributes
    ----------
    versions : dict
        What is available of each.
    told, ranks : dict
        The classes, and the ranks of the stages, that were told of it; of those of which any was.
    campaign_runs : bool
        Whether a campaign runs, of whatever observations.
    has_holds : bool
        Whether something may be held.
    updated : set of str
        The observations of which a version was replaced.
    """

    versions: dict[str, dict[str, int]]
    told: dict[str, dict[str, WorkClass]]
    ranks: dict[str, Ranks]
    campaign_runs: bool
    has_holds: bool
    updated: set[str]


@dataclass(frozen=True, slots=True)
class _Made:
    """What became of claims: which began, what they replaced, and what they joined."""

    started: frozenset[str] = frozenset()
    superseded: tuple[str, ...] = ()
    joined: Mapping[tuple[str, str], str] = field(default_factory=dict)


_NOTHING_MADE: Final = _Made()


def _instance(claim: Claim) -> tuple[str, str]:
    return claim.obs_id, claim.product.name
