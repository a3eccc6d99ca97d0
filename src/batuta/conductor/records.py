"""Reading the records of processings from the database, locked, and writing what changed."""

from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import fields
from operator import attrgetter
from typing import Any, Final

import sqlalchemy as sa

from batuta.conductor.events import Interface
from batuta.conductor.statements import LOCK, write_values
from batuta.conductor.transitions import ProcessingRecord
from batuta.messaging import ProcessingState as State

Row = sa.Row[Any]
"""A row of the table of processings."""

MAX_IN: Final = 500
"""Values in one ``IN``: databases have a limit."""

_COLUMNS: Final = tuple(field.name for field in fields(ProcessingRecord))
_values: Final = attrgetter(*_COLUMNS)


def record_of(row: Row) -> ProcessingRecord:
    """Return what transitions depend on, of a row of the table of processings."""
    values = dict(zip(_COLUMNS, _values(row), strict=True))
    interface = None if row.interface is None else Interface(row.interface)
    return ProcessingRecord(**{**values, "state": State(row.state), "interface": interface})


def locked_rows(connection: sa.Connection, ids: Collection[str]) -> dict[str, Row]:
    """Read rows by id, locked until the transaction ends.

    What is decided from them is written before anyone else can change them: two conductors that
    hear of the same processing decide one after the other, each from what the other wrote.
    """
    if not ids:
        return {}
    rows = connection.execute(LOCK, {"ids": list(ids)}).all()
    return {row.id: row for row in rows}


def write_changes(
    connection: sa.Connection, changes: Iterable[tuple[ProcessingRecord, ProcessingRecord]]
) -> None:
    """Write the columns in which each record differs from what it was before.

    Records that change alike share a statement: requests leave by the hundred.
    """
    by_values: defaultdict[tuple[tuple[str, Any], ...], list[str]] = defaultdict(list)
    for before, after in changes:
        values = tuple(
            (name, getattr(after, name))
            for name in _COLUMNS
            if getattr(after, name) != getattr(before, name)
        )
        if values:
            by_values[values].append(after.id)
    for values, ids in by_values.items():
        statement = write_values(tuple(name for name, _ in values))
        new = {f"new_{name}": value for name, value in values}
        for start in range(0, len(ids), MAX_IN):
            connection.execute(statement, {**new, "ids": ids[start : start + MAX_IN]})
