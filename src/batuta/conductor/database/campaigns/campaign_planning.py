"""Reading what a campaign would make, by the page: it writes nothing, and blocks nobody."""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import sqlalchemy as sa

from batuta.conductor.database.campaigns.campaign_parts import Planned
from batuta.conductor.database.records import MAX_IN
from batuta.conductor.database.retention.dropped import (
    DroppedObservation,
    read_dropped,
    read_dropped_after,
)
from batuta.conductor.database.schema import LISTED, STALE, available
from batuta.conductor.database.schema import processings as table
from batuta.conductor.decisions.campaigns import (
    EVERY_NAME,
    CampaignScope,
    NamePatterns,
    ObservationPlan,
    plan_observation,
)
from batuta.graph import Graph
from batuta.messaging import ProcessingState as State
from batuta.service.database import reading

PAGE: Final = 2_000
"""Observations that are read together."""
DROPPED_PAGE: Final = 500


@dataclass(frozen=True, kw_only=True)
class Target:
    """What a campaign is about.

    Attributes
    ----------
    products : collection of str
        Products of the graph.
    scope : CampaignScope
        Which of them.
    names : sequence of str or None
        Observations by name; None for all that `patterns` match.
    patterns : NamePatterns
        Of the names of observations.
    since, until : float or None
        When the first product of an observation was heard of, in seconds since 1970; `until` is
        left out itself.
    """

    products: Collection[str]
    scope: CampaignScope = CampaignScope.ALL
    names: Sequence[str] | None = None
    patterns: NamePatterns = EVERY_NAME
    since: float | None = None
    until: float | None = None

    @property
    def timed(self) -> bool:
        """Whether the time of an observation matters."""
        return self.since is not None or self.until is not None

    def is_in_time(self, first: float | None) -> bool:
        """Return whether an observation that was first heard of then belongs to it."""
        if not self.timed:
            return True
        return first is not None and (
            (self.since is None or first >= self.since)
            and (self.until is None or first < self.until)
        )


@dataclass(slots=True)
class Known:
    """What is known of an observation.

    `names` are the available products, joined by commas. The others are read where the scope asks
    for them: `stale` are the products that are marked, `newest` has the state of the newest
    processing of each.
    """

    names: str
    first: float | None = None
    stale: set[str] = field(default_factory=set)
    newest: dict[str, State] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PlannedPage:
    """What is made of some observations.

    Attributes
    ----------
    dropped : bool
        Whether their records were dropped.
    planned : list
        Observations of which something is made, and what.
    counted : mapping
        How many observations each plan is that of, those without products too.
    unknown : list of str
        Observations that were given by name and of which nothing is recorded.
    """

    dropped: bool
    planned: list[Planned]
    counted: Mapping[ObservationPlan, int]
    unknown: list[str]


