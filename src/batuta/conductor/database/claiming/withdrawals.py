"""Withdrawn versions: what is left counts, and what is being made from them is stopped."""

from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa

from batuta.conductor.database.claiming.claims import ClaimStore
from batuta.conductor.database.claiming.updates import UNSENT
from batuta.conductor.database.history import record_superseded, record_withdrawn
from batuta.conductor.database.records import MAX_IN, Row, locked_rows, record_of, write_changes
from batuta.conductor.database.schema import available
from batuta.conductor.database.schema import processings as table
from batuta.conductor.database.stops import record_stops
from batuta.conductor.decisions.commands import stop_withdrawn, withdraw
from batuta.conductor.decisions.differences import Difference
from batuta.conductor.decisions.processing_record import ProcessingRecord
from batuta.conductor.decisions.stops import stop_of
from batuta.messaging import ProcessingState as State
from batuta.stages import rank_of

OPEN: Final = [
    State.WAITING,
    State.HELD,
    State.RETRYING,
    State.REQUESTED,
    State.QUEUED,
    State.RUNNING,
]


@dataclass(frozen=True, slots=True)
class Stopped:
    """A processing that was stopped: as it was before, and its row as it is now."""

    before: ProcessingRecord
    row: Row


def withdraw_version(
    connection: sa.Connection, claims: ClaimStore, withdrawn: Difference, now: float
) -> list[Stopped]:
    """Stop using a version; return the processings that are stopped, to be told to their providers.

    What was made from it stays, and is marked stale. What waits to be made from it is claimed from
    the version that is left, or waits again. Its own processing has failed then: it is made again
    if a newer version of its inputs arrives, or on request.
    """
    stopped: list[Stopped] = []
    if make_unavailable(connection, withdrawn):
        delete_claims_from(connection, withdrawn, UNSENT)
        stopped = _stop(connection, claims, withdrawn, now)
        claims.after_withdrawal(
            connection, withdrawn.obs_id, left=withdrawn.archived is not None, now=now
        )
    if withdrawn.processing_id is None or withdrawn.recorded is None:
        return stopped
    for row in locked_rows(connection, [withdrawn.processing_id]).values():
        before = record_of(row)
        after = withdraw(before, withdrawn.recorded, withdrawn.reason, now)
        if after is not None and before.product == withdrawn.product:
            write_changes(connection, [(before, after)])
            record_withdrawn(connection, after, now)
            ended = locked_rows(connection, [row.id]).values()
            claims.end_futile_waits(connection, ended, now)
    return stopped


def make_unavailable(connection: sa.Connection, lost: Difference) -> bool:
    """Record the newest version that is left; return whether the lost one was recorded."""
    instance = sa.and_(available.c.obs_id == lost.obs_id, available.c.product == lost.product)
    row = sa.and_(instance, available.c.version == lost.recorded)
    if lost.archived is None:
        return bool(connection.execute(sa.delete(available).where(row)).rowcount)
    left = {
        "version": lost.archived,
        "archived": True,
        "made_by": lost.archived_by,
        "stage": None if lost.stage is None else rank_of(lost.stage),
    }
    unlike = {"content": None, "sha256": None, "updates": available.c.updates + 1}
    changed = connection.execute(sa.update(available).where(row).values(left | unlike)).rowcount
    # One whose bytes the newest version has: that is no longer used in its place.
    first = sa.and_(instance, available.c.content == lost.recorded)
    changed += connection.execute(sa.update(available).where(first).values(unlike)).rowcount
    return bool(changed)


def delete_claims_from(
    connection: sa.Connection, lost: Difference, which: sa.ColumnElement[bool]
) -> None:
    """Forget what was claimed from a lost version, or from a later one, of the rows of `which`."""
    ids = [row.id for row in _claimed_from(connection, lost, which)]
    for start in range(0, len(ids), MAX_IN):
        some = ids[start : start + MAX_IN]
        connection.execute(sa.delete(table).where(table.c.id.in_(some)))


def _claimed_from(
    connection: sa.Connection, lost: Difference, which: sa.ColumnElement[bool]
) -> list[Row]:
    last_held = -1 if lost.archived is None else lost.archived
    query: sa.Select[Any] = sa.select(table.c.id, table.c.inputs)
    rows: list[Row] = list(connection.execute(query.where(table.c.obs_id == lost.obs_id, which)))
    return [
        row
        for row in rows
        if (version := row.inputs.get(lost.product, -1)) > last_held or version == lost.recorded
    ]


def _stop(
    connection: sa.Connection, claims: ClaimStore, withdrawn: Difference, now: float
) -> list[Stopped]:
    ids = [row.id for row in _claimed_from(connection, withdrawn, table.c.state.in_(OPEN))]
    changes = []
    for row in locked_rows(connection, ids).values():
        before, version = record_of(row), row.inputs[withdrawn.product]
        after = stop_withdrawn(before, withdrawn.product, version, withdrawn.reason, now)
        if after is not None:
            changes.append((before, after))
    if not changes:
        return []
    write_changes(connection, changes)
    record_superseded(connection, changes, now)
    told = (stop_of(before, now) for before, _ in changes)
    record_stops(connection, [each for each in told if each is not None])
    rows = locked_rows(connection, ids)
    claims.end_futile_waits(connection, rows.values(), now)
    return [Stopped(before, rows[before.id]) for before, _ in changes]
