"""The versions of the graph in the database: the one of the highest number is in force.

A version is put in force by the one row that it adds: killed before the commit, the earlier one
is in force; killed after it, the new one is, from the next start on.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa
from pydantic import BaseModel, ConfigDict, Field

from batuta.clock import now_s
from batuta.conductor.database.claiming.deadlines import drop_deadlines
from batuta.conductor.database.current_graph import CurrentGraph, graph_of
from batuta.conductor.database.history import CONDUCTOR
from batuta.conductor.database.orders import record_command
from batuta.conductor.database.records import Row
from batuta.conductor.database.schema import about, processings
from batuta.conductor.database.schema import graph_versions as table
from batuta.conductor.decisions.graph_changes import NOT_SENT
from batuta.conductor.decisions.graph_versions import AtStart, graph_at_start
from batuta.errors import BatutaError
from batuta.graph import DueFrom, Graph, GraphError, Product
from batuta.messaging.processings import instant_of
from batuta.service.database import READ_ONLY, insert, reading
from batuta.service.operators import Operator
from batuta.service.pagination import Page
from batuta.work_classes import WorkClass

LAST_FILE: Final = "graph file"
"""In `about`: the graph that the file had when a conductor was last started."""
MAX_FORMER: Final = 100
"""Versions whose providers are still known: what they were asked for is followed to its end."""
_LOCK: Final = 1_732_050_808
"""Key of the PostgreSQL advisory lock: shared by who decides, exclusive for who changes the graph.
"""
_CHANGES_GRAPH: Final = "batuta_changes_graph"


class NotInForceError(BatutaError):
    """Another version of the graph is in force than was expected."""

    def __init__(self, expected: int, in_force: int) -> None:
        super().__init__(
            f"version {expected} of the graph is not in force: version {in_force} is by now"
        )


class GraphVersion(BaseModel):
    """A graph that was put in force, when and by whom.

    `work_class` (in JSON ``class``) is that of what it starts, None for that of its products;
    `settled` is when all that it starts was started, or a later version came.
    """

    model_config = ConfigDict(populate_by_name=True)

    number: int
    digest: str
    applied: datetime
    by: str
    note: str | None
    work_class: WorkClass | None = Field(alias="class")
    in_force: bool
    settled: datetime | None


class GraphVersionDetail(GraphVersion):
    """A version with its document, every key written out."""

    graph: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Unsettled:
    """The version in force, of which not all that it starts was started yet.

    Attributes
    ----------
    number : int
        Of the version.
    after : str
        The last observation that was looked at.
    settled : Graph or None
        The latest version that was settled; None if there is none.
    """

    number: int
    after: str
    work_class: WorkClass | None
    settled: Graph | None


@dataclass(frozen=True, slots=True)
class Applied:
    """The version in force once a graph was applied; `is_new` unless it was in force before."""

    version: GraphVersion
    is_new: bool


class GraphVersions:
    """Reads and adds versions; what adds one is one transaction.

    Parameters
    ----------
    engine : sa.Engine
        Open, with the latest schema.
    current : CurrentGraph
        Holds the graph in force; replaced here.
    clock : callable
        Returns the time, in seconds since 1970.
    """

    def __init__(
        self, engine: sa.Engine, current: CurrentGraph, clock: Callable[[], float] = now_s
    ) -> None:
        self._engine = engine
        self._clock = clock
        self.current = current

    def apply(
        self,
        graph: Graph,
        by: Operator,
        note: str | None = None,
        work_class: WorkClass | None = None,
        instead_of: int | None = None,
    ) -> Applied:
        """Put a graph in force; the one that is in force already stays the version that it is.

        To be called where the conductor writes: between two of its transactions.

        Parameters
        ----------
        work_class : WorkClass or None
            The class of what it starts; None for that of its products.
        instead_of : int or None
            The version that is expected to be in force; None for any.

        Raises
        ------
        NotInForceError
            If another one is.
        """
        with _changing(self._engine) as connection:
            number, now = int(connection.scalar(_NUMBER) or 0), self._clock()
            if instead_of is not None and instead_of != number:
                raise NotInForceError(instead_of, number)
            in_force = graph_of(_row(connection, number))
            is_new = in_force.digest != graph.digest
            if is_new:
                number += 1
                _add(connection, number, graph, now, by.label, note, work_class)
                _drop_deadlines(connection, in_force, graph)
                record_command(connection, by, now, "graph apply", {"version": number}, note)
            row = _row(connection, number)
        self.current.replace(graph, number)
        return Applied(_view(row, number), is_new=is_new)

    def latest(self) -> GraphVersion:
        """Return the version in force."""
        with reading(self._engine) as connection:
            row = connection.execute(_LATEST).one()
        return _view(row, row.number)

    def page(self, limit: int, before: int | None) -> Page[GraphVersion]:
        """Return a page of versions, the newest first, those before a number."""
        query = sa.select(table).order_by(table.c.number.desc()).limit(limit + 1)
        if before is not None:
            query = query.where(table.c.number < before)
        with reading(self._engine) as connection:
            latest = connection.scalar(_NUMBER)
            rows = connection.execute(query).all()
        items = [_view(row, latest) for row in rows[:limit]]
        return Page(items=items, next=str(items[-1].number) if len(rows) > limit else None)

    def find(self, number: int) -> GraphVersionDetail | None:
        """Return a version with its document; None if there is none of that number."""
        with reading(self._engine) as connection:
            latest = connection.scalar(_NUMBER)
            row = _row(connection, number)
        if row is None:
            return None
        view = _view(row, latest)
        return GraphVersionDetail(**view.model_dump(), graph=json.loads(row.document))

    def unsettled(self) -> Unsettled | None:
        """Return the version in force, if not all that it starts was started yet."""
        with reading(self._engine) as connection:
            latest = _latest(connection)
            if latest is None or latest.settled is not None:
                return None
            settled = connection.execute(_LAST_SETTLED).one_or_none()
        return Unsettled(
            number=latest.number,
            after=latest.settled_to or "",
            work_class=None if latest.work_class is None else WorkClass(latest.work_class),
            settled=None if settled is None else graph_of(settled),
        )


def open_current_graph(
    engine: sa.Engine, file: Graph, source: str, clock: Callable[[], float] = now_s
) -> tuple[CurrentGraph, AtStart]:
    """Return the graph in force from the start of a conductor; `source` is the name of its `file`.

    Raises
    ------
    GraphError
        If the version that is in force can no longer be read.
    """
    now = clock()
    with engine.begin() as connection:
        if engine.dialect.name == "postgresql":
            connection.execute(sa.text(f"SELECT pg_advisory_xact_lock({_LOCK})"))
        latest = _latest(connection)
        in_force = None if latest is None else graph_of(latest)
        decision = graph_at_start(file, _last_file(connection), in_force)
        number = 1 if latest is None else latest.number
        if decision is not AtStart.KEPT:
            number += decision is AtStart.REPLACED
            _add(connection, number, file, now, CONDUCTOR, f"read from {source} at the start")
        if in_force is not None and decision is AtStart.REPLACED:
            _drop_deadlines(connection, in_force, file)
        if decision is AtStart.FIRST:
            # What it makes is claimed as the stream is received; there is nothing else yet.
            mark_settled(connection, number, now)
            # Claimed before versions were recorded.
            connection.execute(_BY_THE_FIRST)
        _remember_file(connection, file)
        former = _former(connection, number)
        current = CurrentGraph(graph_of(_row(connection, number)), number, former)
    if engine.dialect.name == "postgresql":
        _follow(engine, current)
    return current, decision


def mark_settled_to(connection: sa.Connection, number: int, obs_id: str) -> None:
    """Record how far a version is settled, in the transaction that settles it."""
    connection.execute(_SETTLE_TO, {"of": number, "obs_id": obs_id})


def mark_settled(connection: sa.Connection, number: int, now: float) -> None:
    """Record that a version is settled, and with it those before."""
    connection.execute(_SETTLE, {"up_to": number, "now": now})


# ---------------------------------------------------------------------- several conductors


def _follow(engine: sa.Engine, current: CurrentGraph) -> None:
    """Let whoever decides do so by the version that is in force in the database.

    Several conductors share it, and any of them may change the graph. The shared lock lets it
    change only between their transactions; so every claim was either committed before, and is
    seen by who settles the new version, or is made by that. Any thread may replace the graph: as
    long as a transaction of another thread holds the lock, there is nothing to replace.
    """

    def check(connection: sa.Connection) -> None:
        options = connection.get_execution_options()
        if options.get(READ_ONLY):
            return
        locks = "pg_advisory_xact_lock" + ("" if options.get(_CHANGES_GRAPH) else "_shared")
        cursor = connection.connection.cursor()
        # Two statements in one message. The second sees what was committed while the first waited.
        cursor.execute(f"SELECT {locks}({_LOCK}); SELECT max(number) FROM {table.name}")  # noqa: S608
        cursor.nextset()
        (number,) = cursor.fetchone() or (None,)
        cursor.close()
        if number is not None and number != current.number:
            current.replace(graph_of(_row(connection, number)), number)

    sa.event.listen(engine, "begin", check)


@contextmanager
def _changing(engine: sa.Engine) -> Iterator[sa.Connection]:
    options = {_CHANGES_GRAPH: True}
    with engine.connect().execution_options(**options) as connection, connection.begin():
        yield connection


# ---------------------------------------------------------------------- rows

_NUMBER: Final = sa.select(sa.func.max(table.c.number))
_LATEST: Final = sa.select(table).order_by(table.c.number.desc()).limit(1)
_LAST_SETTLED: Final = _LATEST.where(table.c.settled.is_not(None))
_SETTLE: Final = (
    sa.update(table)
    .where(table.c.number <= sa.bindparam("up_to"), table.c.settled.is_(None))
    .values(settled=sa.bindparam("now"))
)
_BY_THE_FIRST: Final = (
    sa.update(processings)
    .where(processings.c.graph_version.is_(None), processings.c.state.in_(NOT_SENT))
    .values(graph_version=1)
)
_SETTLE_TO: Final = (
    sa.update(table)
    .where(table.c.number == sa.bindparam("of"))
    .values(settled_to=sa.bindparam("obs_id"))
)


def _latest(connection: sa.Connection) -> Row | None:
    return connection.execute(_LATEST).one_or_none()


def _row(connection: sa.Connection, number: int) -> Any:
    return connection.execute(sa.select(table).where(table.c.number == number)).one_or_none()


def _add(
    connection: sa.Connection,
    number: int,
    graph: Graph,
    now: float,
    by: str,
    note: str | None,
    work_class: WorkClass | None = None,
) -> None:
    row = {
        "number": number,
        "digest": graph.digest,
        "document": json.dumps(graph.as_document(), ensure_ascii=False),
        "applied": now,
        "by": by,
        "note": note,
        "work_class": work_class,
    }
    connection.execute(sa.insert(table).values(row))


def _drop_deadlines(connection: sa.Connection, old: Graph, new: Graph) -> None:
    gone = old.with_deadlines - new.with_deadlines
    changed = {
        name
        for name in old.with_deadlines & new.with_deadlines
        if _deadlines_of(old.products[name]) != _deadlines_of(new.products[name])
    }
    drop_deadlines(connection, changed, gone)


def _deadlines_of(product: Product) -> tuple[float | None, float | None, DueFrom]:
    return product.due_s, product.expires_s, product.due_from


def _former(connection: sa.Connection, number: int) -> list[Graph]:
    """Return the latest versions before one, the oldest first, that can still be read."""
    query = sa.select(table).where(table.c.number < number).order_by(table.c.number.desc())
    found = []
    for row in connection.execute(query.limit(MAX_FORMER)):
        try:
            found.append(graph_of(row))
        except GraphError:
            continue
    return found[::-1]


def _last_file(connection: sa.Connection) -> Graph | None:
    text = connection.scalar(sa.select(about.c.value).where(about.c.key == LAST_FILE))
    if text is None:
        return None
    try:
        return Graph.parse(json.loads(text), LAST_FILE)
    except GraphError:  # of an earlier Batuta, which accepted it: not what the file says now
        return None


def _remember_file(connection: sa.Connection, file: Graph) -> None:
    text = json.dumps(file.as_document(), ensure_ascii=False)
    statement = insert(connection, about).values(key=LAST_FILE, value=text)
    connection.execute(
        statement.on_conflict_do_update(index_elements=["key"], set_={"value": text})
    )


def _view(row: Row, in_force: int | None) -> GraphVersion:
    return GraphVersion(
        number=row.number,
        digest=row.digest,
        applied=instant_of(row.applied),
        by=row.by,
        note=row.note,
        work_class=row.work_class,
        in_force=row.number == in_force,
        settled=None if row.settled is None else instant_of(row.settled),
    )
