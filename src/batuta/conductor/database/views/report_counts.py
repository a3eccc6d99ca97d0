"""What is counted for a report of a span of time, each by one query that an index bounds.

What a query reads grows with what happened in the span, or after it; never with history.
"""

from collections import Counter
from collections.abc import Mapping
from typing import Any, Final

import sqlalchemy as sa
from pydantic_core import from_json

from batuta.conductor.database.records import Row
from batuta.conductor.database.schema import (
    HAS_ENDED,
    LISTED,
    available,
    history,
    incidents,
    orders,
)
from batuta.conductor.database.schema import processings as table
from batuta.conductor.database.summaries import read_counts
from batuta.conductor.decisions.reports import Facts, Incident, Key, rounded, waiting_at_end
from batuta.conductor.decisions.rules import MANUAL
from batuta.graph import Graph
from batuta.messaging import ProcessingState as State
from batuta.service.database import reading
from batuta.work_classes import WorkClass

OPEN_STATES: Final = [each for each in State if not each.ended]
AT_ONCE: Final = [WorkClass.ALERT, WorkClass.LIVE]
"""The classes of what is made as its inputs arrive: of others, the time since then says nothing."""

_SINCE: Final = sa.func.coalesce(available.c.since, available.c.heard)
_MADE_BEFORE: Final = (
    sa.func.min(sa.case((available.c.product == table.c.product, _SINCE))) < table.c.created
)
_AWAITED_SINCE: Final = (
    sa.select(sa.case((_MADE_BEFORE, table.c.created), else_=sa.func.min(_SINCE)))
    .where(available.c.obs_id == table.c.obs_id)
    .correlate(table)
    .scalar_subquery()
)
"""From when the product of a processing is waited for: that anything was first heard of its
observation; of what was there before, and is made again, that what it is made from was there. An
input that comes, or is made again, days later says nothing of how fast the first was."""
AWAITED_SINCE_OF_MADE: Final = sa.case(
    (
        sa.and_(
            table.c.state == State.SUCCEEDED,
            table.c.work_class.in_(AT_ONCE),
            ~table.c.claim.startswith(MANUAL),
        ),
        _AWAITED_SINCE,
    )
)
"""The same of what was made as its inputs arrived; null of all else, such as what was ordered."""

_NUMBER: Final = sa.func.count().label("number")
_KEY: Final = (table.c.provider, table.c.product)


def _bucket(seconds: "sa.ColumnElement[float]") -> "sa.ColumnElement[float]":
    """Return a duration to about three digits, so that few different ones are read."""
    decades = [(10.0**power, 10.0 ** (power - 3)) for power in range(1, 7)]
    return sa.case(
        *((seconds < limit, sa.func.round(seconds / unit) * unit) for limit, unit in decades),
        else_=seconds,
    )


_ENDS: Final = (
    sa.select(
        *_KEY,
        table.c.state,
        (table.c.ended - table.c.started).label("took"),
        (table.c.ended - AWAITED_SINCE_OF_MADE).label("waited"),
    )
    .where(
        sa.text(HAS_ENDED),
        table.c.ended >= sa.bindparam("begin"),
        table.c.ended < sa.bindparam("end"),
    )
    .cte("ends")
    # Otherwise what it computes is computed again wherever it is mentioned.
    .prefix_with("MATERIALIZED")
)
_TOOK: Final = _bucket(_ENDS.c.took).label("took_s")
_WAITED: Final = _bucket(_ENDS.c.waited).label("waited_s")
_END: Final = (_ENDS.c.provider, _ENDS.c.product, _ENDS.c.state)
# Of a month there are hundreds of thousands: the database counts them.
_ENDED: Final = sa.select(*_END, _TOOK, _WAITED, _NUMBER).group_by(*_END, _TOOK, _WAITED)
_BEGUN_SINCE: Final = (
    sa.select(*_KEY, table.c.state, _NUMBER)
    .where(
        sa.text(LISTED),
        table.c.state.in_(OPEN_STATES),
        table.c.created >= sa.bindparam("end"),
    )
    .group_by(*_KEY, table.c.state)
)
_ENDED_SINCE: Final = (
    sa.select(*_KEY, _NUMBER)
    .where(
        sa.text(HAS_ENDED),
        table.c.ended >= sa.bindparam("end"),
        table.c.created < sa.bindparam("end"),
    )
    .group_by(*_KEY)
)


def _history(what: str) -> "sa.Select[Any]":
    return (
        sa.select(*_KEY)
        .select_from(history.join(table, table.c.id == history.c.processing_id))
        .where(
            history.c.at >= sa.bindparam("begin"),
            history.c.at < sa.bindparam("end"),
            history.c.what.like(f"attempt %failed: {what}"),
        )
        .group_by(*_KEY)
    )


