"""Observations by products: the state of each, of many observations at once, in few bytes."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Final

import sqlalchemy as sa
from pydantic import BaseModel

from batuta.conductor.database.approvals.awaiting_versions import kept_back
from batuta.conductor.database.current_graph import CurrentGraph, ReadsGraph
from batuta.conductor.database.lists import (
    ObservationOrder,
    decode_key,
    encode_key,
    list_observations,
)
from batuta.conductor.database.records import MAX_IN, Row
from batuta.conductor.database.schema import available
from batuta.conductor.database.schema import processings as table
from batuta.conductor.decisions.approvals import Verdict
from batuta.graph import Graph
from batuta.messaging import ProcessingState
from batuta.messaging.processings import instant_of
from batuta.service.database import reading
from batuta.service.pagination import Page

AVAILABLE: Final = "available"


class MatrixRow(BaseModel):
    """An observation: the state of each product that is there, or was asked for.

    States are those of ``GET /observations/{obs_id}``; what is missing is left out. `stale` names
    the products that are available, and stale.
    """

    obs_id: str
    states: dict[str, str]
    stale: list[str] = []
    last_news: datetime | None = None


class MatrixViews(ReadsGraph):
    """Reads the states of many observations.

    Parameters
    ----------
    engine : sa.Engine
        Open, with the latest schema.
    graph : Graph or CurrentGraph
        The product graph, or what holds the one in force.
    """

    def __init__(self, engine: sa.Engine, graph: Graph | CurrentGraph) -> None:
        super().__init__(graph)
        self._engine = engine

    def page(self, limit: int, cursor: str | None) -> Page[MatrixRow]:
        """Return a page of observations, those first that were heard of last.

        Raises
        ------
        ValueError
            If `cursor` is none that a page had.
        """
        after = decode_key(cursor)
        with self._current.one_moment(self._engine), reading(self._engine) as connection:
            listing = list_observations(ObservationOrder.NEWEST)
            rows, following = listing.page(connection, limit, after)
            names = [row.obs_id for row in rows]
            versions = _versions(connection, names)
            processings = _latest(connection, names)
            items = [
                self._row(connection, row, versions[row.obs_id], processings[row.obs_id])
                for row in rows
            ]
        return Page(items=items, next=encode_key(following))

    def _row(
        self,
        connection: sa.Connection,
        observation: Row,
        versions: dict[str, int],
        processings: dict[str, Row],
    ) -> MatrixRow:
        states = {name: row.state for name, row in processings.items()}
        for name in versions:
            if name not in states or ProcessingState(states[name]).ended:
                states[name] = AVAILABLE
        for name, asked in kept_back(connection, self._graph, observation.obs_id, versions).items():
            if states.get(name) not in _NOT_KEPT:
                continue
            states[name] = "unapproved" if asked.state is Verdict.PENDING else "refused"
        stale = [name for name, row in processings.items() if row.stale_since is not None]
        news = observation.last_news
        return MatrixRow(
            obs_id=observation.obs_id,
            states=states,
            stale=stale,
            last_news=None if news is None else instant_of(news),
        )


_NOT_KEPT: Final = frozenset({None, *(each.value for each in ProcessingState if each.ended)})
"""States of a product of which nothing is available or being made."""


def _versions(connection: sa.Connection, names: Sequence[str]) -> defaultdict[str, dict[str, int]]:
    found: defaultdict[str, dict[str, int]] = defaultdict(dict)
    for part in _parts(names):
        query = sa.select(available.c.obs_id, available.c.product, available.c.version).where(
            available.c.obs_id.in_(part)
        )
        for obs_id, product, version in connection.execute(query):
            found[obs_id][product] = version
    return found


def _latest(connection: sa.Connection, names: Sequence[str]) -> defaultdict[str, dict[str, Row]]:
    """Return the latest processing of each product of each observation."""
    found: defaultdict[str, dict[str, Row]] = defaultdict(dict)
    for part in _parts(names):
        query = (
            sa.select(table.c.obs_id, table.c.product, table.c.state, table.c.stale_since)
            .where(table.c.obs_id.in_(part))
            .order_by(table.c.obs_id, table.c.created, table.c.id)
        )
        rows: Iterable[Row] = connection.execute(query)
        for row in rows:
            found[row.obs_id][row.product] = row
    return found


def _parts(names: Sequence[str]) -> Iterable[Sequence[str]]:
    return (names[start : start + MAX_IN] for start in range(0, len(names), MAX_IN))
