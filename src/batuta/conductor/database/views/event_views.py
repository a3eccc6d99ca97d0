"""What became of events, as REST shows it."""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa
from pydantic import BaseModel
from pydantic_core import from_json

from batuta.conductor.database.claiming.stage_records import read_staged_of
from batuta.conductor.database.current_graph import CurrentGraph
from batuta.conductor.database.event_records import list_events
from batuta.conductor.database.lists import decode_key, encode_key
from batuta.conductor.database.records import Row
from batuta.conductor.database.schema import available, processings
from batuta.conductor.database.schema import events as table
from batuta.conductor.database.views.observations import ConductorProcessing, Views
from batuta.conductor.decisions.outcomes import Outcome
from batuta.conductor.decisions.stages import lacking
from batuta.graph import Graph
from batuta.messaging.processings import instant_of
from batuta.service.database import reading
from batuta.service.pagination import Page
from batuta.stages import Stage, stage_of

MAX_OF_ID: Final = 100
"""Events of one id that are shown: whoever announces may repeat it."""


class EventView(BaseModel):
    """A message of ``data.*``, and how it has ended.

    `triggered` are the ids of processings by product, `waiting` the inputs that other products
    lacked at that moment, `reason` why it was ignored, or which stages were waited for. `id` is
    that of its CloudEvent; of what had none, its subject and its number in the stream.
    """

    id: str
    source: str
    sequence: int
    received: datetime
    product: str | None
    obs_id: str | None
    version: int | None
    stage: Stage | None
    outcome: Outcome
    reason: str | None
    triggered: dict[str, str]
    waiting: dict[str, list[str]]


class EventDetail(EventView):
    """An event, with what it has caused, as that is now.

    `processings` are those that it triggered; `lacking` is what the products that waited lack now;
    `repeats` are later messages of the same id.
    """

    processings: list[ConductorProcessing]
    lacking: dict[str, list[str]]
    repeats: list[EventView]


class EventViews:
    """Reads what became of events; never writes.

    Parameters
    ----------
    engine : sa.Engine
        Open, with the latest schema.
    graph : Graph or CurrentGraph
        The product graph, or what holds the one in force.
    views : Views
        Shows processings.
    """

    def __init__(self, engine: sa.Engine, graph: Graph | CurrentGraph, views: Views) -> None:
        self.engine = engine
        self.views = views
        self._current = CurrentGraph.of(graph)

    @property
    def graph(self) -> Graph:
        """The graph in force."""
        return self._current.graph

    def one_moment(self) -> AbstractContextManager[None]:
        """Let what is read within be of one moment, and by one graph."""
        return self._current.one_moment(self.engine)

    def page(
        self,
        filters: Mapping[str, str | None],
        since: datetime | None,
        until: datetime | None,
        limit: int,
        cursor: str | None,
    ) -> Page[EventView]:
        """Return a page of events, the newest first; `until` is excluded.

        Raises
        ------
        ValueError
            If `cursor` is none that a page had.
        """
        given = {name: value for name, value in filters.items() if value is not None}
        key = decode_key(cursor)
        after = None if key is None else (key[0], int(key[1]))
        listing = list_events(given, _seconds(since), _seconds(until))
        with reading(self.engine) as connection:
            rows, following = listing.page(connection, limit, after)
        return Page(items=[EventView(**_values(row)) for row in rows], next=encode_key(following))

    def find(self, event_id: str) -> EventDetail | None:
        """Return the first event of an id that has caused something, else the first of it."""
        query = sa.select(table).where(table.c.id == event_id)
        query = query.order_by(table.c.received, table.c.sequence).limit(MAX_OF_ID)
        with self.one_moment(), reading(self.engine) as connection:
            rows = connection.execute(query).all()
            if not rows:
                return None
            first = next((row for row in rows if row.triggered is not None), rows[0])
            values = _values(first)
            return EventDetail(
                **values,
                processings=self._triggered(connection, values["triggered"]),
                lacking=self._lacking(connection, first.obs_id, values["waiting"]),
                repeats=[EventView(**_values(row)) for row in rows if row is not first],
            )

    def outcome_of_message(self, sequence: int, since: float) -> EventView | None:
        """Return what became of a message of the stream ``DATA``, if it is recorded by now."""
        query = sa.select(table).where(table.c.received >= since, table.c.sequence == sequence)
        with reading(self.engine) as connection:
            row = connection.execute(query.limit(1)).one_or_none()
        return None if row is None else EventView(**_values(row))

    def _triggered(
        self, connection: sa.Connection, ids: Mapping[str, str]
    ) -> list[ConductorProcessing]:
        query = sa.select(processings).where(processings.c.id.in_(list(ids.values())))
        return [self.views.processing_of(row) for row in connection.execute(query)]

    def _lacking(
        self, connection: sa.Connection, obs_id: str | None, waiting: Mapping[str, object]
    ) -> dict[str, list[str]]:
        if not waiting:
            return {}
        rows = connection.execute(sa.select(available).where(available.c.obs_id == obs_id)).all()
        now = {row.product: row.version for row in rows}
        staged = read_staged_of(connection, obs_id or "", rows)
        known = [self.graph.products[name] for name in waiting if name in self.graph.products]
        return {product.name: list(lacking(product, now, staged)) for product in known}


def _seconds(time: datetime | None) -> float | None:
    return None if time is None else time.timestamp()


def _values(row: Row) -> dict[str, Any]:
    values = dict(row._mapping)
    return values | {
        "received": instant_of(row.received),
        "stage": None if row.stage is None else stage_of(row.stage),
        "triggered": from_json(row.triggered or "{}"),
        "waiting": from_json(row.waiting or "{}"),
    }
