"""What is being made of observations, read from their processings; inside a transaction."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Final

import sqlalchemy as sa

from batuta.conductor.database.records import MAX_IN, Row
from batuta.conductor.database.schema import available
from batuta.conductor.decisions.remaking import ProcessingEnd, is_under_way
from batuta.messaging import ProcessingState as State

NOTHING_CHANGED: Final[Mapping[str, State]] = {}

UnderWay = Mapping[str, Mapping[str, str]]
"""The products of which a version is still to come, by observation, and the processing of each."""


def read_under_way(
    connection: sa.Connection,
    rows: Iterable[Row],
    now: float,
    states: Mapping[str, State] = NOTHING_CHANGED,
) -> UnderWay:
    """Return what is under way of the observations that `rows` are all processings of.

    `states` are those of rows that have changed since they were read, by id.
    """
    of_products = sorted(rows, key=lambda row: (row.created, row.id))
    heard = _heard(connection, {row.obs_id for row in of_products if _has_just_ended(row, now)})
    found: defaultdict[str, dict[str, str]] = defaultdict(dict)
    for row in of_products:
        end = ProcessingEnd(
            state=states.get(row.id) or State(row.state),
            requested=row.requested,
            ended=row.ended,
            heard=heard.get((row.obs_id, row.product)),
        )
        if is_under_way(end, now):
            found[row.obs_id][row.product] = row.id
    return found


def _has_just_ended(row: Row, now: float) -> bool:
    """Return whether the announcement of what it made may be on its way."""
    end = ProcessingEnd(state=State(row.state), ended=row.ended)
    return is_under_way(end, now) and end.state is State.SUCCEEDED


def _heard(connection: sa.Connection, observations: Iterable[str]) -> dict[tuple[str, str], float]:
    """Return when each available product of observations was last heard of."""
    names = sorted(observations)
    found: dict[tuple[str, str], float] = {}
    for start in range(0, len(names), MAX_IN):
        query = sa.select(available.c.obs_id, available.c.product, available.c.heard)
        some = query.where(available.c.obs_id.in_(names[start : start + MAX_IN]))
        for obs_id, product, heard in connection.execute(some):
            found[obs_id, product] = heard
    return found
