"""What operators have ordered: who, when, what and why, kept for as long as the database."""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from pydantic import BaseModel
from pydantic_core import from_json, to_json

from batuta.clock import now_s
from batuta.conductor.database.records import Row
from batuta.conductor.database.schema import orders as table
from batuta.messaging.processings import instant_of
from batuta.service.database import reading
from batuta.service.listing import Listing, equals_unindexed
from batuta.service.operators import Operator
from batuta.service.pagination import Page


class OrderView(BaseModel):
    """A command that an operator has given.

    `by` names the operator for people; `proved` tells whether a token of that name came with it.
    `about` is what it was given for: a product and an observation, a provider, or the filters that
    select a set. Of a set, `selected` is how many processings it selected at first, `changed` how
    many have been changed by now, `ended` is null while it goes on, and `problem` tells which
    providers could not be told, or how many were refused and why.
    """

    number: int
    time: datetime
    command: str
    about: dict[str, Any]
    by: str
    operator: str | None
    proved: bool
    reason: str | None
    selected: int
    changed: int
    problem: str | None
    ended: datetime | None


def record_command(
    connection: sa.Connection,
    by: Operator,
    now: float,
    command: str,
    about: Mapping[str, Any],
    reason: str | None = None,
) -> int:
    """Record a command in the transaction that carries it out; return its number.

    Parameters
    ----------
    command : str
        The word that gives it on the command line, such as ``cancel``.
    about : mapping
        What it is given for, as JSON.
    """
    values = order_values(by, now, command, about, reason) | {"changed": 1, "ended": now}
    return int(connection.scalar(sa.insert(table).values(values).returning(table.c.number)) or 0)


class CommandLog:
    """Records commands that take longer than a transaction: first that, then what they change.

    One that is interrupted is not continued: its record tells how far it came.

    Parameters
    ----------
    engine : sa.Engine
        The conductor's database.
    clock : callable
        Returns the time, in seconds since 1970.
    """

    def __init__(self, engine: sa.Engine, clock: Callable[[], float] = now_s) -> None:
        self._engine = engine
        self._clock = clock

    def begin(self, by: Operator, command: str, about: Mapping[str, Any]) -> int:
        """Record a command before it is carried out; return its number."""
        now = self._clock()
        values = {**order_values(by, now, command, about, None), "selected": 0, "ended": now}
        with self._engine.begin() as connection:
            added = sa.insert(table).values(values).returning(table.c.number)
            return int(connection.scalar(added) or 0)

    def add(self, number: int, changed: int) -> None:
        """Record that a command has changed so many more."""
        more = {
            "selected": table.c.selected + changed,
            "changed": table.c.changed + changed,
            "ended": self._clock(),
        }
        with self._engine.begin() as connection:
            connection.execute(sa.update(table).where(table.c.number == number).values(more))


def order_values(
    by: Operator, now: float, command: str, about: Mapping[str, Any], reason: str | None
) -> dict[str, Any]:
    """Return the row of a command that has not ended."""
    return {
        "at": now,
        "operator": by.name,
        "proved": by.proved,
        "command": command,
        "about": to_json(about).decode(),
        "reason": reason,
        "selected": 1,
        "changed": 0,
    }


class OrderViews:
    """Reads what operators have ordered; never writes."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine

    def page(
        self,
        filters: Mapping[str, str | None],
        since: datetime | None,
        until: datetime | None,
        limit: int,
        cursor: int | None,
    ) -> Page[OrderView]:
        """Return a page of commands, the newest first; `until` is excluded.

        Parameters
        ----------
        filters : mapping
            Values of ``command`` and ``operator``.
        """
        checked = [
            equals_unindexed(table.c[name], value)
            for name, value in filters.items()
            if value is not None
        ]
        if since is not None:
            checked.append(table.c.at >= since.timestamp())
        if until is not None:
            checked.append(table.c.at < until.timestamp())
        listing = Listing(
            query=sa.select(table), key=[table.c.number], descending=True, checked=checked
        )
        after = None if cursor is None else (cursor,)
        with reading(self._engine) as connection:
            rows, following = listing.page(connection, limit, after)
        next_ = None if following is None else str(following[0])
        return Page(items=[order_of(row) for row in rows], next=next_)

    def find(self, number: int) -> OrderView | None:
        """Return one command; None if there is none of that number."""
        query = sa.select(table).where(table.c.number == number)
        with reading(self._engine) as connection:
            row = connection.execute(query).one_or_none()
        return None if row is None else order_of(row)


def order_of(row: Row) -> OrderView:
    """Return a row as REST shows it."""
    return OrderView(
        number=row.number,
        time=instant_of(row.at),
        command=row.command,
        about=from_json(row.about),
        by=Operator(row.operator, row.proved).label,
        operator=row.operator,
        proved=row.proved,
        reason=row.reason,
        selected=row.selected,
        changed=row.changed,
        problem=row.problem,
        ended=None if row.ended is None else instant_of(row.ended),
    )
