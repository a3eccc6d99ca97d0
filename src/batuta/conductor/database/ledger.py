"""The conductor's database: what is available, and every processing, from claim to end.

Each method is one transaction, and what it returns has been committed: only then is a message
acknowledged or a request sent. Killed before the commit, a conductor receives the message again;
killed after it, the row is there, and due.

What an event changes is decided in `batuta.conductor.decisions.transitions`; the ledger records it.
"""

import secrets
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Final

import sqlalchemy as sa

from batuta.clock import now_s
from batuta.conductor.database.approvals.approval_answers import Approvals
from batuta.conductor.database.approvals.awaiting_versions import ApprovalStore
from batuta.conductor.database.attribution import attribute
from batuta.conductor.database.claiming.deadlines import DeadlineStore, PassedDeadlines
from batuta.conductor.database.claiming.earlier_inputs import restore_inputs
from batuta.conductor.database.claiming.stale_marks import any_untold, take_untold
from batuta.conductor.database.current_graph import CurrentGraph, ReadsGraph
from batuta.conductor.database.event_records import record_events, record_outcome
from batuta.conductor.database.graphs.graph_versions import mark_settled, mark_settled_to
from batuta.conductor.database.graphs.settling import SettlingStore
from batuta.conductor.database.history import record_failures
from batuta.conductor.database.holds.held_work import hold_again
from batuta.conductor.database.holds.hold_store import HoldStore
from batuta.conductor.database.operations.operator_actions import Operations
from batuta.conductor.database.operations.order_sets import OrderSets
from batuta.conductor.database.orders import CommandLog, record_command
from batuta.conductor.database.planned_times import PlannedTimes
from batuta.conductor.database.records import (
    Row,
    locked_records,
    locked_rows,
    record_of,
    write_changes,
)
from batuta.conductor.database.requests.circuit_store import CircuitStore, InstancesOf
from batuta.conductor.database.requests.due_requests import (
    DueRequest,
    take_due_polls,
    take_due_requests,
)
from batuta.conductor.database.requests.lost_instances import InstanceStore
from batuta.conductor.database.requests.slots import Capacity, Turns
from batuta.conductor.database.retention.dropped import DroppedStore
from batuta.conductor.database.retention.dropping import RetentionStore
from batuta.conductor.database.schema import about
from batuta.conductor.database.schema import processings as table
from batuta.conductor.database.statements import NEXT_TIMES, NEXT_TIMES_BUT
from batuta.conductor.database.stops import StopStore
from batuta.conductor.decisions.approvals import Question, asks_anew
from batuta.conductor.decisions.circuits import (
    Circuit,
    CircuitLimits,
    Signal,
    may_tell_failure,
    outcome_of,
)
from batuta.conductor.decisions.events import Archived, Event
from batuta.conductor.decisions.outcomes import Decided, HeardEvent, withdrawal_of
from batuta.conductor.decisions.processing_record import (
    REPORTED,
    Conditions,
    ProcessingRecord,
    WaitConfig,
)
from batuta.conductor.decisions.requests import Poll
from batuta.conductor.decisions.rules import Arrival, inherit_classes, inherit_stages
from batuta.conductor.decisions.staleness import RefusedVersion, tell_makers
from batuta.conductor.decisions.transitions import transition
from batuta.graph import Graph, LateResult
from batuta.messaging import ProcessingState as State
from batuta.service.database import insert, reading
from batuta.service.operators import UNNAMED, Operator
from batuta.service.retention import RetentionRules
from batuta.work_classes import WorkClass

Report = Row | Question | Circuit
"""What others are told: a processing that has ended, what is asked of a person, or a circuit that
was opened or closed."""


DEFAULT_LIMITS: Final = CircuitLimits()


@dataclass(frozen=True, slots=True)
class Round:
    """What `Ledger.advance` has recorded.

    Attributes
    ----------
    ended : list of Report
        The processings that now retry, or have ended, and what else is told; of those that have
        succeeded, only the ones of campaigns.
    requests, polls : list of DueRequest, list of Poll
        What is to be sent now.
    due_at : float or None
        When the next request or poll is due, in seconds since 1970; None if nothing waits for a
        time.
    """

    ended: list[Report]
    requests: list[DueRequest]
    polls: list[Poll]
    due_at: float | None


