"""Choosing the processings to request, or to poll, now, inside a transaction."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from batuta.conductor.database.graphs.settling import SettlingStore
from batuta.conductor.database.holds.held_work import read_due, read_holds
from batuta.conductor.database.records import Row, record_of_columns, write_changes
from batuta.conductor.database.requests.circuit_store import CircuitStore
from batuta.conductor.database.requests.slots import Capacity, Slots, Turns
from batuta.conductor.database.statements import AT_INSTANCE, PENDING_AT, TO_POLL, TO_POLL_BUT
from batuta.conductor.decisions.holds import Hold
from batuta.conductor.decisions.processing_record import Conditions, ProcessingRecord
from batuta.conductor.decisions.requests import Poll, poll, request
from batuta.work_classes import WorkClass

ConditionsOf = Callable[[ProcessingRecord, float], Conditions]
"""The conditions under which a processing is looked at, at a time."""


@dataclass(frozen=True, slots=True)
class DueRequest:
    """A processing whose request is recorded, and is to be sent now.

    `request_id` is what it is sent under; None for the id of the processing. `inputs` are the
    versions that it was claimed from, as JSON, and `graph_version` the graph's in force. `instance`
    is the address that it is sent to; None for the only one that its provider has. `stage`
    is the rank of that of what it makes; None if none is told.
    """

    processing_id: str
    product: str
    obs_id: str
    provider: str
    attempt: int
    remake: bool = False
    request_id: str | None = None
    inputs: str = "{}"
    graph_version: str | None = None
    instance: str | None = None
    stage: int | None = None


def take_due_requests(
    connection: sa.Connection,
    settling: SettlingStore,
    conditions_of: ConditionsOf,
    capacity: Capacity,
    now: float,
    turns: Turns,
    circuits: CircuitStore,
) -> list[DueRequest]:
    """Record as requested the processings that are due, the most urgent first.

    Those that an earlier version of the graph has claimed are settled first, and those that a later
    claim has overtaken are cancelled. The classes that wait
    for one provider have their shares of its slots; within a class, the highest priority goes
    first. An instance that fails is sent one as a trial, at its time.
    """
    if capacity.total <= 0:
        return []
    _lock_slots(connection)
    slots = Slots(connection, settling.graph, capacity, circuits, now)
    rows = _find_due(connection, slots, capacity, now)
    found = [record_of_columns(row) for row in rows]
    while settling.settle_due(connection, found, now) or settling.supersede_due(
        connection, found, now
    ):
        rows = _find_due(connection, slots, capacity, now)
        found = [record_of_columns(row) for row in rows]
    inputs = {row.id: row.claimed_inputs for row in rows}
    # Each is read in this order; of several providers, they are in that of the providers.
    found.sort(key=lambda each: -each.priority)
    placed = slots.take(_one_of_each(found), capacity.total, turns)
    changes = [
        (each.record, request(each.record, conditions_of(each.record, now), each.instance))
        for each in placed
    ]
    write_changes(connection, changes)
    for each in placed:
        if each.trial is not None:
            key = (each.record.provider, each.trial)
            circuits.begin_trial(connection, key, each.record.id)
    digest = settling.graph.digest
    return [_due_request(after, inputs[after.id], digest) for _, after in changes]


def _one_of_each(due: Sequence[ProcessingRecord]) -> list[ProcessingRecord]:
    """Return the first of each product and observation: the others follow once it has ended.

    Requested together, the one from older inputs might be archived last.
    """
    first: dict[tuple[str, str], ProcessingRecord] = {}
    for each in due:
        first.setdefault((each.obs_id, each.product), each)
    return list(first.values())


def _find_due(connection: sa.Connection, slots: Slots, capacity: Capacity, now: float) -> list[Row]:
    found: list[Row] = []
    holds: list[Hold] | None = None
    for name, provider, has_holds in connection.execute(PENDING_AT).all():
        if holds is None:
            holds = read_holds(connection) if has_holds else []
        work_class = WorkClass(name)
        # In a long queue, more are due than can be taken: no more are read, and nothing of a
        # provider that is full.
        free = min(slots.free(provider, work_class), capacity.total)
        if free > 0:
            wanted = {"work_class": name, "provider": provider, "now": now, "at_most": free}
            found += read_due(connection, wanted, holds)
    return found


def _due_request(after: ProcessingRecord, inputs: str, graph_version: str) -> DueRequest:
    return DueRequest(
        processing_id=after.id,
        product=after.product,
        obs_id=after.obs_id,
        provider=after.provider,
        attempt=after.attempt,
        remake=after.remake,
        request_id=after.pipeline_id,
        inputs=inputs,
        graph_version=graph_version,
        instance=after.instance,
        stage=after.stage,
    )


def take_due_polls(
    connection: sa.Connection,
    conditions_of: ConditionsOf,
    capacity: Capacity,
    now: float,
    circuits: CircuitStore,
) -> list[Poll]:
    """Record as polled the processings whose pipelines are to be asked, the longest due first.

    Rows that another conductor is about to poll, or that an event is about to change, are locked
    and are passed over; so are those at instances that are left alone, but for trials.
    """
    trials = _begin_trial_polls(connection, circuits, now)
    blocked = circuits.not_polled(now)
    trial_ids = circuits.trials() if blocked else []
    slots: dict[str, int] = {}
    full: set[str] = set()
    polls = _taken(connection, trials, conditions_of, now)
    while capacity.total > len(polls):
        wanted: dict[str, Any] = {"now": now, "at_most": capacity.total - len(polls)}
        statement = TO_POLL
        if blocked or full:
            statement = TO_POLL_BUT
            wanted |= {"full": list(full), "blocked": blocked, "trials": trial_ids}
        rows = connection.execute(statement, wanted).all()
        chosen = [
            row
            for row in rows
            if _take_slot(slots, _place_of(row), capacity.of_provider(_place_of(row)))
        ]
        polls += _taken(connection, chosen, conditions_of, now)
        if len(chosen) == len(rows):
            break
        # The rows of an instance that answers slowly must not hide those of the others.
        full |= {_place_of(row) for row in rows if slots[_place_of(row)] <= 0}
    return polls


def _place_of(row: Row) -> str:
    return str(row.instance or row.provider)


def _taken(
    connection: sa.Connection, rows: Sequence[Row], conditions_of: ConditionsOf, now: float
) -> list[Poll]:
    """Record rows as polled."""
    records = [record_of_columns(row) for row in rows]
    chosen = [poll(record, conditions_of(record, now)) for record in records]
    write_changes(connection, [(each.record, after) for each, after in chosen])
    return [each for each, _ in chosen]


def _begin_trial_polls(connection: sa.Connection, circuits: CircuitStore, now: float) -> list[Row]:
    """Begin a trial by a poll at each instance that no request is sent to as one."""
    found: list[Row] = []
    for circuit in circuits.to_try_by_poll(now):
        wanted = {
            "provider": circuit.provider,
            "places": circuits.places_of(circuit.key),
            "at_most": 1,
        }
        rows = connection.execute(AT_INSTANCE, wanted).all()
        for row in rows:
            circuits.begin_trial(connection, circuit.key, row.id)
        found += rows
    return found


def _lock_slots(connection: sa.Connection) -> None:
    """Let no other conductor take slots until the transaction ends.

    Two that count the processings of a provider at once would both find the same slot free.
    SQLite has one writer at a time: nothing to do.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(sa.text("SELECT pg_advisory_xact_lock(1618033988)"))


def _take_slot(slots: dict[str, int], provider: str, capacity: int) -> bool:
    """Take one slot at `provider`, and return whether one was free."""
    slots[provider] = _free(slots, provider, capacity) - 1
    return slots[provider] >= 0


def _free(slots: Mapping[str, int], provider: str, capacity: int) -> int:
    return min(slots.get(provider, capacity), capacity)
