"""What providers are still to be told to stop; recorded with what stops it."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, fields
from typing import Any, Final

import sqlalchemy as sa

from batuta.conductor.database.history import record_stop
from batuta.conductor.database.records import Row
from batuta.conductor.database.schema import processings, stops
from batuta.conductor.decisions.processing_record import ProcessingRecord, WaitConfig
from batuta.conductor.decisions.stops import Stop, StopAnswer, after_answer, being_told, history_of
from batuta.messaging import ProcessingState as State
from batuta.service.database import insert, reading

TOLD_TOGETHER: Final = 50
"""Stops that one transaction looks after."""
_NAMES: Final = tuple(field.name for field in fields(Stop))


def record_stops(connection: sa.Connection, found: Sequence[Stop]) -> None:
    """Record what is to be stopped, in the transaction that stops it."""
    if not found:
        return
    statement = insert(connection, stops)
    new = {name: statement.excluded[name] for name in _NAMES if name != "id"}
    connection.execute(
        statement.on_conflict_do_update(index_elements=["id"], set_=new),
        [asdict(each) for each in found],
    )


class StopStore:
    """What is to be told, and what came of it; each method is one transaction.

    Parameters
    ----------
    engine : sa.Engine
        The conductor's database.
    waits : WaitConfig
        How long to wait before another try.
    clock : callable
        Returns the time, in seconds since 1970.
    """

    def __init__(self, engine: sa.Engine, waits: WaitConfig, clock: Callable[[], float]) -> None:
        self._engine = engine
        self._waits = waits
        self._clock = clock

    def all(self) -> list[Stop]:
        """Return what is still to be told, the oldest first."""
        with reading(self._engine) as connection:
            query = sa.select(stops).order_by(stops.c.since, stops.c.id)
            return [_stop(row) for row in connection.execute(query)]

    def record_told(self, told: Sequence[tuple[ProcessingRecord, StopAnswer]]) -> None:
        """Record what came of telling providers of what was cancelled, as it was before."""
        now = self._clock()
        answers = {(record.id, record.attempt): answer for record, answer in told}
        ids = [record.id for record, _ in told]
        with self._engine.begin() as connection:
            query = sa.select(stops).where(stops.c.id.in_(ids)).order_by(stops.c.id)
            for row in connection.execute(query.with_for_update()).all():
                # A later attempt may have been cancelled meanwhile, too.
                if (row.id, row.attempt) in answers:
                    self._record(connection, _stop(row), answers[row.id, row.attempt], now)

    def take_due(self) -> list[Stop]:
        """Return what providers are to be told now, as being told.

        What was retried since is not to be stopped any more.
        """
        now = self._clock()
        with reading(self._engine) as connection:
            if connection.execute(_DUE.limit(1), {"now": now}).first() is None:
                return []
        with self._engine.begin() as connection:
            query = _DUE.limit(TOLD_TOGETHER).with_for_update(skip_locked=True, of=stops)
            rows = connection.execute(query, {"now": now}).all()
            due = [_stop(row) for row in rows if row.stopped]
            for row in rows:
                if not row.stopped:
                    connection.execute(sa.delete(stops).where(stops.c.id == row.id))
            record_stops(connection, [being_told(each, now) for each in due])
        return due

    def record(self, stop: Stop, answer: StopAnswer) -> None:
        """Record what came of telling a provider."""
        now = self._clock()
        with self._engine.begin() as connection:
            row = connection.execute(
                sa.select(stops)
                .where(stops.c.id == stop.id, stops.c.since == stop.since)
                .with_for_update()
            ).one_or_none()
            if row is not None:
                self._record(connection, _stop(row), answer, now)

    def _record(
        self, connection: sa.Connection, stop: Stop, answer: StopAnswer, now: float
    ) -> None:
        after = after_answer(stop, answer, now, self._waits)
        what = history_of(stop, after, answer)
        if what is not None:
            record_stop(connection, stop, now, what, answer.failure)
        if after is None:
            connection.execute(sa.delete(stops).where(stops.c.id == stop.id))
        else:
            record_stops(connection, [after])


_STILL: Final = sa.and_(
    processings.c.state == State.CANCELLED, processings.c.attempt == stops.c.attempt
)
_DUE: Final[sa.Select[Any]] = (
    # Of what was dropped, nothing was retried.
    sa.select(stops, sa.or_(processings.c.id.is_(None), _STILL).label("stopped"))
    .select_from(stops.outerjoin(processings, processings.c.id == stops.c.id))
    .where(stops.c.next_at <= sa.bindparam("now"))
    .order_by(stops.c.next_at)
)


def _stop(row: Row) -> Stop:
    return Stop(**{name: getattr(row, name) for name in _NAMES})
