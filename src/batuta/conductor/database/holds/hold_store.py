"""Placing and releasing holds; each method is one transaction.

A hold is recorded first, and is in force from then on; then what waits is marked as held, in small
transactions that others can come between. It is released in the same way: that is recorded, then
what it keeps back is let go, a few at a time. So neither a hold nor a release of a hundred thousand
processings keeps an alert waiting, and one that a kill has interrupted goes on.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import sqlalchemy as sa

from batuta.conductor.database.holds.held_work import hold_again, hold_of, open_holds, read_holds
from batuta.conductor.database.orders import record_command
from batuta.conductor.database.records import record_of, write_changes
from batuta.conductor.database.schema import HELD, PENDING, holds
from batuta.conductor.database.schema import processings as table
from batuta.conductor.decisions.holds import (
    SCOPE_NAMES,
    Hold,
    Scope,
    let_go,
    pause_of,
    release,
    standing,
)
from batuta.conductor.decisions.processing_record import ProcessingRecord
from batuta.errors import BatutaError
from batuta.messaging.processings import instant_of
from batuta.service.database import reading
from batuta.service.operators import UNNAMED, Operator
from batuta.work_classes import WorkClass

MAX_AT_ONCE: Final = 200
"""Processings that are held, or let go, in one transaction."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What an operator wants held; `begins` is None for now."""

    scope: Scope
    by: Operator = UNNAMED
    reason: str | None = None
    begins: float | None = None


class HoldStore:
    """The holds, and what they keep back.

    Parameters
    ----------
    engine : sa.Engine
        The conductor's database.
    clock : callable
        Returns the time, in seconds since 1970.
    """

    def __init__(self, engine: sa.Engine, clock: Callable[[], float]) -> None:
        self._engine = engine
        self._clock = clock

    def now(self) -> float:
        """Return the time by the conductor's clock, in seconds since 1970."""
        return self._clock()

    def open_holds(self) -> list[Hold]:
        """Return the holds that have not ended, the earliest first."""
        with reading(self._engine) as connection:
            return open_holds(connection)

    def find(self, number: int) -> Hold | None:
        """Return one hold, ended or not; None if there is none of that number."""
        with reading(self._engine) as connection:
            row = connection.execute(_one(number)).one_or_none()
        return None if row is None else hold_of(row)

    def place(self, wanted: Wanted) -> Hold:
        """Record a hold, which is in force from its time on; return it, or the equal one there is.

        What waits already is marked by `mark`.
        """
        now = self._clock()
        begins = now if wanted.begins is None else wanted.begins
        with self._engine.begin() as connection:
            hold = Hold(
                number=0,
                scope=wanted.scope,
                begins=begins,
                placed=now,
                by=wanted.by.label,
                reason=wanted.reason,
            )
            found = standing(read_holds(connection), hold)
            if found is not None:
                return found
            about = {
                **_about(wanted.scope),
                **({} if wanted.begins is None else {"from": instant_of(begins).isoformat()}),
            }
            record_command(connection, wanted.by, now, "hold", about, wanted.reason)
            return _insert(connection, hold)

    def release(
        self, number: int, by: Operator, rate: str | None = None, reason: str | None = None
    ) -> Hold | None:
        """Record that a hold is released; None if there is none that has not ended.

        What it keeps back is let go by `let_go`.

        Raises
        ------
        PauseError
            If it is the pause of a campaign.
        """
        with self._engine.begin() as connection:
            before = next((each for each in _locked(connection) if each.number == number), None)
            if before is None:
                return None
            if before.pause:
                raise PauseError(before)
            now = self._clock()
            after = release(before, now, by.label, rate, reason)
            about = {"hold": number, **_about(before.scope), **({"rate": rate} if rate else {})}
            record_command(connection, by, now, "release", about, reason)
            _write(connection, after)
            return after

    def unmarked(self, hold: Hold) -> list[str]:
        """Return the ids of what waits and is covered by a hold that has begun just now."""
        query = sa.select(table.c.id).where(sa.text(PENDING), *_matching(hold.scope))
        with reading(self._engine) as connection:
            return list(connection.scalars(query))

    def mark(self, ids: Collection[str]) -> None:
        """Mark as held those of processings that wait and are covered by holds in force."""
        with self._engine.begin() as connection:
            hold_again(connection, ids, self._clock())

    def set_applied(self, number: int) -> None:
        """Record that all that waited when a hold began is marked."""
        with self._engine.begin() as connection:
            connection.execute(
                sa.update(holds).where(holds.c.number == number).values(applied=True)
            )

    def let_go(self, number: int) -> float | None:
        """Let go what a released hold may at this time; return when more may; None after the last.

        Of several conductors of one database, one does it at a time.
        """
        now = self._clock()
        with self._engine.begin() as connection:
            open_holds = _locked(connection)
            hold = next((each for each in open_holds if each.number == number), None)
            if hold is None or hold.released is None:
                return None
            first = _first_held(connection, number)
            step = let_go(hold, first, open_holds, now)
            write_changes(connection, step.changes)
            values: dict[str, float] = {"next_at": step.next_at}
            if len(step.changes) == len(first) and not _keeps(connection, number):
                values = {"ended": now}
            connection.execute(sa.update(holds).where(holds.c.number == number).values(values))
            return None if "ended" in values else step.next_at


