"""Reading the records of processings from the database, locked, and writing what changed."""

from collections import defaultdict
from collections.abc import Collection, Iterable
from operator import attrgetter
from typing import Any, Final

import sqlalchemy as sa

from batuta.conductor.database.statements import (
    LOCK_RECORDS,
    LOCK_ROWS,
    RECORD_COLUMNS,
    write_values,
)
from batuta.conductor.decisions.events import Interface
from batuta.conductor.decisions.processing_record import ProcessingRecord
from batuta.messaging import ProcessingState as State
from batuta.work_classes import WorkClass

Row = sa.Row[Any]
"""A row of the table of processings."""

MAX_IN: Final = 500
"""Values in one ``IN``: databases have a limit."""

_values: Final = attrgetter(*RECORD_COLUMNS)


def record_of(row: Row) -> ProcessingRecord:
    """Return what transitions depend on, of a row of the table of processings."""
    values = dict(zip(RECORD_COLUMNS, _values(row), strict=True))
    interface = None if row.interface is None else Interface(row.interface)
    told_class = None if row.told_class is None else WorkClass(row.told_class)
    typed = {
        "state": State(row.state),
        "interface": interface,
        "work_class": WorkClass(row.work_class),
        "told_class": told_class,
    }
    return ProcessingRecord(**{**values, **typed})


def locked_rows(connection: sa.Connection, ids: Collection[str]) -> dict[str, Row]:
    """Read rows by id, locked until the transaction ends.

    What is decided from them is written before anyone else can change them: two conductors that
    hear of the same processing decide one after the other, each from what the other wrote.
    """
    if not ids:
        return {}
    rows = connection.execute(LOCK_ROWS, {"ids": list(ids)}).all()
    return {row.id: row for row in rows}


def locked_records(connection: sa.Connection, ids: Collection[str]) -> dict[str, ProcessingRecord]:
    """Read records by id, locked as by `locked_rows`."""
    if not ids:
        return {}
    rows = connection.execute(LOCK_RECORDS, {"ids": list(ids)}).all()
    return {row.id: record_of(row) for row in rows}


def write_changes(
    connection: sa.Connection, changes: Iterable[tuple[ProcessingRecord, ProcessingRecord]]
) -> None:
    """Write the columns in which each record differs from what it was before.

    Records of which the same columns change share a statement: requests leave by the hundred.
    """
    by_names: defaultdict[tuple[str, ...], list[dict[str, Any]]] = defaultdict(list)
    for before, after in changes:
        old, new = _values(before), _values(after)
        if old != new:
            values = {
                name: value
                for name, former, value in zip(RECORD_COLUMNS, old, new, strict=True)
                if value != former
            }
            named = {f"new_{name}": value for name, value in values.items()}
            by_names[tuple(values)].append({**named, "of": after.id})
    for names, rows in by_names.items():
        connection.execute(write_values(names), rows)
