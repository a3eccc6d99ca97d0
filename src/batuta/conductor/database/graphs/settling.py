"""Bringing what waits in line with the graph in force, and starting what was never asked for.

Observation by observation, in bounded transactions: decisions go on meanwhile, by the new graph.
What they find that was claimed by another version, they settle before it is requested.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Final

import sqlalchemy as sa

from batuta.conductor.database.claiming.campaign_items import planned_by_campaigns
from batuta.conductor.database.claiming.claims import ClaimStore, Known
from batuta.conductor.database.claiming.optional_waits import UNSUCCESSFUL
from batuta.conductor.database.claiming.stage_records import read_staged
from batuta.conductor.database.claiming.stale_marks import mark_stale
from batuta.conductor.database.claiming.under_way import NOTHING_CHANGED, read_under_way
from batuta.conductor.database.claiming.updates import supersede_overtaken
from batuta.conductor.database.history import record_graph_changes
from batuta.conductor.database.holds.held_work import hold_again
from batuta.conductor.database.records import Row, record_of, write_changes
from batuta.conductor.database.schema import available, observations
from batuta.conductor.database.schema import processings as table
from batuta.conductor.decisions.graph_changes import never_asked_for, under_graph
from batuta.conductor.decisions.processing_record import ProcessingRecord
from batuta.conductor.decisions.remaking import coming
from batuta.conductor.decisions.rules import MANUAL, NOTHING_TOLD, Arrival, Claim
from batuta.conductor.decisions.staleness import NOTHING_STALE, Staleness, awaited_inputs
from batuta.graph import Graph
from batuta.messaging import ProcessingState as State
from batuta.stages import lowest
from batuta.work_classes import WorkClass

OBSERVATIONS: Final = 100
"""Observations that one transaction settles: decisions wait for it."""
POSTPONED_S: Final = 2.0
"""How long a processing that is about to be set aside is passed over, in seconds."""

Change = tuple[ProcessingRecord, ProcessingRecord]


class SettlingStore(ClaimStore):
    """Settles observations; every method works in the transaction of its caller."""

    @property
    def graph(self) -> Graph:
        """The graph in force."""
        return self._current.graph

    def settle_page(
        self, connection: sa.Connection, after: str, now: float, work_class: WorkClass | None
    ) -> str | None:
        """Settle the observations that follow one in the order of ids; return the last of them.

        None if there are no more.
        """
        names = _page(connection, after)
        if names:
            self._settle(connection, names, now, work_class)
        return names[-1] if len(names) == OBSERVATIONS else None

    def settle_due(
        self, connection: sa.Connection, due: Collection[ProcessingRecord], now: float
    ) -> bool:
        """Settle those of the processings that are due which another version has claimed.

        Returns whether there were any: then others are due.

        What is to be set aside because it lacks an input is postponed: that is decided where
        observations are locked, so that an input which arrives at this moment is not missed.
        """
        number = self._current.number
        outdated = {each.id: each.obs_id for each in due if each.graph_version != number}
        if not outdated:
            return False
        names = sorted(set(outdated.values()))
        known = self._known(connection, names)
        versions = known.versions
        rows = _rows(connection, names, _ROWS_OF)
        changes = [
            (before, self._unless_it_lacks(before, after, versions[before.obs_id], now))
            for obs_id in names
            for before, after in self._changes(rows[obs_id], versions[obs_id], now)
            if before.id in outdated
        ]
        self._write(connection, changes, rows, known, now)
        return True

    def supersede_due(
        self, connection: sa.Connection, due: Collection[ProcessingRecord], now: float
    ) -> bool:
        """Cancel those that are due again and that a later claim has overtaken.

        Returns whether there were any: then others are due.
        """
        return supersede_overtaken(
            connection, self._graph, due, partial(self._available, connection), now
        )

    def _unless_it_lacks(
        self,
        before: ProcessingRecord,
        after: ProcessingRecord,
        versions: Mapping[str, int],
        now: float,
    ) -> ProcessingRecord:
        product = self._graph.products.get(before.product)
        if product is None or product.ready(versions):
            return after
        return replace(before, not_before=now + POSTPONED_S)

    def _write(
        self,
        connection: sa.Connection,
        changes: Sequence[Change],
        rows: Mapping[str, Sequence[Row]],
        known: Known,
        now: float,
    ) -> None:
        write_changes(connection, changes)
        record_graph_changes(connection, changes, now)
        changed = {after.id for _, after in changes}
        self._claim_anew(connection, rows, known, changed)
        hold_again(connection, changed, now)

    def _settle(
        self,
        connection: sa.Connection,
        names: Sequence[str],
        now: float,
        work_class: WorkClass | None,
    ) -> None:
        self.lock_observations(connection, names)
        known = self._known(connection, names)
        versions = known.versions
        rows = _rows(connection, names, _ROWS_OF.with_for_update())
        changes = [
            change
            for obs_id in names
            for change in self._changes(rows[obs_id], versions[obs_id], now)
        ]
        self._write(connection, changes, rows, known, now)
        self._settle_deadlines(connection, names, versions)
        states = {after.id: after.state for _, after in changes}
        self._start(connection, known, rows, now, work_class, states)

    def end_futile_waits(
        self, connection: sa.Connection, ended: Iterable[Row | ProcessingRecord], now: float
    ) -> None:
        """Also start what waited for a product to be made again, which has not succeeded.

        It is made from the version that is there: nothing else would start it.
        """
        rows = list(ended)
        super().end_futile_waits(connection, rows, now)
        failed: defaultdict[str, set[str]] = defaultdict(set)
        for row in rows:
            if row.state in UNSUCCESSFUL and row.set_aside is None:
                failed[row.obs_id].add(row.product)
        known = self._known(connection, failed)
        stale: Mapping[str, Staleness] = {}
        if known.updated:
            staged = read_staged(connection, known.ranks) if known.ranks else {}
            stale = mark_stale(connection, self._graph, known.updated, now, staged)
        waited = {
            obs_id: {
                product.name
                for name in names & known.versions[obs_id].keys()
                for product in self._graph.fed_by(name)
                if product.name not in known.versions[obs_id]
                # It goes on waiting for what is to be made again, until that is retried.
                and not awaited_inputs(product, stale.get(obs_id, NOTHING_STALE))
            }
            for obs_id, names in failed.items()
        }
        names = sorted(obs_id for obs_id, products in waited.items() if products)
        if not names:
            return
        rows_of = _rows(connection, names, _ROWS_OF)
        self._start(connection, known, rows_of, now, None, NOTHING_CHANGED, waited)

    def _start(
        self,
        connection: sa.Connection,
        known: Known,
        rows: Mapping[str, Sequence[Row]],
        now: float,
        work_class: WorkClass | None,
        states: Mapping[str, State],
        among: Mapping[str, Collection[str]] | None = None,
    ) -> None:
        """Claim what can be made and was never asked for.

        What is made from something that is being made is left to that: its version, once announced,
        claims it. What a campaign makes in its turn is left to it.

        Parameters
        ----------
        states : mapping
            Those of rows that have changed since they were read.
        among : mapping
            The products of each observation that are looked at; None for all.
        """
        versions, told = known.versions, known.told
        staged = read_staged(connection, known.ranks) if known.ranks else {}
        claims = [
            claim
            for obs_id in rows
            for claim in never_asked_for(
                self._graph,
                obs_id,
                versions[obs_id],
                {row.product for row in rows[obs_id]},
                told.get(obs_id, NOTHING_TOLD),
                work_class,
                staged.get(obs_id),
            )
            if among is None or claim.product.name in among[obs_id]
        ]
        if known.campaign_runs and claims:
            planned = planned_by_campaigns(connection, {each.obs_id for each in claims})
            claims = [each for each in claims if (each.obs_id, each.product.name) not in planned]
        if not claims:
            return
        of_claims = {each.obs_id for each in claims}
        under_way = read_under_way(
            connection, (row for obs_id in of_claims for row in rows[obs_id]), now, states
        )
        origins = {
            obs_id: coming(self._graph, under_way.get(obs_id, ()), versions[obs_id])
            for obs_id in of_claims
        }
        claims = [
            each for each in claims if origins[each.obs_id].keys().isdisjoint(each.product.m_input)
        ]
        claims = self._deadlines.without_expired(connection, claims, now)
        if claims:
            # Optional inputs that are made again are waited for as those that lack.
            current = {
                obs_id: {name: n for name, n in versions[obs_id].items() if name not in coming_}
                for obs_id, coming_ in origins.items()
            }
            self._insert(connection, claims, current, now, known)

    def _changes(
        self, rows: Sequence[Row], versions: Mapping[str, int], now: float
    ) -> list[Change]:
        newest: dict[str, float] = {}
        for row in rows:
            if row.set_aside is None:
                newest[row.product] = max(row.created, newest.get(row.product, 0.0))
        changes = []
        for row in rows:
            # What was claimed since has taken the place of what was set aside.
            if row.set_aside is not None and newest.get(row.product, 0.0) > row.created:
                continue
            before, product = record_of(row), self._graph.products.get(row.product)
            after = under_graph(before, product, versions, self._current.number, now)
            if after is not None:
                changes.append((before, after))
        return changes

    def _claim_anew(
        self,
        connection: sa.Connection,
        rows: Mapping[str, Sequence[Row]],
        known: Known,
        changed: Collection[str],
    ) -> None:
        """Let what was not requested yet be made of what the graph says, when that says."""
        versions = known.versions
        for obs_id, of_observation in rows.items():
            ranks = known.ranks.get(obs_id, {})
            for row in of_observation:
                product = self._graph.products.get(row.product)
                unsent = row.attempt == 0 and row.id in changed
                if product is None or not unsent or not product.ready(versions[obs_id]):
                    continue
                inputs = {n: versions[obs_id][n] for n in product.sources if n in versions[obs_id]}
                claim = Claim(product, obs_id, inputs, stage=lowest(map(ranks.get, inputs)))
                end = self._waits.end_of(connection, claim, versions[obs_id], row.created)
                values: dict[str, Any] = {"not_before": end, "inputs": inputs, "stage": claim.stage}
                taken = {each.claim for each in of_observation if each.product == row.product}
                if not row.claim.startswith(MANUAL) and claim.key not in taken:
                    values["claim"] = claim.key
                connection.execute(sa.update(table).where(table.c.id == row.id).values(values))

    def _settle_deadlines(
        self,
        connection: sa.Connection,
        names: Sequence[str],
        versions: Mapping[str, Mapping[str, int]],
    ) -> None:
        """Set the deadlines that the graph gives observations, from when their inputs arrived."""
        if not self._graph.with_deadlines:
            return
        wanted = {"observations": list(names), "inputs": list(self._graph.inputs)}
        arrivals: defaultdict[str, list[Arrival]] = defaultdict(list)
        first: dict[str, float] = {}
        for row in connection.execute(_INPUTS_OF, wanted):
            arrivals[row.obs_id].append(Arrival(row.product, row.obs_id, row.version))
            first[row.obs_id] = min(row.since, first.get(row.obs_id, row.since))
        for obs_id, of_observation in arrivals.items():
            self._deadlines.record(connection, of_observation, versions, first[obs_id])


def _page(connection: sa.Connection, after: str) -> list[str]:
    """Return the ids of the observations after one that have a product or a processing."""
    return list(connection.scalars(_PAGE, {"after": after}))


def _rows(
    connection: sa.Connection, names: Sequence[str], query: "sa.Select[Any]"
) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = {name: [] for name in names}
    for row in connection.execute(query, {"observations": list(names)}):
        found[row.obs_id].append(row)
    return found


_observations: Final[sa.BindParameter[Any]] = sa.bindparam("observations", expanding=True)
_after: Final[sa.BindParameter[str]] = sa.bindparam("after")
_known = (
    sa.select(observations.c.obs_id)
    .where(observations.c.obs_id > _after)
    .order_by(observations.c.obs_id)
    .limit(OBSERVATIONS)
    .subquery()
)
_asked_for = (
    sa.select(table.c.obs_id)
    .where(table.c.obs_id > _after)
    .group_by(table.c.obs_id)
    .order_by(table.c.obs_id)
    .limit(OBSERVATIONS)
    .subquery()
)
_ids = sa.union(sa.select(_known.c.obs_id), sa.select(_asked_for.c.obs_id)).subquery()
_PAGE: Final = sa.select(_ids.c.obs_id).order_by(_ids.c.obs_id).limit(OBSERVATIONS)
"""Ordered by the database alone: PostgreSQL has its own order of texts."""
_ROWS_OF: Final = sa.select(table).where(table.c.obs_id.in_(_observations))
_INPUTS_OF: Final = sa.select(
    available.c.obs_id,
    available.c.product,
    available.c.version,
    sa.func.coalesce(available.c.since, available.c.heard).label("since"),
).where(
    available.c.obs_id.in_(_observations),
    available.c.product.in_(sa.bindparam("inputs", expanding=True)),
)
