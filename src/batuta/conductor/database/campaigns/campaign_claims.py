"""Claiming what a campaign makes, inside a transaction."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa

from batuta.conductor.database.claiming.campaign_items import Instance
from batuta.conductor.database.claiming.claim_rows import new_row
from batuta.conductor.database.claiming.claims import ClaimStore
from batuta.conductor.database.claiming.under_way import UnderWay, read_under_way
from batuta.conductor.database.current_graph import CurrentGraph, ReadsGraph
from batuta.conductor.database.holds.held_work import hold_again, hold_new
from batuta.conductor.database.records import Row, locked_rows, record_of, write_changes
from batuta.conductor.database.retention.dropped import DroppedStore
from batuta.conductor.database.schema import processings as table
from batuta.conductor.database.statements import AVAILABLE_OF, insert_claims
from batuta.conductor.decisions.campaigns import ItemState, Step, adopt
from batuta.conductor.decisions.remaking import coming
from batuta.conductor.decisions.rules import MANUAL, Claim, processing_id_of
from batuta.graph import Graph, Product
from batuta.messaging import ProcessingState as State
from batuta.stages import lowest
from batuta.work_classes import WorkClass


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """How a campaign's processings are requested.

    Attributes
    ----------
    campaign : int
        Its number.
    priority : int or None
        Of all of them; None for that of each product.
    remakes : bool
        Whether it makes again what is being made at that moment from the same inputs; else that
        is followed instead.
    """

    campaign: int
    work_class: WorkClass
    priority: int | None
    remakes: bool = True

    @property
    def claim(self) -> str:
        """The key of its claims of what was claimed from the same inputs before."""
        return f"{MANUAL} campaign {self.campaign}"


@dataclass(frozen=True, slots=True)
class ClaimedItem:
    """What became of an item: its step, and its processing, or the one that it awaits."""

    instance: Instance
    step: Step
    processing_id: str | None = None


class CampaignClaims(ReadsGraph):
    """Claims the products of campaigns; every method works in the transaction of its caller.

    Parameters
    ----------
    graph : Graph or CurrentGraph
        The product graph, or what holds the one in force.
    claims : ClaimStore
        Locks observations.
    """

    def __init__(self, graph: Graph | CurrentGraph, claims: ClaimStore) -> None:
        super().__init__(graph)
        self._claims = claims
        self._dropped = DroppedStore(self._current)

    def claim(
        self, connection: sa.Connection, instances: Sequence[Instance], terms: Terms, now: float
    ) -> list[ClaimedItem]:
        """Claim products from what is available now, whatever was made before.

        What waits already to be made of the same inputs, or has failed, is made by the campaign
        instead of a second one. What is made from something that is being made awaits that. What
        cannot be made any more is skipped.

        What was not claimed from these inputs before is claimed under the key that an arrival would
        claim it by: one that is announced again then claims nothing.
        """
        observations = {obs_id for obs_id, _ in instances}
        self._claims.lock_observations(connection, observations)
        self._dropped.restore(connection, observations)
        known = self._read(connection, observations, now)
        rows: list[dict[str, Any]] = []
        adopted: dict[str, Product] = {}
        found: list[ClaimedItem] = []
        for obs_id, name in instances:
            obstacle = self._obstacle(obs_id, name, known)
            if obstacle is not None:
                found.append(obstacle)
                continue
            product, versions = self._graph.products[name], known.versions[obs_id]
            inputs = {each: versions[each] for each in product.sources if each in versions}
            earlier = known.newest.get((obs_id, name))
            same = earlier is not None and earlier.inputs == inputs
            if earlier is not None and same and _may_adopt(earlier):
                adopted[earlier.id] = product
                processing_id = earlier.id
            elif (
                earlier is not None
                and same
                and not terms.remakes
                and known.under_way.get(obs_id, {}).get(name) == earlier.id
            ):
                processing_id = earlier.id
            else:
                stage = lowest(map(known.ranks[obs_id].get, inputs))
                claim = Claim(product, obs_id, inputs, terms.work_class, stage)
                again = (obs_id, name, claim.key) in known.claimed
                row = _row(claim, terms, now, again=again)
                rows.append(row | {"graph_version": self._current.number})
                processing_id = row["id"]
            found.append(ClaimedItem((obs_id, name), Step(ItemState.OPEN), processing_id))
        if rows:
            hold_new(connection, rows, now)
            connection.execute(insert_claims(connection.dialect.name), rows)
        self._adopt(connection, adopted, terms, now)
        hold_again(connection, adopted, now)
        return found

    def _read(
        self, connection: sa.Connection, observations: Collection[str], now: float
    ) -> "_Known":
        versions, ranks = _available(connection, observations)
        rows: list[Row] = list(connection.execute(_PROCESSINGS, {"observations": [*observations]}))
        rows.sort(key=lambda row: (row.created, row.id))
        under_way = read_under_way(connection, rows, now)
        return _Known(
            versions=versions,
            ranks=ranks,
            newest={(row.obs_id, row.product): row for row in rows},
            claimed={(row.obs_id, row.product, row.claim) for row in rows},
            under_way=under_way,
            origins={
                obs_id: coming(self._graph, under_way.get(obs_id, ()), versions[obs_id])
                for obs_id in observations
            },
        )

    def _obstacle(self, obs_id: str, name: str, known: "_Known") -> ClaimedItem | None:
        """Return why a product is not claimed now; None if it is."""
        product, instance = self._graph.products.get(name), (obs_id, name)
        if product is None:
            reason = f"the graph no longer makes {name}"
            return ClaimedItem(instance, Step(ItemState.SKIPPED, reason))
        origins = known.origins[obs_id]
        awaited = [each for each in product.sources if each in origins]
        if awaited:
            step = Step(ItemState.AWAITING, f"{', '.join(awaited)} {_is_being_made(awaited)}")
            return ClaimedItem(instance, step, known.under_way[obs_id][origins[awaited[0]]])
        if lacks := product.lacks(known.versions[obs_id]):
            return ClaimedItem(instance, Step(ItemState.SKIPPED, f"lacks {', '.join(lacks)}"))
        return None

    def _adopt(
        self,
        connection: sa.Connection,
        adopted: Mapping[str, Product],
        terms: Terms,
        now: float,
    ) -> None:
        changes = []
        for row in locked_rows(connection, adopted).values():
            before = record_of(row)
            after = adopt(
                before, adopted[row.id], terms.campaign, terms.work_class, terms.priority, now
            )
            if after is not None:
                changes.append((before, self._current.decided(after)))
        write_changes(connection, changes)


_ADOPTABLE: Final = frozenset(
    {State.UNAPPROVED, State.WAITING, State.HELD, State.RETRYING, State.FAILED}
)


def _available(
    connection: sa.Connection, observations: Collection[str]
) -> tuple[Mapping[str, dict[str, int]], Mapping[str, dict[str, int | None]]]:
    """Return the versions that are available, and the ranks of their stages."""
    versions: defaultdict[str, dict[str, int]] = defaultdict(dict)
    ranks: defaultdict[str, dict[str, int | None]] = defaultdict(dict)
    for row in AVAILABLE_OF.execute(connection, sorted(observations)):
        versions[row.obs_id][row.product] = row.version
        ranks[row.obs_id][row.product] = row.stage
    return versions, ranks


_PROCESSINGS: Final[sa.Select[Any]] = sa.select(
    table.c.id,
    table.c.obs_id,
    table.c.product,
    table.c.claim,
    table.c.state,
    table.c.inputs,
    table.c.campaign,
    table.c.created,
    table.c.requested,
    table.c.ended,
).where(table.c.obs_id.in_(sa.bindparam("observations", expanding=True)))


@dataclass(frozen=True, slots=True)
class _Known:
    """What is known of the observations of items.

    `newest` are the newest processings of products, `claimed` all keys of claims; `origins` are as
    `batuta.conductor.decisions.remaking.coming` returns them.
    """

    versions: Mapping[str, Mapping[str, int]]
    ranks: Mapping[str, Mapping[str, int | None]]
    newest: Mapping[Instance, Row]
    claimed: AbstractSet[tuple[str, str, str]]
    under_way: UnderWay
    origins: Mapping[str, Mapping[str, str]]


def _may_adopt(row: Row) -> bool:
    """Return whether a campaign may make a processing its own."""
    return row.state in _ADOPTABLE and row.campaign is None


def _is_being_made(names: Sequence[str]) -> str:
    return "is being made" if len(names) == 1 else "are being made"


def _row(claim: Claim, terms: Terms, now: float, *, again: bool) -> dict[str, Any]:
    row = new_row(claim, now, now) | {"campaign": terms.campaign}
    if again:
        of_campaign = processing_id_of(claim.product.name, claim.obs_id, terms.claim)
        row |= {"id": of_campaign, "claim": terms.claim}
    if terms.priority is not None:
        row |= {"priority": terms.priority, "told_priority": terms.priority}
    return row