class Ledger(ReadsGraph):
    """The conductor's database.

    Parameters
    ----------
    engine : sa.Engine
        Open, with the latest schema.
    graph : Graph or CurrentGraph
        The product graph, or what holds the one in force.
    waits : WaitConfig
        How long to wait before a retry and before a poll.
    clock : callable
        Returns the time, in seconds since 1970; tests pass their own.
    limits : CircuitLimits
        When a provider that keeps failing is left alone.
    instances_of : callable, optional
        Returns the addresses of a provider; those of the graph by default.

    Attributes
    ----------
    circuits : CircuitStore
        Which addresses of providers are left alone.
    operations : Operations
        What an operator may do: make, retry, cancel.
    holds : HoldStore
        What operators hold back.
    commands : CommandLog
        Operators' commands that take longer than a transaction.
    order_sets : OrderSets
        Orders for whole sets of processings.
    approvals : Approvals
        What an operator may answer: approve, refuse.
    stops : StopStore
        What providers are still to be told to stop.
    planned_times : PlannedTimes
        When all that waits is due.
    reports_activity : callable
        Whether a provider reports on ``activity.*``: then it is polled later.
    """

    def __init__(
        self,
        engine: sa.Engine,
        graph: Graph | CurrentGraph,
        waits: WaitConfig,
        clock: Callable[[], float] = now_s,
        limits: CircuitLimits = DEFAULT_LIMITS,
        instances_of: InstancesOf | None = None,
    ) -> None:
        super().__init__(graph)
        self._engine = engine
        self._waits = waits
        self._clock = clock
        self._claims = SettlingStore(self._current)
        self._deadlines = DeadlineStore(self._current)
        self._dropped = DroppedStore(self._current)
        self._turns: Turns = {}
        self.holds = HoldStore(engine, clock)
        self._approvals = ApprovalStore(self._current)
        self.circuits = CircuitStore(instances_of or self._addresses, limits)
        self._instances = InstanceStore(self._current, self.circuits)
        self._refused: list[RefusedVersion] = []
        self.operations = Operations(engine, self._current, self._claims, clock)
        self.commands = CommandLog(engine, clock)
        self.order_sets = OrderSets(engine, self._current, self._claims, clock)
        self.approvals = Approvals(engine, self._current, self._claims, clock)
        self.stops = StopStore(engine, waits, clock)
        self.planned_times = PlannedTimes(engine, self._current, waits, limits, clock)
        self.reports_activity: Callable[[str], bool] = lambda _provider: False

    # ------------------------------------------------------------------ what is available

    def identity(self) -> str:
        """Return the name of this database: the same for all conductors that share it."""
        return self._random_text("identity", uuid.uuid4().hex)

    def callback_secret(self) -> str:
        """Return what the addresses of callbacks are made with; drawn once for this database."""
        return self._random_text("callback secret", secrets.token_hex(32))

    def _random_text(self, key: str, drawn: str) -> str:
        with self._engine.begin() as connection:
            connection.execute(
                insert(connection, about).values(key=key, value=drawn).on_conflict_do_nothing()
            )
            return str(_about(connection, key))

    @property
    def rebuilt(self) -> bool:
        """Whether `rebuild` has recorded what the sdb held when this database was new."""
        with reading(self._engine) as connection:
            return _about(connection, "rebuilt") is not None

    def rebuild(self, arrivals: Iterable[Arrival]) -> None:
        """Record all that the sdb holds, without claiming anything from it.

        What can be made from it is claimed as the ``data`` stream is received again.
        """
        for batch in _batches(arrivals, 1000):
            # Each committed by itself: observations are locked until then. What a kill leaves
            # half done is done again, and recorded again as it is.
            with self._engine.begin() as connection:
                self._claims.lock_observations(connection, {each.obs_id for each in batch})
                # What people had approved was lost too, and is asked again.
                admitted, *_ = self._approvals.admit(connection, batch, (), self._clock())
                self._claims.record_available(connection, admitted, self._clock())
        with self._engine.begin() as connection:
            connection.execute(
                # Another conductor of the same database may have rebuilt it meanwhile.
                insert(connection, about)
                .values(key="rebuilt", value="yes")
                .on_conflict_do_nothing()
            )

    def on_data(
        self,
        arrivals: Sequence[Arrival],
        made: Sequence[Archived],
        capacity: Capacity,
        heard: Sequence[HeardEvent] = (),
        answers: Sequence[Event] = (),
    ) -> tuple[list[DueRequest], list[Report]]:
        """Record arrivals and claim what can be made of them.

        Parameters
        ----------
        arrivals : sequence of Arrival
            What is available now.
        made : sequence of Archived
            The processings that made some of them.
        capacity : Capacity
            How many requests may be sent.
        heard : sequence of HeardEvent
            The events that told it, and others that tell nothing: what became of each is recorded.
        answers : sequence of Event
            What the pipelines answered about the processings of `made` before these ended.

        Returns
        -------
        list of DueRequest
            The requests that are due now.
        list of Report
            As in `Round.ended`, and what is asked of a person now.
        """
        with self._deciding(answers) as (connection, now):
            self._claims.lock_observations(connection, {arrival.obs_id for arrival in arrivals})
            arrivals = self._dropped.admit(connection, arrivals, made)
            ended, made_by = self._apply(connection, [*answers, *made], now)
            refused: list[RefusedVersion] = []
            if made_by:
                restore_inputs(connection, made, made_by)
                arrivals = inherit_classes(arrivals, made_by)
                arrivals = inherit_stages(arrivals, made, made_by)
                arrivals, refused = tell_makers(arrivals, made, made_by)
            arrivals, kept, asked = self._approvals.admit(connection, arrivals, made, now)
            self._claims.record_available(connection, arrivals, now)
            waited = self._unapproved(connection, {each.obs_id for each in arrivals})
            decided = self._claims.claim(connection, arrivals, now)
            decided = replace(decided, asked=tuple(kept))
            record_events(connection, self._graph, _without_refused(heard, refused), decided)
            ended += locked_rows(connection, decided.superseded).values()
            asked += self._to_approve(connection, decided, waited)
            requests = self._take_due(connection, capacity, now)
        self._refused += refused
        return requests, [*ended, *asked]

    def _to_approve(
        self, connection: sa.Connection, decided: Decided, waited: Mapping[str, Question]
    ) -> list[Question]:
        """Return what is asked before it is made, of what was claimed or refreshed, and was not.

        `waited` is what had been asked by then.
        """
        observations = {obs_id for obs_id, _ in decided.claims}
        asked = self._unapproved(connection, observations)
        return [
            each
            for id_, each in asked.items()
            if (each.obs_id, each.product) in decided.claims and asks_anew(waited.get(id_), each)
        ]

    def _unapproved(
        self, connection: sa.Connection, observations: Collection[str]
    ) -> Mapping[str, Question]:
        """Return what of observations waits for approval before it is made, by processing."""
        before = self._graph.approved_before
        instances = {(obs_id, name) for obs_id in observations for name in before}
        return self._approvals.unapproved(connection, instances) if instances else {}

    def take_refused(self) -> list[RefusedVersion]:
        """Return the versions that were refused since the last call: to be withdrawn in the sdb."""
        refused, self._refused = self._refused, []
        return refused

    def take_stale(self) -> list[Row]:
        """Return what has become stale and was not told yet, as told from now on."""
        with reading(self._engine) as connection:
            if not any_untold(connection):
                return []
        with self._engine.begin() as connection:
            return take_untold(connection, self._clock())

    def on_withdrawn(self, heard: Sequence[HeardEvent]) -> None:
        """Record what became of events that withdraw versions, which has been done by now."""
        with self._engine.begin() as connection:
            for each in heard:
                record_outcome(connection, each, withdrawal_of(each))

    # ------------------------------------------------------------------ requests

    def take_due(self, capacity: Capacity) -> list[DueRequest]:
        """Record as requested the processings that are due, as many as `capacity` allows."""
        with self._deciding() as (connection, now):
            return self._take_due(connection, capacity, now)

    def advance(
        self,
        events: Sequence[Event],
        capacity: Capacity,
        poll_capacity: Capacity,
        signals: Sequence[Signal] = (),
    ) -> "Round":
        """Record what events change, and what is to be sent now: one commit for all of it.

        A processing is not to be polled again before its next time has come, answer or not.
        `signals` are what was found out about the instances of providers.
        """
        with self._deciding(events, signals) as (connection, now):
            # Before the events: what a request that was not answered costs depends on them.
            self.circuits.record(connection, signals, now)
            self.circuits.end_stray_trials(connection, now)
            events = [*events, *self._instances.lose(connection, now)]
            # What has ended leaves room for what is due.
            ended = self._apply(connection, events, now)[0] if events else []
            requests = self._take_due(connection, capacity, now)
            polls = take_due_polls(connection, self._conditions, poll_capacity, now, self.circuits)
            # What is due already, and was not taken, waits for capacity, and not for a time.
            times = [*self._next_times(connection, now), self._instances.due_at(now)]
        due_at = min((each for each in times if each is not None), default=None)
        return Round([*ended, *self.circuits.news()], requests, polls, due_at)

    def _next_times(self, connection: sa.Connection, now: float) -> Sequence[float | None]:
        busy = self.circuits.not_asked(now)
        if busy:
            return connection.execute(NEXT_TIMES_BUT, {"since": now, "busy": busy}).one()
        return connection.execute(NEXT_TIMES, {"since": now}).one()

    @contextmanager
    def _deciding(
        self, events: Sequence[Event] = (), signals: Sequence[Signal] = ()
    ) -> Iterator[tuple[sa.Connection, float]]:
        """Open a transaction in which is decided what is sent; the time is that of all of it.

        `events` and `signals` are what it is decided from.
        """
        now = self._clock()
        with self._engine.begin() as connection:
            self.circuits.refresh(connection, now)
            if signals or self.circuits.known or any(map(may_tell_failure, events)):
                self.circuits.lock(connection)
            yield connection, now
        self.circuits.settle()

    def _take_due(
        self, connection: sa.Connection, capacity: Capacity, now: float
    ) -> list[DueRequest]:
        return take_due_requests(
            connection,
            self._claims,
            self._conditions,
            capacity,
            now,
            self._turns,
            self.circuits,
        )

    # ------------------------------------------------------------------ another graph

    def settle(self, number: int, after: str, work_class: WorkClass | None) -> str | None:
        """Settle the observations after one by version `number` of the graph, a page of them.

        Returns the last of them; None if there are no more, or that version is not in force.
        """
        now = self._clock()
        with self._engine.begin() as connection:
            if self._current.number != number:
                return None
            last = self._claims.settle_page(connection, after, now, work_class)
            if last is None:
                mark_settled(connection, number, now)
            else:
                mark_settled_to(connection, number, last)
        return last

    # ------------------------------------------------------------------ following

    def apply(self, events: Sequence[Event]) -> list[Row]:
        """Record what events change; return what is reported of it: see `Round.ended`."""
        if not events:
            return []
        with self._deciding(events) as (connection, now):
            return self._apply(connection, events, now)[0]

    def unsettled(self, processing_ids: Collection[str]) -> list[ProcessingRecord]:
        """Return those of the processings that are known and have not succeeded."""
        with reading(self._engine) as connection:
            rows = connection.execute(sa.select(table).where(table.c.id.in_(processing_ids))).all()
        return [record_of(row) for row in rows if row.state != State.SUCCEEDED]

    def pass_deadlines(self) -> PassedDeadlines:
        """Record which products are late by now, and cancel what has expired."""
        now = self._clock()
        with self._engine.begin() as connection:
            passed = self._deadlines.pass_due(connection, now)
            self._claims.end_futile_waits(connection, passed.cancelled, now)
        return passed

    def close_circuits(self, provider: str, by: Operator = UNNAMED) -> list[Circuit]:
        """Close the circuits of a provider, as an operator orders; return those that were open."""
        with self._deciding() as (connection, now):
            closed = self.circuits.close(connection, provider)
            record_command(connection, by, now, "providers --close", {"provider": provider})
            return closed

    def retention(self, rules: RetentionRules) -> RetentionStore:
        """Return what drops the records of finished observations by `rules`."""
        return RetentionStore(self._engine, self._claims, rules, self._clock)

    def _apply(
        self, connection: sa.Connection, events: Sequence[Event], now: float
    ) -> tuple[list[Row], Collection[ProcessingRecord]]:
        """Record what events change; return what is reported of it, and all concerned."""
        before = locked_records(connection, {event.processing_id for event in events})
        unnamed = [
            event
            for event in events
            if isinstance(event, Archived) and event.processing_id not in before
        ]
        if unnamed:
            attributed = list(attribute(connection, unnamed))
            before |= locked_records(connection, {event.processing_id for event in attributed})
            events = [*events, *attributed]
        after, outcomes = self._transitions(connection, before, events, now)
        self.circuits.record(connection, outcomes, now)
        changes = [(before[processing_id], record) for processing_id, record in after.items()]
        write_changes(connection, changes)
        record_failures(connection, changes, now)
        hold_again(connection, [new.id for _, new in changes if new.state in _AGAIN], now)
        reported = [new.id for old, new in changes if _is_reported(old, new)]
        reported_rows = list(locked_rows(connection, reported).values())
        self._claims.end_futile_waits(connection, reported_rows, now)
        return reported_rows, before.values()

    def _transitions(
        self,
        connection: sa.Connection,
        before: dict[str, ProcessingRecord],
        events: Sequence[Event],
        now: float,
    ) -> tuple[dict[str, ProcessingRecord], list[Signal]]:
        """Apply events in their order; return the records that they change, and what they tell."""
        after: dict[str, ProcessingRecord] = {}
        outcomes: list[Signal] = []
        recognises = cache(partial(self._instances.recognises, connection))
        for event in events:
            record = after.get(event.processing_id, before.get(event.processing_id))
            # Events of processings that another conductor's database has are not ours.
            if record is None:
                continue
            conditions = self._conditions(record, now)
            if record.product in self._graph.asking:
                adopts = self._graph.products[record.product].late_result is LateResult.ADOPT
                conditions = replace(conditions, adopts=adopts)
            if conditions.circuit_open:
                conditions = replace(conditions, recognises=recognises(record.provider))
            changed = transition(record, event, conditions)
            if changed is not None:
                after[event.processing_id] = changed
                outcome = outcome_of(self.circuits.key_of(record), event, record, changed)
                outcomes += [] if outcome is None else [outcome]
        return after, outcomes

    def _conditions(self, record: ProcessingRecord, now: float) -> Conditions:
        reports = self._reports(record.provider)
        circuit = self.circuits.circuit(self.circuits.key_of(record))
        if circuit is None:
            return Conditions(now=now, waits=self._waits, reports_activity=reports)
        return Conditions(
            now=now,
            waits=self._waits,
            reports_activity=reports,
            circuit_open=circuit.open,
            asked_at=self.circuits.asked_at(record.provider, now),
        )

    def _addresses(self, provider: str) -> Sequence[str]:
        known = self._graph.providers.get(provider)
        return () if known is None else known.urls

    def _reports(self, provider: str) -> bool:
        known = self._graph.providers.get(provider)
        return self.reports_activity(provider) or (known is not None and known.callback)


