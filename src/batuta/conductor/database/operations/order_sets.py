"""Orders for sets of processings: recorded, counted before, carried out a batch at a time."""

import json
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Final

import sqlalchemy as sa

from batuta.conductor.database.claiming.claims import ClaimStore
from batuta.conductor.database.current_graph import CurrentGraph, ReadsGraph
from batuta.conductor.database.graphs.dropped_products import refused_of, set_problem
from batuta.conductor.database.lists import Filter, list_processings
from batuta.conductor.database.operations.orders_executed import OrderExecution
from batuta.conductor.database.orders import order_values
from batuta.conductor.database.records import Row
from batuta.conductor.database.schema import UNDER_WAY, processings
from batuta.conductor.database.schema import orders as table
from batuta.conductor.database.summaries import read_counts
from batuta.conductor.decisions.commands import NO_OTHER_URGENCY, Urgency
from batuta.conductor.decisions.order_sets import STATES, Ordered, SetCommand, looks_again
from batuta.conductor.decisions.processing_record import AT_PROVIDER, ProcessingRecord
from batuta.messaging import ProcessingState as State
from batuta.service.database import reading
from batuta.service.listing import Key
from batuta.service.operators import UNNAMED, Operator
from batuta.work_classes import WorkClass

BATCH: Final = 200
"""Processings that one transaction changes: decisions wait for no more."""
PAGE: Final = 1000
SHOWN: Final = 20
"""Processings that a preview shows."""
MAX_PROBLEM_LENGTH: Final = 1000
NOTHING_COUNTED: Final[Mapping[str, int]] = MappingProxyType({})


@dataclass(frozen=True, kw_only=True)
class SetFilters:
    """What selects a set: values, or patterns, by the names of columns; the states; the times.

    Attributes
    ----------
    columns : mapping
        Of ``product``, ``obs_id``, ``provider``, ``work_class``, ``stage``, ``error_kind`` and
        ``campaign``.
    states : sequence of State
        Of these only.
    since, until : float or None
        When they were claimed, in seconds since 1970; `until` is excluded.
    """

    columns: Mapping[str, Filter]
    states: Sequence[State]
    since: float | None = None
    until: float | None = None

    def as_json(self) -> dict[str, Any]:
        """Return it as it is recorded."""
        times = {"since": self.since, "until": self.until}
        given = {name: value for name, value in times.items() if value is not None}
        return {**self.columns, "state": [*self.states], **given}

    @classmethod
    def of(cls, recorded: Mapping[str, Any]) -> "SetFilters":
        """Return what was recorded."""
        columns = {name: value for name, value in recorded.items() if name != "to"}
        states = [State(each) for each in columns.pop("state")]
        since, until = columns.pop("since", None), columns.pop("until", None)
        return cls(columns=columns, states=states, since=since, until=until)


@dataclass(frozen=True, kw_only=True)
class SetOrder:
    """A command that an operator gives for a set: by whom, why; `urgency` is what it gives."""

    command: SetCommand
    filters: SetFilters
    by: Operator = UNNAMED
    reason: str | None = None
    urgency: Urgency = NO_OTHER_URGENCY


def ordered_of(order: Row, by: Operator) -> Ordered:
    """Return a recorded order, as decisions see it."""
    to = json.loads(order.about).get("to", {})
    work_class = None if "class" not in to else WorkClass(to["class"])
    return Ordered(
        command=SetCommand(order.command),
        at=order.at,
        by=by.label,
        reason=order.reason,
        urgency=Urgency(work_class=work_class, priority=to.get("priority")),
        may_be_repeated=True,
    )


@dataclass(frozen=True, kw_only=True)
class Selected:
    """What a set has, counted by state and by product; the first `SHOWN` of it."""

    total: int
    by_state: Mapping[str, int]
    by_product: Mapping[str, int]
    first: Sequence[Row]


@dataclass(frozen=True, kw_only=True)
class Position:
    """How far an order has come: which state is looked through, after which key."""

    state: int = 0
    after: tuple[float, str] | None = None
    changed: int = 0
    """In this look through all states."""

    def encoded(self) -> str:
        """Return it as it is recorded."""
        return json.dumps([self.state, self.after, self.changed])

    @classmethod
    def of(cls, text: str | None) -> "Position":
        """Return what was recorded."""
        if text is None:
            return cls()
        state, after, changed = json.loads(text)
        return cls(state=state, after=None if after is None else tuple(after), changed=changed)