class PlanReader:
    """Plans a campaign from what is recorded.

    Parameters
    ----------
    engine : sa.Engine
        The conductor's database.
    graph : Graph
        That it is planned with.
    target : Target
        What it is about.
    """

    def __init__(self, engine: sa.Engine, graph: Graph, target: Target) -> None:
        self._engine = engine
        self._graph = graph
        self._target = target
        self._products = frozenset(target.products)
        self._plans: dict[tuple[str, frozenset[str]], ObservationPlan] = {}

    def pages(self) -> Iterator[PlannedPage]:
        """Yield what is made of all observations that it is about; each page is read by itself."""
        target = self._target
        names: Collection[str] | None = target.names
        if names is None and target.scope is CampaignScope.FAILED:
            names = self._with_any(sa.text(LISTED), table.c.state == State.FAILED)
        elif names is None and target.scope is CampaignScope.STALE:
            # As lists of what is stale: of what was dropped, it is not known without being asked.
            names = self._with_any(sa.text(STALE))
        if names is not None:
            yield from self._of_names(sorted(set(names)))
        else:
            yield from self._of_recorded()
            yield from self._of_dropped()

    def plan(self, observations: Sequence[str]) -> dict[str, ObservationPlan]:
        """Return what is made of observations, `MAX_IN` at most, as things are now."""
        with reading(self._engine) as connection:
            return self.plan_in(connection, observations)

    def plan_in(
        self, connection: sa.Connection, observations: Sequence[str]
    ) -> dict[str, ObservationPlan]:
        """Return the same, in a transaction of the caller."""
        known, gone = self._read_names(connection, observations)
        return {obs_id: self._plan(each) for some in (known, gone) for obs_id, each in some.items()}

    # ------------------------------------------------------------------ where they are read

    def _of_names(self, names: Sequence[str]) -> Iterator[PlannedPage]:
        for start in range(0, len(names), MAX_IN):
            some = names[start : start + MAX_IN]
            with reading(self._engine) as connection:
                known, gone = self._read_names(connection, some)
            unknown = [name for name in some if name not in known and name not in gone]
            yield self._page(known, dropped=False, unknown=unknown)
            if gone:
                yield self._page(gone, dropped=True)

    def _of_recorded(self) -> Iterator[PlannedPage]:
        after, end = "", ""
        if self._engine.dialect.name == "sqlite":
            # Letter by letter, as SQLite compares; a server may compare as a language does.
            after, end = self._target.patterns.first, self._target.patterns.end
        compared: Any = available.c.obs_id >= after
        while True:
            within = [compared, available.c.obs_id < end] if end else [compared]
            with reading(self._engine) as connection:
                rows = connection.execute(
                    self._names_query(*within).order_by(available.c.obs_id).limit(PAGE)
                ).all()
                if not rows:
                    return
                known = self._known(rows)
                first, last = rows[0][0], rows[-1][0]
                self._add_details(connection, known, _Within(first, last))
            yield self._page(known, dropped=False)
            compared = available.c.obs_id > last

    def _of_dropped(self) -> Iterator[PlannedPage]:
        after = ""
        while True:
            with reading(self._engine) as connection:
                kept = read_dropped_after(connection, after, DROPPED_PAGE)
            if not kept:
                return
            yield self._page({each.obs_id: _of_kept(each) for each in kept}, dropped=True)
            after = kept[-1].obs_id

    def _with_any(self, *selected: Any) -> set[str]:
        """Return the observations that have a processing of those selected."""
        found: set[str] = set()
        key = (table.c.created, table.c.id)
        after: tuple[float, str] | None = None
        while True:
            begin = [] if after is None else [sa.tuple_(*key) > sa.tuple_(*after)]
            query = (
                sa.select(table.c.obs_id, *key).where(*selected, *begin).order_by(*key).limit(PAGE)
            )
            with reading(self._engine) as connection:
                rows = connection.execute(query).all()
            if not rows:
                return found
            found |= self._target.patterns.matching(row.obs_id for row in rows)
            after = (rows[-1].created, rows[-1].id)

    # ------------------------------------------------------------------ what is read

    def _read_names(
        self, connection: sa.Connection, names: Sequence[str]
    ) -> tuple[dict[str, Known], dict[str, Known]]:
        """Return what is known of observations: of those that are there, of those dropped."""
        rows = connection.execute(self._names_query(available.c.obs_id.in_(names))).all()
        known = self._known(rows)
        self._add_details(connection, known, _OneOf(list(known)))
        others = [name for name in names if name not in known]
        gone = read_dropped(connection, others)
        return known, {obs_id: _of_kept(kept) for obs_id, kept in gone.items()}

    def _names_query(self, *where: "sa.ColumnElement[bool]") -> "sa.Select[Any]":
        joined: Any = sa.func.aggregate_strings(available.c.product, ",")
        columns = [available.c.obs_id, joined]
        if self._target.timed:
            columns.append(sa.func.min(sa.func.coalesce(available.c.since, available.c.heard)))
        return sa.select(*columns).where(*where).group_by(available.c.obs_id)

    def _known(self, rows: Iterable[Any]) -> dict[str, Known]:
        if self._target.timed:
            return {obs_id: Known(names, first) for obs_id, names, first in rows}
        return {obs_id: Known(names) for obs_id, names in rows}

    def _add_details(
        self,
        connection: sa.Connection,
        known: Mapping[str, Known],
        among: "_Within | _OneOf",
    ) -> None:
        """Add the versions and processings of observations, where the scope asks for them."""
        scope = self._target.scope
        if scope not in (CampaignScope.STALE, CampaignScope.FAILED) or not known:
            return
        marked: Any = table.c.stale_since.is_not(None)
        of_scope = [marked] if scope is CampaignScope.STALE else []
        processings = (
            sa.select(table.c.obs_id, table.c.product, table.c.state, marked)
            .where(among(table.c.obs_id), *of_scope)
            .order_by(table.c.obs_id, table.c.created, table.c.id)
        )
        for obs_id, product, state, stale in connection.execute(processings):
            if obs_id in known:
                known[obs_id].newest[product] = State(state)
                if stale:
                    known[obs_id].stale.add(product)

    # ------------------------------------------------------------------ what is decided

    def _page(
        self, known: Mapping[str, Known], *, dropped: bool, unknown: Sequence[str] = ()
    ) -> PlannedPage:
        target = self._target
        names: Collection[str] = known
        if target.names is None and target.patterns.patterns:
            names = target.patterns.matching(known)
        wanted = known.items()
        if target.timed or names is not known:
            wanted = {
                obs_id: each
                for obs_id, each in known.items()
                if obs_id in names and target.is_in_time(each.first)
            }.items()
        plans = [(obs_id, self._plan(each)) for obs_id, each in wanted]
        planned = [(obs_id, plan.products) for obs_id, plan in plans if plan.products]
        return PlannedPage(dropped, planned, Counter(plan for _, plan in plans), list(unknown))

    def _plan(self, known: Known) -> ObservationPlan:
        key = known.names, self._wanted(known)
        plan = self._plans.get(key)
        if plan is None:
            names, wanted = key
            there = names.split(",") if names else ()
            if self._target.scope is CampaignScope.MISSING:
                wanted = wanted.difference(there)
            plan = self._plans[key] = plan_observation(self._graph, wanted, there)
        return plan

    def _wanted(self, known: Known) -> frozenset[str]:
        match self._target.scope:
            case CampaignScope.STALE:
                return self._products & known.stale
            case CampaignScope.FAILED:
                return self._products.intersection(
                    name for name, state in known.newest.items() if state is State.FAILED
                )
            case _:
                return self._products


@dataclass(frozen=True)
class _Within:
    """The condition that an observation is one of a page."""

    first: str
    last: str

    def __call__(self, column: "sa.Column[str]") -> "sa.ColumnElement[bool]":
        return column.between(self.first, self.last)


@dataclass(frozen=True)
class _OneOf:
    """The condition that an observation is one of a list."""

    names: list[str]

    def __call__(self, column: "sa.Column[str]") -> "sa.ColumnElement[bool]":
        return column.in_(self.names)


def _of_kept(kept: DroppedObservation) -> Known:
    """Return what is known of an observation whose records were dropped."""
    return Known(
        names=",".join(sorted(kept.versions)),
        first=min((each.heard for each in kept.versions.values()), default=None),
        stale={each.product for each in kept.processings if each.stale_since is not None},
        newest={each.product: each.state for each in kept.processings},
    )
