"""What happened to processings besides their latest state: failed attempts, operators' orders.

Written only when there is something to tell: an attempt that succeeds adds no statement.
"""

from collections.abc import Iterable, Sequence
from typing import Final

import sqlalchemy as sa

from batuta.conductor.database.records import Row
from batuta.conductor.database.schema import history as table
from batuta.conductor.decisions.processing_record import AT_PROVIDER, ProcessingRecord
from batuta.conductor.decisions.stops import Stop
from batuta.messaging import ProcessingState as State
from batuta.service.operators import Operator

CONDUCTOR: Final = "conductor"

_UNSUCCESSFUL: Final = frozenset({State.RETRYING, State.FAILED, State.CANCELLED})
_INSERT: Final = sa.insert(table)


def record_failures(
    connection: sa.Connection,
    changes: Iterable[tuple[ProcessingRecord, ProcessingRecord]],
    now: float,
) -> None:
    """Record the attempts that have failed among the changes of processings."""
    rows = [
        _row(new, now, f"attempt {new.attempt} failed: {new.state}", new.error, CONDUCTOR)
        | _times(old, new)
        for old, new in changes
        if new.state in _UNSUCCESSFUL and new.state != old.state
    ]
    if rows:
        connection.execute(_INSERT, rows)


def _times(old: ProcessingRecord, new: ProcessingRecord) -> dict[str, float | None]:
    """Return when the attempt that has failed was requested and started; nothing of what waited."""
    if old.state not in AT_PROVIDER:
        return {"requested": None, "started": None}
    started = old.started if new.started is None else new.started
    return {"requested": old.requested, "started": started}


def record_superseded(
    connection: sa.Connection,
    changes: Iterable[tuple[ProcessingRecord, ProcessingRecord]],
    now: float,
) -> None:
    """Record which processings news of their inputs has ended, or let come to their end."""
    rows = [
        _row(new, now, "cancelled", new.error, CONDUCTOR)
        if new.state.ended
        else _row(new, now, f"attempt {new.attempt} is the last: superseded", None, CONDUCTOR)
        for _, new in changes
    ]
    if rows:
        connection.execute(_INSERT, rows)


def record_withdrawn(connection: sa.Connection, record: ProcessingRecord, now: float) -> None:
    """Record that what a processing has made was withdrawn."""
    connection.execute(_INSERT, _row(record, now, "failed", record.error, CONDUCTOR))


def record_order(
    connection: sa.Connection,
    records: Iterable[ProcessingRecord],
    now: float,
    what: str,
    reason: str | None,
    by: Operator,
) -> None:
    """Record what an operator has ordered for processings, in the transaction that does it."""
    rows = [_row(each, now, what, reason, by.label) for each in records]
    if rows:
        connection.execute(_INSERT, rows)


def record_graph_changes(
    connection: sa.Connection,
    changes: Iterable[tuple[ProcessingRecord, ProcessingRecord]],
    now: float,
) -> None:
    """Record which processings a graph that was put in force has set aside, or continues."""
    rows = []
    for old, new in changes:
        if new.set_aside is not None and old.set_aside is None:
            rows.append(_row(new, now, "set aside", new.error, CONDUCTOR))
        elif new.set_aside is None and old.set_aside is not None:
            version = f"version {new.graph_version} of the graph makes it"
            rows.append(_row(new, now, "continued", version, CONDUCTOR))
    if rows:
        connection.execute(_INSERT, rows)


def record_stop(
    connection: sa.Connection, stop: Stop, now: float, what: str, reason: str | None
) -> None:
    """Record what came of telling a provider to stop a processing."""
    connection.execute(_INSERT, _row(stop, now, what, reason, CONDUCTOR))


def read_history(connection: sa.Connection, obs_id: str) -> Sequence[Row]:
    """Return what happened to the processings of an observation, the earliest first."""
    query = sa.select(table).where(table.c.obs_id == obs_id).order_by(table.c.number)
    return connection.execute(query).all()


def _row(
    record: ProcessingRecord | Stop, now: float, what: str, reason: str | None, by: str
) -> dict[str, object]:
    return {
        "obs_id": record.obs_id,
        "processing_id": record.id,
        "at": now,
        "attempt": record.attempt,
        "what": what,
        "reason": reason,
        "by": by,
    }