_AGAIN: Final = frozenset({State.WAITING, State.RETRYING})
"""What is at a provider enters these to be requested again."""


def _is_reported(old: ProcessingRecord, new: ProcessingRecord) -> bool:
    """Return whether others are told what a processing has become.

    A success was told by whoever made it: only the campaign that it is of looks at it besides.
    """
    if new.state not in REPORTED or new.state == old.state:
        return False
    return new.state is not State.SUCCEEDED or new.campaign is not None


def _without_refused(
    heard: Sequence[HeardEvent], refused: Sequence[RefusedVersion]
) -> Sequence[HeardEvent]:
    """Return events, those that announce what is refused with the reason."""
    if not refused:
        return heard
    reasons = {(each.product, each.obs_id, each.version): each.reason for each in refused}
    return [
        replace(
            each, problem=each.problem or reasons.get((each.product, each.obs_id, each.version))
        )
        if each.product is not None and each.obs_id is not None
        else each
        for each in heard
    ]


def _about(connection: sa.Connection, key: str) -> str | None:
    value: str | None = connection.scalar(sa.select(about.c.value).where(about.c.key == key))
    return value


def _batches(items: Iterable[Arrival], size: int) -> Iterable[list[Arrival]]:
    batch: list[Arrival] = []
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    yield batch
