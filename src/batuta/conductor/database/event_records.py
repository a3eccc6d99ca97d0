"""The record of what became of each event: written with the decision, listed, dropped."""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, Final

import sqlalchemy as sa
from pydantic_core import to_json

from batuta.conductor.database.schema import IGNORED, WAITING
from batuta.conductor.database.schema import events as table
from batuta.conductor.decisions.outcomes import (
    Decided,
    EventOutcome,
    HeardEvent,
    Outcome,
    outcome_of,
)
from batuta.graph import Graph
from batuta.service.database import insert
from batuta.service.listing import Listing, equals_unindexed

MAX_DELETED: Final = 1000
"""Events that one transaction deletes: decisions wait for it."""


def record_events(
    connection: sa.Connection, graph: Graph, heard: Sequence[HeardEvent], decided: Decided
) -> None:
    """Record what became of events, in the transaction that decides it."""
    if heard:
        rows = [_row(each, outcome_of(graph, each, decided)) for each in heard]
        connection.execute(_insert(connection.dialect.name), rows)


def record_outcome(connection: sa.Connection, heard: HeardEvent, outcome: EventOutcome) -> None:
    """Record what became of one event that nothing is claimed from."""
    connection.execute(_insert(connection.dialect.name), [_row(heard, outcome)])


@cache
def _insert(dialect: str) -> Any:
    # One that is delivered again was decided when it came first: that record stays.
    return insert(dialect, table).on_conflict_do_nothing()


def _row(heard: HeardEvent, outcome: EventOutcome) -> dict[str, Any]:
    return {
        "received": heard.received,
        "sequence": heard.sequence,
        "id": heard.id,
        "source": heard.source,
        "product": heard.product,
        "obs_id": heard.obs_id,
        "version": heard.version or None,
        "stage": heard.stage,
        "outcome": outcome.outcome.value,
        "reason": outcome.reason,
        "triggered": _encoded(outcome.triggered),
        "waiting": _encoded(outcome.waiting),
    }


def _encoded(mapping: Mapping[str, object]) -> str | None:
    return to_json(mapping).decode() if mapping else None


def list_events(
    filters: Mapping[str, str], since: float | None = None, until: float | None = None
) -> Listing:
    """List events, the newest first.

    Parameters
    ----------
    filters : mapping
        Values of ``outcome``, ``product``, ``obs_id`` and ``source``.
    since, until : float or None
        When they were received, in seconds since 1970; `until` is excluded.
    """
    selected: list[sa.ColumnElement[bool] | sa.TextClause] = []
    checked = dict(filters)
    # The index that leaves the fewest: an observation has few events. Most trigger something.
    if "obs_id" in filters:
        selected.append(table.c.obs_id == checked.pop("obs_id"))
    elif filters.get("outcome") in _SELECTIVE:
        selected.append(sa.text(_SELECTIVE[checked.pop("outcome")]))
    if since is not None:
        selected.append(table.c.received >= since)
    if until is not None:
        selected.append(table.c.received < until)
    return Listing(
        query=sa.select(table),
        key=[table.c.received, table.c.sequence],
        descending=True,
        selected=selected,
        checked=[equals_unindexed(table.c[name], value) for name, value in checked.items()],
    )


_SELECTIVE: Final[Mapping[str, str]] = {Outcome.IGNORED: IGNORED, Outcome.WAITING: WAITING}


def drop_events(connection: sa.Connection, before: tuple[float, int]) -> int:
    """Delete the oldest events up to a key, at most `MAX_DELETED`; return how many."""
    key = sa.tuple_(table.c.received, table.c.sequence)
    oldest = sa.select(table.c.received, table.c.sequence).order_by(
        table.c.received, table.c.sequence
    )
    last = connection.execute(oldest.limit(1).offset(MAX_DELETED - 1)).one_or_none()
    end = before if last is None else min(before, (last.received, last.sequence))
    deleted = connection.execute(sa.delete(table).where(key <= sa.tuple_(*end)))
    return deleted.rowcount


def last_to_drop(
    connection: sa.Connection, received_before: float, at_most: int
) -> tuple[float, int] | None:
    """Return the key of the newest event to drop: older than a time, or beyond so many."""
    newest = sa.select(table.c.received, table.c.sequence).order_by(
        table.c.received.desc(), table.c.sequence.desc()
    )
    found = [
        connection.execute(newest.where(table.c.received < received_before).limit(1)).one_or_none(),
        connection.execute(newest.limit(1).offset(at_most)).one_or_none(),
    ]
    return max(((row.received, row.sequence) for row in found if row is not None), default=None)
