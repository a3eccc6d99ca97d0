"""What a graph would start, set aside, make stale or orphan, counted from the records."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any, Final, Literal

import sqlalchemy as sa
from pydantic import BaseModel

from batuta.conductor.database.schema import available, observations
from batuta.conductor.database.schema import processings as table
from batuta.conductor.database.summaries import Counts, read_counts
from batuta.conductor.decisions.graph_changes import NOT_SENT, following, startable
from batuta.conductor.decisions.processing_record import AT_PROVIDER
from batuta.conductor.decisions.remaking import coming
from batuta.graph import Graph, GraphComparison, compare
from batuta.graph.comparison import ChangeKind
from batuta.messaging import ProcessingState as State
from batuta.service.database import reading

OBSERVATIONS: Final = 500
"""Observations that are looked at in one read."""


class GraphChangeView(BaseModel):
    """One difference between two graphs; `key` is null where all of the part is new or gone."""

    part: Literal["input", "product", "provider", "class"]
    name: str
    kind: ChangeKind
    key: str | None
    old: Any
    new: Any


class OrphanCount(BaseModel):
    """A product that nobody makes any more.

    `available` counts what was made of it, `set_aside` what waits and would be set aside,
    `followed` what runs and would be followed to its end.
    """

    available: int
    set_aside: int
    followed: int


class GraphCounts(BaseModel):
    """What a graph would change now, by product, in observations.

    `recorded` are versions in the sdb of what only the new graph knows; `starts` is what would be
    requested at once, `follows` what is made of that in the end, or of what is being made now;
    `continues` was set aside by an earlier version, and is made again; `set_aside` waits, and lacks
    an input of the new graph; `stale` is available, as made by the old graph, and stays so.
    """

    observations: int
    recorded: dict[str, int]
    starts: dict[str, int]
    follows: dict[str, int]
    continues: dict[str, int]
    set_aside: dict[str, int]
    stale: dict[str, int]
    orphans: dict[str, OrphanCount]


class GraphPreview(BaseModel):
    """What a graph would change in the place of version `in_force`.

    `startable`, `stale` and `orphans` are products; `counts` tells of the records of now.
    """

    in_force: int
    old: str
    new: str
    changes: list[GraphChangeView]
    startable: list[str]
    stale: list[str]
    orphans: list[str]
    counts: GraphCounts


class PreviewCounter:
    """Counts, observation by observation; reads, and never writes.

    Parameters
    ----------
    engine : sa.Engine
        The conductor's database.
    old, new : Graph
        The graph in force, and the one that would be.
    recorded : mapping
        The products that would be recorded from the sdb, by observation.
    """

    def __init__(
        self, engine: sa.Engine, old: Graph, new: Graph, recorded: Mapping[str, Iterable[str]]
    ) -> None:
        self._engine = engine
        self._new = new
        self._comparison = compare(old, new)
        self._recorded = {obs_id: frozenset(names) for obs_id, names in recorded.items()}
        self._newly_known = Counter(name for names in recorded.values() for name in names)
        self._seen = 0
        self._starts: Counter[str] = Counter()
        self._follows: Counter[str] = Counter()
        self._continues: Counter[str] = Counter()
        self._set_aside: Counter[str] = Counter()
        # Most observations have the same products.
        self._outcome = cache(self._outcome_of)

    def count_page(self, after: str) -> str | None:
        """Count the observations after one; return the last of them, None if there are no more."""
        with reading(self._engine) as connection:
            names = list(connection.scalars(_OBSERVATIONS_AFTER, {"after": after}))
            found = _facts(connection, names)
        self._seen += len(names)
        for name in names:
            there, rows = found[name]
            self._count(there | self._recorded.pop(name, frozenset()), rows)
        return names[-1] if len(names) == OBSERVATIONS else None

    def result(self, in_force: int, old: Graph) -> GraphPreview:
        """Return what was counted, once no page is left."""
        for names in self._recorded.values():  # of observations that nothing is known of yet
            self._count(names, ())
        self._seen += len(self._recorded)
        self._recorded = {}
        with reading(self._engine) as connection:
            counts = read_counts(connection)
        return _preview(self._comparison, in_force, (old, self._new), self._counts(counts))

    def _count(self, there: frozenset[str], rows: Sequence[tuple[str, str, bool]]) -> None:
        continued: set[str] = set()
        under_way: set[str] = set()
        for product, state, is_set_aside in rows:
            definition = self._new.products.get(product)
            if definition is None:
                continue
            ready = definition.ready(there)
            if is_set_aside and ready:
                continued.add(product)
            elif state in NOT_SENT and not ready:
                self._set_aside[product] += 1
            elif not State(state).ended:
                under_way.add(product)
        self._continues.update(continued)
        asked_for = frozenset(product for product, _, _ in rows)
        starts, follows = self._outcome(there, asked_for, frozenset(under_way | continued))
        self._starts.update(starts)
        self._follows.update(follows)

    def _outcome_of(
        self, there: frozenset[str], asked_for: frozenset[str], under_way: frozenset[str]
    ) -> tuple[frozenset[str], frozenset[str]]:
        starts = frozenset(startable(self._new, there, asked_for))
        follows = following(self._new, there, asked_for, starts)
        first = coming(self._new, under_way, there).keys()
        later = frozenset(
            name for name in starts if not first.isdisjoint(self._new.products[name].m_input)
        )
        return starts - later, follows | later

    def _counts(self, counts: Counts) -> GraphCounts:
        return GraphCounts(
            observations=self._seen,
            recorded=dict(self._newly_known),
            starts=dict(self._starts),
            follows=dict(self._follows),
            continues=dict(self._continues),
            set_aside=dict(self._set_aside),
            stale={name: counts.available[name] for name in self._comparison.stale},
            orphans={
                name: OrphanCount(
                    available=counts.available[name],
                    set_aside=_in_states(counts, name, NOT_SENT),
                    followed=_in_states(counts, name, AT_PROVIDER),
                )
                for name in self._comparison.orphans
            },
        )


def _preview(
    comparison: GraphComparison, in_force: int, graphs: tuple[Graph, Graph], counts: GraphCounts
) -> GraphPreview:
    old, new = graphs
    return GraphPreview(
        in_force=in_force,
        old=old.digest,
        new=new.digest,
        changes=[
            GraphChangeView.model_validate(each, from_attributes=True)
            for each in comparison.changes
        ],
        startable=list(comparison.startable),
        stale=list(comparison.stale),
        orphans=list(comparison.orphans),
        counts=counts,
    )


def _in_states(counts: Counts, product: str, states: Iterable[str]) -> int:
    return sum(counts.passing({"product": product, "state": state}) for state in states)


def _facts(
    connection: sa.Connection, names: Sequence[str]
) -> dict[str, tuple[frozenset[str], list[tuple[str, str, bool]]]]:
    """Return what is available of each observation, and its processings in brief."""
    there: defaultdict[str, set[str]] = defaultdict(set)
    rows: defaultdict[str, list[tuple[str, str, bool]]] = defaultdict(list)
    some = {"observations": list(names)}
    for obs_id, product in connection.execute(_AVAILABLE_OF, some):
        there[obs_id].add(product)
    for obs_id, product, state, set_aside in connection.execute(_PROCESSINGS_OF, some):
        rows[obs_id].append((product, state, set_aside is not None))
    return {name: (frozenset(there[name]), rows[name]) for name in names}


_observations: Final[sa.BindParameter[Any]] = sa.bindparam("observations", expanding=True)
_OBSERVATIONS_AFTER: Final = (
    sa.select(observations.c.obs_id)
    .where(observations.c.obs_id > sa.bindparam("after"))
    .order_by(observations.c.obs_id)
    .limit(OBSERVATIONS)
)
_AVAILABLE_OF: Final = sa.select(available.c.obs_id, available.c.product).where(
    available.c.obs_id.in_(_observations)
)
_PROCESSINGS_OF: Final = sa.select(
    table.c.obs_id, table.c.product, table.c.state, table.c.set_aside
).where(table.c.obs_id.in_(_observations))
