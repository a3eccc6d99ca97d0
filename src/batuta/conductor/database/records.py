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
    write_values_alike,
)
from batuta.conductor.decisions.events import Interface
from batuta.conductor.decisions.failures import kind_of_error
from batuta.conductor.decisions.processing_record import ProcessingRecord
from batuta.messaging import ProcessingState as State
from batuta.work_classes import WorkClass

Row = sa.Row[Any]
"""A row of the table of processings."""

MAX_IN: Final = 500
"""Values in one ``IN``: databases have a limit."""
MIN_ALIKE: Final = 4
"""Records that change alike from which on one statement for all of them costs less."""

_values: Final = attrgetter(*RECORD_COLUMNS)


_READERS: Final = tuple(
    # From a dictionary: calling an enumeration takes five times as long.
    (RECORD_COLUMNS.index(name), {each.value: each for each in kind}.__getitem__)
    for name, kind in (
        ("state", State),
        ("interface", Interface),
        ("work_class", WorkClass),
        ("told_class", WorkClass),
    )
)


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


def record_of_columns(row: Row) -> ProcessingRecord:
    """Return the same of a row that begins with `RECORD_COLUMNS`, in half of the time."""
    values = list(row)[: len(RECORD_COLUMNS)]
    for index, read in _READERS:
        if values[index] is not None:
            values[index] = read(values[index])
    return ProcessingRecord(**dict(zip(RECORD_COLUMNS, values, strict=True)))


def locked_rows(connection: sa.Connection, ids: Collection[str]) -> dict[str, Row]:
    """Read rows by id, locked until the transaction ends.

    What is decided from them is written before anyone else can change them: two conductors that
    hear of the same processing decide one after the other, each from what the other wrote.
    """
    if not ids:
        return {}
    rows = LOCK_ROWS.execute(connection, ids).all()
    return {row.id: row for row in rows}


def locked_records(connection: sa.Connection, ids: Collection[str]) -> dict[str, ProcessingRecord]:
    """Read records by id, locked as by `locked_rows`."""
    if not ids:
        return {}
    rows = LOCK_RECORDS.execute(connection, ids).all()
    return {record.id: record for record in map(record_of_columns, rows)}


def write_changes(
    connection: sa.Connection, changes: Iterable[tuple[ProcessingRecord, ProcessingRecord]]
) -> None:
    """Write the columns in which each record differs from what it was before.

    Records that change to the same values share a statement, and so do, if not so well, those of
    which the same columns change: requests leave, and orders cancel, by the hundred.
    """
    by_values: defaultdict[tuple[tuple[str, Any], ...], list[str]] = defaultdict(list)
    for before, after in changes:
        old, new = _values(before), _values(after)
        if old != new:
            differing = [
                (name, value)
                for name, former, value in zip(RECORD_COLUMNS, old, new, strict=True)
                if value != former
            ]
            if after.error != before.error:
                kind = kind_of_error(after.error, (after.id, after.obs_id))
                differing.append(("error_kind", kind))
            by_values[tuple(differing)].append(after.id)
    by_names: defaultdict[tuple[str, ...], list[dict[str, Any]]] = defaultdict(list)
    for changed, ids in by_values.items():
        names = tuple(name for name, _ in changed)
        values = {f"new_{name}": value for name, value in changed}
        if len(ids) < MIN_ALIKE:
            by_names[names] += [{**values, "of": each} for each in ids]
            continue
        for start in range(0, len(ids), MAX_IN):
            wanted = {**values, "ids": ids[start : start + MAX_IN]}
            connection.execute(write_values_alike(names), wanted)
    for names, rows in by_names.items():
        connection.execute(write_values(names), rows)