class OrderSets(ReadsGraph):
    """Records orders for sets, and carries them out; made by the `Ledger`."""

    def __init__(
        self,
        engine: sa.Engine,
        graph: CurrentGraph,
        claims: ClaimStore,
        clock: Callable[[], float],
    ) -> None:
        super().__init__(graph)
        self._engine = engine
        self._execution = OrderExecution(graph, claims)
        self._clock = clock

    def now(self) -> float:
        """Return the time, in seconds since 1970, by the clock that orders are dated with."""
        return self._clock()

    def select(self, filters: SetFilters) -> Selected:
        """Count what filters select; changes nothing, and holds up nobody."""
        by_state: Counter[str] = Counter()
        by_product: Counter[str] = Counter()
        first: list[str] = []
        for state in filters.states:
            for row in self._all(filters, state):
                by_state[state.value] += 1
                by_product[row.product] += 1
                if len(first) < SHOWN:
                    first.append(row.id)
        query = sa.select(processings).where(processings.c.id.in_(first))
        with reading(self._engine) as connection:
            found = {row.id: row for row in connection.execute(query)}
        return Selected(
            total=by_state.total(),
            by_state=by_state,
            by_product=by_product,
            first=[found[each] for each in first if each in found],
        )

    def refused(self, command: SetCommand, found: Selected) -> int:
        """Return how many of a set are not changed, since the graph in force does not make them."""
        if command is not SetCommand.RETRY:
            return 0
        return sum(refused_of(self._current, found.by_product).values())

    def _all(self, filters: SetFilters, state: State) -> Iterator[Row]:
        after: Key | None = None
        while True:
            rows, after = self._page(filters, state, after, PAGE)
            yield from rows
            if after is None:
                return

    def _page(
        self, filters: SetFilters, state: State, after: Key | None, limit: int
    ) -> tuple[Sequence[Row], Key | None]:
        # A transaction for each page: what waits for the end of readers is not kept waiting.
        with reading(self._engine) as connection:
            given = {**filters.columns, "state": state.value}
            counts = read_counts(connection)
            listing = list_processings(given, counts, filters.since, filters.until)
            # Rows whole take ten times as long to read, and a set may have a hundred thousand.
            brief = replace(listing, query=sa.select(*listing.key, processings.c.product))
            return brief.page(connection, limit, after)

    def begin(
        self, given: SetOrder, total: int, by_product: Mapping[str, int] = NOTHING_COUNTED
    ) -> int:
        """Record an order; return its number. It is about what is claimed by now.

        `total` is how many it selects, `by_product` counts them: those that the graph in force does
        not make are not retried.
        """
        now = self._clock()
        about = given.filters.as_json()
        if given.urgency.given:
            about["to"] = given.urgency.given
        values = order_values(given.by, now, given.command.value, about, given.reason)
        retries = given.command is SetCommand.RETRY
        with self._engine.begin() as connection:
            problem = set_problem(connection, self._current, by_product) if retries else None
            values |= {"problem": problem and problem[:MAX_PROBLEM_LENGTH]}
            statement = sa.insert(table).values({**values, "selected": total})
            return int(connection.scalar(statement.returning(table.c.number)) or 0)

    def under_way(self) -> Row | None:
        """Return the oldest order that has not ended; None if all have."""
        query = sa.select(table).where(sa.text(UNDER_WAY)).order_by(table.c.number).limit(1)
        with reading(self._engine) as connection:
            return connection.execute(query).one_or_none()

    def next_batch(self, order: Row) -> tuple[list[str], Position | None]:
        """Return the processings to look at next, and how far the order has come with them.

        The position is None after the last.
        """
        filters = SetFilters.of(json.loads(order.about))
        # What is claimed later is not meant.
        latest = math.nextafter(order.at, math.inf)
        until = latest if filters.until is None else min(latest, filters.until)
        filters = SetFilters(
            columns=filters.columns, states=filters.states, since=filters.since, until=until
        )
        position = Position.of(order.position)
        while position.state < len(filters.states):
            state = filters.states[position.state]
            rows, after = self._page(filters, state, position.after, BATCH)
            if after is None:
                position = Position(state=position.state + 1, changed=position.changed)
            else:
                position = Position(
                    state=position.state, after=(after[0], after[1]), changed=position.changed
                )
            if rows:
                return [row.id for row in rows], position
        if looks_again(SetCommand(order.command), position.changed):
            return [], Position()
        return [], None

    def carry_out(
        self, order: Row, ids: Sequence[str], position: Position | None
    ) -> list[ProcessingRecord]:
        """Change a batch, and record how far the order has come, in one transaction.

        Parameters
        ----------
        order : row
            The order as it was when the batch was chosen.
        ids : sequence of str
            The batch.
        position : Position or None
            How far the order has come with it; None after the last.

        Returns
        -------
        list of ProcessingRecord
            Those that were cancelled at their providers, as they were: these are to be told next.
        """
        now = self._clock()
        with self._engine.begin() as connection:
            # Of two conductors that share the work and choose the same batch, the second changes
            # nothing, and does not take the order back to where its own batch ended.
            lock = sa.select(table).where(table.c.number == order.number).with_for_update()
            now_stored = connection.execute(lock).one()
            if now_stored.ended is not None or now_stored.position != order.position:
                return []
            order = now_stored
            by = Operator(order.operator, order.proved)
            ordered = ordered_of(order, by)
            changes = self._execution.carry_out(connection, ordered, by, ids, now)
            values: dict[str, Any] = {"changed": order.changed + len(changes)}
            if position is None:
                values |= {"ended": now}
            else:
                far = Position(
                    state=position.state,
                    after=position.after,
                    changed=position.changed + len(changes),
                )
                values |= {"position": far.encoded()}
            connection.execute(
                sa.update(table).where(table.c.number == order.number).values(values)
            )
        return [before for before in changes if before.state in AT_PROVIDER]

    def record_problem(self, number: int, problem: str) -> None:
        """Record that a provider could not be told."""
        with self._engine.begin() as connection:
            connection.execute(
                sa.update(table)
                .where(table.c.number == number, table.c.problem.is_(None))
                .values(problem=problem[:MAX_PROBLEM_LENGTH])
            )


def states_of(command: SetCommand, wanted: Sequence[State]) -> list[State]:
    """Return the states that a command is carried out for, in order; all of them by default."""
    return [each for each in STATES[command] if not wanted or each in wanted]
