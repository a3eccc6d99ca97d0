"""Keeping work back that a hold covers, inside a transaction.

What is held is no longer among what waits: however much it is, it is not read to find what is due.
So all is marked as held as soon as a hold covers it, and what was not reached yet when its turn
comes.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any, Final, cast

import sqlalchemy as sa

from batuta.conductor.database.records import (
    MAX_IN,
    Row,
    locked_records,
    record_of_columns,
    write_changes,
)
from batuta.conductor.database.schema import holds as hold_table
from batuta.conductor.database.statements import DUE, OPEN_HOLDS
from batuta.conductor.decisions.holds import SCOPE_NAMES, Hold, Scope, Work, hold, holding
from batuta.conductor.decisions.processing_record import ProcessingRecord
from batuta.messaging import ProcessingState as State
from batuta.work_classes import WorkClass

MAX_PASSED_OVER: Final = 1000
"""Of one class at one provider, held when their turn comes, in one transaction: more wait.

Those who mark the work of a new hold wake the dispatcher as they go on.
"""

_TO_BE_REQUESTED: Final = frozenset({State.WAITING, State.RETRYING})


def read_holds(connection: sa.Connection) -> list[Hold]:
    """Read the holds that may keep something back; none of them ends before the caller has."""
    return [hold_of(row) for row in connection.execute(OPEN_HOLDS)]


def open_holds(connection: sa.Connection) -> list[Hold]:
    """Read the holds that have not ended, the earliest first."""
    query = sa.select(hold_table).where(hold_table.c.ended.is_(None)).order_by(hold_table.c.number)
    return [hold_of(row) for row in connection.execute(query)]


def hold_of(row: Row) -> Hold:
    """Return a row of the table of holds as decisions see it."""
    values = row._asdict()
    given = {name: values.pop(name) for name in SCOPE_NAMES}
    if given["work_class"] is not None:
        given["work_class"] = WorkClass(given["work_class"])
    return Hold(scope=Scope(**given), **values)


def hold_new(connection: sa.Connection, rows: Sequence[dict[str, Any]], now: float) -> None:
    """Mark rows that are about to be inserted as held, if they are."""
    holds = read_holds(connection)
    if not holds:
        return
    for row in rows:
        by = holding(holds, cast("Work", SimpleNamespace(**row)), now)
        if by is not None and row["state"] in _TO_BE_REQUESTED:
            row |= {"state": State.HELD, "held_by": by.number}


def hold_again(connection: sa.Connection, ids: Collection[str], now: float) -> None:
    """Mark as held those of processings that are to be requested, if a hold covers them."""
    holds = read_holds(connection) if ids else []
    if not holds:
        return
    names = list(ids)
    for start in range(0, len(names), MAX_IN):
        _mark(connection, names[start : start + MAX_IN], holds, now)


def _mark(
    connection: sa.Connection, ids: Collection[str], holds: Sequence[Hold], now: float
) -> None:
    records = locked_records(connection, ids).values()
    waiting = [each for each in records if each.state in _TO_BE_REQUESTED]
    write_changes(connection, _held_among(waiting, holds, now))


def _held_among(
    records: Iterable[ProcessingRecord], holds: Sequence[Hold], now: float
) -> list[tuple[ProcessingRecord, ProcessingRecord]]:
    return [
        (each, hold(each, by)) for each in records if (by := holding(holds, each, now)) is not None
    ]


def read_due(
    connection: sa.Connection, wanted: Mapping[str, Any], holds: Sequence[Hold]
) -> list[Row]:
    """Read what is due of one class at one provider; what a hold covers is held, and not due.

    Parameters
    ----------
    wanted : mapping
        The parameters of `DUE`.
    holds : sequence of Hold
        Those that may keep something back; without any, this is one statement.
    """
    passed_over = 0
    while True:
        rows = list(connection.execute(DUE, wanted))
        held = (
            _held_among([record_of_columns(row) for row in rows], holds, wanted["now"])
            if holds
            else []
        )
        if not held:
            return rows
        write_changes(connection, held)
        passed_over += len(held)
        if len(rows) < wanted["at_most"] or passed_over >= MAX_PASSED_OVER:
            gone = {before.id for before, _ in held}
            return [row for row in rows if row.id not in gone]