_RETRIED: Final = _history(State.RETRYING).add_columns(_NUMBER)
_FAILS: Final = sa.case((table.c.state == State.FAILED, 1), else_=0)
_FAILED_BEFORE: Final = (
    # Those that have failed in the span, and are not what they were at its end any more.
    _history(State.FAILED)
    .add_columns(
        _FAILS.label("fails"), sa.func.count(sa.distinct(history.c.processing_id)).label("number")
    )
    .where(
        sa.not_(
            sa.and_(
                table.c.state == State.FAILED,
                table.c.ended >= sa.bindparam("begin"),
                table.c.ended < sa.bindparam("end"),
            )
        )
    )
    .group_by(_FAILS)
)
_MISSED: Final = (
    sa.select(
        incidents.c.product,
        incidents.c.what,
        sa.func.count(sa.distinct(incidents.c.obs_id)).label("number"),
        sa.func.count(
            sa.distinct(sa.case((available.c.obs_id.is_(None), incidents.c.obs_id)))
        ).label("missing"),
    )
    .select_from(
        incidents.outerjoin(
            available,
            sa.and_(
                available.c.obs_id == incidents.c.obs_id,
                available.c.product == incidents.c.product,
            ),
        )
    )
    .where(
        incidents.c.at >= sa.bindparam("begin"),
        incidents.c.at < sa.bindparam("end"),
        incidents.c.what.in_([Incident.LATE, Incident.EXPIRED]),
    )
    .group_by(incidents.c.product, incidents.c.what)
)
_ANSWERS: Final = (
    sa.select(orders)
    .where(
        orders.c.at >= sa.bindparam("begin"),
        orders.c.at < sa.bindparam("end"),
        orders.c.command.in_(["approve", "refuse"]),
    )
    .order_by(orders.c.at)
)


class ReportCounts:
    """Counts what happened in a span of time.

    Parameters
    ----------
    engine : sa.Engine
        The conductor's database.
    graph : Graph
        The product graph in force: tells the providers of products.
    """

    def __init__(self, engine: sa.Engine, graph: Graph) -> None:
        self._engine = engine
        self._graph = graph

    def read(self, begin: float, end: float) -> tuple[Facts, list[Row]]:
        """Return what was counted, and the orders by which persons have approved or refused."""
        span = {"begin": begin, "end": end}
        found = Facts()
        with reading(self._engine) as connection:
            _count_ended(connection, span, found)
            _count_history(connection, span, found)
            _count_waiting(connection, span, found)
            for row in connection.execute(_MISSED, span):
                key = self._key(row.product)
                found.add(row.what, key, row.number)
                if row.what == Incident.LATE:
                    found.add("still_late", key, row.missing)
            answers = list(connection.execute(_ANSWERS, span))
        for row in answers:
            key = self._key(from_json(row.about).get("product", ""))
            found.add("approved" if row.command == "approve" else "refused", key)
        return found, answers

    def _key(self, product: str) -> Key:
        known = self._graph.products.get(product)
        return ("" if known is None else known.provider), product


_NAMES: Final[Mapping[str, tuple[str, ...]]] = {
    State.SUCCEEDED: ("made",),
    State.FAILED: ("failed", "still_failed"),
    State.CANCELLED: ("cancelled",),
}
"""What the end of a processing is counted as."""


def _count_ended(connection: sa.Connection, span: Mapping[str, float], found: Facts) -> None:
    for provider, product, state, took_s, waited_s, number in connection.execute(_ENDED, span):
        key = provider, product
        for name in _NAMES[state]:
            found.add(name, key, number)
        if state == State.SUCCEEDED and took_s is not None:
            found.processing[key][rounded(took_s)] += number
        if waited_s is not None:
            found.latency[key][rounded(waited_s)] += number


def _count_history(connection: sa.Connection, span: Mapping[str, float], found: Facts) -> None:
    for row in connection.execute(_FAILED_BEFORE, span):
        found.add("failed", (row.provider, row.product), row.number)
        found.add("still_failed", (row.provider, row.product), row.fails * row.number)
    for row in connection.execute(_RETRIED, span):
        found.add("retried", (row.provider, row.product), row.number)


def _count_waiting(connection: sa.Connection, span: Mapping[str, float], found: Facts) -> None:
    begun, held_since = Counter[Key](), Counter[Key]()
    for row in connection.execute(_BEGUN_SINCE, span):
        begun[row.provider, row.product] += row.number
        if row.state == State.HELD:
            held_since[row.provider, row.product] += row.number
    ended = {
        (row.provider, row.product): row.number for row in connection.execute(_ENDED_SINCE, span)
    }
    now, held = Counter[Key](), Counter[Key]()
    for (product, provider, state), number in read_counts(connection).processings.items():
        if state in OPEN_STATES:
            now[provider, product] += number
        if state == State.HELD:
            held[provider, product] += number
    found.counts["waiting"] = waiting_at_end(now, begun, ended)
    found.counts["held"] = waiting_at_end(held, held_since, {})
