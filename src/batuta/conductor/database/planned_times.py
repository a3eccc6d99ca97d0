"""Times that are planned, brought back where a clock that was ahead has planned them.

A clock that is wrong for a moment, by hours, would otherwise delay what it planned meanwhile by as
much. No time is planned for later than the longest wait of its kind; what is, was planned so.
"""

from collections.abc import Callable, Iterator
from typing import Any, Final

import sqlalchemy as sa

from batuta.conductor.database.current_graph import CurrentGraph, ReadsGraph
from batuta.conductor.database.schema import (
    ACTIVE,
    NOT_EXPIRED,
    NOT_LATE,
    PENDING,
    circuits,
    deadlines,
    stops,
)
from batuta.conductor.database.schema import processings as table
from batuta.conductor.decisions.circuits import MAX_FULL_WAIT_S, CircuitLimits
from batuta.conductor.decisions.processing_record import AHEAD_S, MAX_POLL_WAIT_S, WaitConfig
from batuta.conductor.decisions.stops import UNANSWERED_S
from batuta.graph import Graph
from batuta.messaging import ProcessingState as State
from batuta.service.database import reading

_TOGETHER: Final = 500
"""Rows that are brought back in one transaction, at most."""


class PlannedTimes(ReadsGraph):
    """The planned times of all tables.

    Parameters
    ----------
    engine : sa.Engine
        The conductor's database.
    graph : Graph or CurrentGraph
        The product graph, or what holds the one in force: it says how long products are waited for.
    waits : WaitConfig
        How long to wait before a retry and before a poll.
    limits : CircuitLimits
        How long an address of a provider is left alone.
    clock : callable
        Returns the time, in seconds since 1970.
    """

    def __init__(
        self,
        engine: sa.Engine,
        graph: Graph | CurrentGraph,
        waits: WaitConfig,
        limits: CircuitLimits,
        clock: Callable[[], float],
    ) -> None:
        super().__init__(graph)
        self._engine = engine
        self._retry_s = waits.retry_wait_max_s
        self._busy_s = max(MAX_FULL_WAIT_S, limits.max_wait_s)
        self._poll_s = max(self._busy_s, MAX_POLL_WAIT_S, waits.ask_after_s)
        self._stop_s = max(waits.retry_wait_max_s, UNANSWERED_S)
        self._clock = clock

    def any_ahead(self) -> bool:
        """Return whether anything is planned for later than it may be."""
        with reading(self._engine) as connection:
            return any(
                connection.execute(sa.select(sa.literal(1)).where(each.ahead).limit(1)).first()
                for each in self._kinds(self._clock())
            )

    def bring_back(self) -> int:
        """Bring back what is planned for later than it may be; return how many that were."""
        return sum(map(self._move, self._kinds(self._clock())))

    def _kinds(self, now: float) -> Iterator["_Kind"]:
        yield self._requests(now)
        yield _Kind(table.c.ask_at, sa.text(ACTIVE), now, self._poll_s, now)
        for column, longest_s in (
            (circuits.c.retry_at, self._busy_s),
            (circuits.c.full_until, self._busy_s),
            (circuits.c.quiet_until, self._busy_s),
            (stops.c.next_at, self._stop_s),
        ):
            yield _Kind(column, sa.true(), now, longest_s, now)
        for name in sorted(self._graph.with_deadlines):
            product = self._graph.products[name]
            for column, rows, wait_s in (
                (deadlines.c.due, NOT_LATE, product.due_s),
                (deadlines.c.expires, NOT_EXPIRED, product.expires_s),
            ):
                if wait_s is not None:
                    its = sa.and_(sa.text(rows), deadlines.c.product == name)
                    yield _Kind(column, its, now, wait_s, now + wait_s)

    def _requests(self, now: float) -> "_Kind":
        """Return what waits for its request.

        What failed waits before its retry, or for a provider, and may be requested now; a claim
        waits for its optional inputs, as long again as it would from now.
        """
        waited_s = {each.name: each.o_wait_s for each in self._graph.products.values()}
        waited_s = {name: wait_s for name, wait_s in waited_s.items() if wait_s > 0}
        for_inputs_s: Any = (
            sa.case(waited_s, value=table.c.product, else_=0.0) if waited_s else sa.literal(0.0)
        )
        is_claim = sa.and_(table.c.state == State.WAITING, table.c.error.is_(None))
        longest_s = sa.case(
            (is_claim, for_inputs_s),
            (table.c.state == State.RETRYING, self._retry_s),
            else_=self._busy_s,
        )
        to = now + sa.case((is_claim, for_inputs_s), else_=0.0)
        return _Kind(table.c.not_before, sa.text(PENDING), now, longest_s, to)

    def _move(self, kind: "_Kind") -> int:
        """Bring back a kind, some rows in each transaction; return how many."""
        moved = 0
        of = kind.column.table
        key = tuple(of.primary_key.columns)
        while True:
            with self._engine.begin() as connection:
                # What another transaction has locked is left for the next time: two that lock the
                # same rows one after the other would wait for each other.
                chosen = sa.select(*key).where(kind.ahead).limit(_TOGETHER)
                rows = connection.execute(chosen.with_for_update(skip_locked=True)).all()
                if rows:
                    its = sa.tuple_(*key).in_([tuple(row) for row in rows])
                    connection.execute(sa.update(of).where(its).values({kind.column.name: kind.to}))
            moved += len(rows)
            if len(rows) < _TOGETHER:
                return moved


class _Kind:
    """Rows that have a planned time, which of these are ahead, and the time in its place.

    Parameters
    ----------
    column : sa.Column
        The planned time.
    rows : expression
        Which rows have it.
    now : float
        The time.
    longest_s : expression or float
        How far ahead it may be.
    to : expression or float
        The time in place of one that is further ahead.
    """

    def __init__(
        self,
        column: "sa.Column[Any]",
        rows: sa.ColumnElement[bool] | sa.TextClause,
        now: float,
        longest_s: Any,
        to: Any,
    ) -> None:
        self.column = column
        self.to = to
        # The first comparison is one that an index can answer.
        self.ahead = sa.and_(rows, column > now + AHEAD_S, column > now + AHEAD_S + longest_s)
