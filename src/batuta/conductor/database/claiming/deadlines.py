"""Deadlines of products: recorded as inputs arrive, found again when they have passed."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

import sqlalchemy as sa

from batuta.conductor.database.current_graph import ReadsGraph
from batuta.conductor.database.incidents import record_missed
from batuta.conductor.database.records import MAX_IN, Row, locked_rows, record_of, write_changes
from batuta.conductor.database.schema import NOT_EXPIRED, NOT_LATE, deadlines
from batuta.conductor.database.schema import processings as table
from batuta.conductor.decisions.deadlines import deadlines_for, expire
from batuta.conductor.decisions.reports import Incident
from batuta.conductor.decisions.rules import Arrival, Claim
from batuta.messaging import ProcessingState as State
from batuta.service.database import insert

BATCH: Final = 500
"""Deadlines that one transaction looks after: decisions wait for no more."""


@dataclass(frozen=True, slots=True)
class PassedDeadlines:
    """What a look at the clock has changed.

    Attributes
    ----------
    late : list of Row
        The deadlines that have passed, each told once.
    cancelled : list of Row
        The processings that were cancelled because their products have expired.
    more : bool
        Whether others have passed as well: to be looked after next.
    """

    late: list[Row]
    cancelled: list[Row]
    more: bool


class DeadlineStore(ReadsGraph):
    """Deadlines in the database; every method works in the transaction of its caller.

    A graph without deadlines costs no statement.
    """

    def record(
        self,
        connection: sa.Connection,
        arrivals: Sequence[Arrival],
        available: Mapping[str, Mapping[str, int]],
        now: float,
    ) -> None:
        """Set the deadlines of what inputs lead to, and remove those of what has arrived."""
        if not self._graph.with_deadlines:
            return
        made = {
            (each.obs_id, each.product)
            for each in arrivals
            if each.product in self._graph.with_deadlines
        }
        if made:
            connection.execute(_SETTLE, [{"of": obs_id, "made": name} for obs_id, name in made])
        rows = [
            {"obs_id": each.obs_id, "product": each.product, "due": each.due, "at": each.expires}
            for each in deadlines_for(self._graph, arrivals, available, now)
        ]
        if rows:
            connection.execute(_set_deadline(connection.dialect.name), rows)

    def without_expired(
        self, connection: sa.Connection, claims: Sequence[Claim], now: float
    ) -> list[Claim]:
        """Return the claims whose products are worth making `now`."""
        of = {each.obs_id for each in claims if each.product.expires_s is not None}
        if not of:
            return list(claims)
        gone = self._expired(connection, of, now)
        return [each for each in claims if (each.obs_id, each.product.name) not in gone]

    def _expired(
        self, connection: sa.Connection, observations: Collection[str], now: float
    ) -> set[tuple[str, str]]:
        names = sorted(observations)
        found: set[tuple[str, str]] = set()
        for start in range(0, len(names), MAX_IN):
            some = {"observations": names[start : start + MAX_IN], "now": now}
            found.update((row.obs_id, row.product) for row in connection.execute(_EXPIRED_OF, some))
        return found

    def pass_due(self, connection: sa.Connection, now: float) -> PassedDeadlines:
        """Record as late, or as expired, what is so `now`."""
        late = connection.execute(_LATE, {"now": now}).all()
        if late:
            connection.execute(_TELL_LATE, [{**_key(row), "now": now} for row in late])
            record_missed(connection, late, now, Incident.LATE)
        expired = connection.execute(_EXPIRED, {"now": now}).all()
        cancelled = self._cancel(connection, expired, now)
        if expired:
            connection.execute(_EXPIRE, [{**_key(row), "now": now} for row in expired])
            record_missed(connection, expired, now, Incident.EXPIRED)
        return PassedDeadlines(
            late=list(late),
            cancelled=cancelled,
            more=BATCH in {len(late), len(expired)},
        )

    def _cancel(self, connection: sa.Connection, expired: Iterable[Row], now: float) -> list[Row]:
        ids: list[str] = []
        for row in expired:
            if row.product in self._graph.products:
                ids += connection.scalars(_UNSENT, _key(row))
        changes = []
        for row in locked_rows(connection, ids).values():
            before = record_of(row)
            after = expire(before, self._graph.products[row.product], now)
            if after is not None:
                changes.append((before, after))
        write_changes(connection, changes)
        return list(locked_rows(connection, [after.id for _, after in changes]).values())


def drop_deadlines(
    connection: sa.Connection, changed: Collection[str], gone: Collection[str]
) -> None:
    """Forget the deadlines that another graph gave, before those of the new one are set.

    Parameters
    ----------
    changed : collection of str
        Products that have other deadlines now: what has passed stays told.
    gone : collection of str
        Products that have none.
    """
    if gone:
        connection.execute(sa.delete(deadlines).where(deadlines.c.product.in_(gone)))
    if changed:
        connection.execute(
            sa.delete(deadlines).where(
                deadlines.c.product.in_(changed),
                deadlines.c.late_since.is_(None),
                deadlines.c.expired.is_(None),
            )
        )


def _key(row: Row) -> dict[str, Any]:
    return {"of": row.obs_id, "made": row.product}


_THIS: Final = (
    deadlines.c.obs_id == sa.bindparam("of"),
    deadlines.c.product == sa.bindparam("made"),
)
_now: Final[sa.BindParameter[float]] = sa.bindparam("now")

_SETTLE: Final = sa.delete(deadlines).where(*_THIS)


def _passed(rows: str, time: "sa.Column[float]") -> sa.Select[Any]:
    """Return the statement that selects those of `rows` whose `time` has passed."""
    return (
        sa.select(deadlines)
        .where(sa.text(rows), time <= _now)
        .order_by(time)
        .limit(BATCH)
        .with_for_update(skip_locked=True)
    )


_LATE: Final = _passed(NOT_LATE, deadlines.c.due)
_EXPIRED: Final = _passed(NOT_EXPIRED, deadlines.c.expires)
_TELL_LATE: Final = sa.update(deadlines).where(*_THIS).values(late_since=_now)
_EXPIRE: Final = sa.update(deadlines).where(*_THIS).values(expired=_now)
_EXPIRED_OF: Final = sa.select(deadlines.c.obs_id, deadlines.c.product).where(
    deadlines.c.obs_id.in_(sa.bindparam("observations", expanding=True)),
    deadlines.c.expires <= _now,
)
_UNSENT: Final = sa.select(table.c.id).where(
    table.c.obs_id == sa.bindparam("of"),
    table.c.product == sa.bindparam("made"),
    table.c.state.in_([State.UNAPPROVED, State.WAITING, State.RETRYING, State.HELD]),
)


@cache
def _set_deadline(dialect: str) -> Any:
    """Return the statement that sets a deadline; of two, the earlier one stands."""
    values = {
        "obs_id": sa.bindparam("obs_id"),
        "product": sa.bindparam("product"),
        "due": sa.bindparam("due", type_=sa.Float),
        "expires": sa.bindparam("at", type_=sa.Float),
    }
    statement = insert(dialect, deadlines).values(values)
    new = statement.excluded
    return statement.on_conflict_do_update(
        index_elements=["obs_id", "product"],
        set_={
            name: sa.case(
                (deadlines.c[name].is_(None), new[name]),
                (new[name] < deadlines.c[name], new[name]),
                else_=deadlines.c[name],
            )
            for name in ("due", "expires")
        },
        # What has passed has been told.
        where=sa.and_(deadlines.c.late_since.is_(None), deadlines.c.expired.is_(None)),
    )