class PauseError(BatutaError):
    """A pause cannot be released as holds are: its campaign is resumed, or cancelled."""

    def __init__(self, pause: Hold) -> None:
        super().__init__(f"{pause.name}: {pause.remedy} ends it")


def place_pause(
    connection: sa.Connection, campaign: int, by: Operator, reason: str | None, now: float
) -> None:
    """Keep back what a campaign has waiting, in the transaction that pauses it."""
    _insert(connection, pause_of(campaign, by.label, reason, now))


def end_pause(connection: sa.Connection, campaign: int, by: Operator, now: float) -> None:
    """Release what the pause of a campaign keeps back, in the transaction that resumes it."""
    query = sa.select(holds).where(
        holds.c.ended.is_(None),
        holds.c.released.is_(None),
        holds.c.pause,
        holds.c.campaign == campaign,
    )
    for row in connection.execute(query.with_for_update()):
        _write(connection, release(hold_of(row), now, by.label))


def _insert(connection: sa.Connection, hold: Hold) -> Hold:
    added = sa.insert(holds).values(_values(hold)).returning(holds.c.number)
    return replace(hold, number=connection.execute(added).scalar_one())


def _write(connection: sa.Connection, hold: Hold) -> None:
    connection.execute(sa.update(holds).where(holds.c.number == hold.number).values(_values(hold)))


def _locked(connection: sa.Connection) -> list[Hold]:
    """Read the holds that have not ended, locked in one order: one may become that of the other."""
    query = sa.select(holds).where(holds.c.ended.is_(None)).order_by(holds.c.number)
    return [hold_of(row) for row in connection.execute(query.with_for_update())]


def _about(scope: Scope) -> dict[str, str | int]:
    """Return what a hold is of, by the names that its command has."""
    return {"class" if name == "work_class" else name: value for name, value in scope.given.items()}


def _one(number: int) -> sa.Select[Any]:
    return sa.select(holds).where(holds.c.number == number)


def _values(hold: Hold) -> dict[str, Any]:
    own = {name: getattr(hold, name) for name in _OWN}
    return {**own, **{name: getattr(hold.scope, name) for name in SCOPE_NAMES}}


_OWN: Final = [
    column.name for column in holds.c if column.name not in SCOPE_NAMES and not column.primary_key
]


def _matching(scope: Scope) -> list[sa.ColumnElement[bool]]:
    return [table.c[name] == value for name, value in scope.given.items()]


def _first_held(connection: sa.Connection, number: int) -> Sequence[ProcessingRecord]:
    """Read the first that a hold keeps back, the most urgent at the front, locked."""
    found: list[ProcessingRecord] = []
    for work_class in WorkClass:
        if len(found) == MAX_AT_ONCE:
            break
        query = (
            sa.select(table)
            .where(
                sa.text(f"conductor_processings.{HELD}"),
                table.c.held_by == number,
                table.c.work_class == work_class,
            )
            .order_by(table.c.priority.desc(), table.c.created)
            .limit(MAX_AT_ONCE - len(found))
            # Another transaction may have one of these and wait for the hold, which is locked.
            .with_for_update(skip_locked=True)
        )
        found += [record_of(row) for row in connection.execute(query)]
    return found


def _keeps(connection: sa.Connection, number: int) -> bool:
    """Return whether a hold keeps anything back, locked by others or not."""
    held = sa.select(table.c.id).where(sa.text(HELD), table.c.held_by == number).limit(1)
    return connection.scalar(held) is not None
