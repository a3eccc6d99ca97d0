"""Choosing the processings to request, or to poll, now, inside a transaction."""

import sys
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

import sqlalchemy as sa

from batuta.conductor.database.records import record_of, write_changes
from batuta.conductor.database.statements import AT_PROVIDERS, DUE, TO_POLL
from batuta.conductor.decisions.processing_record import Conditions
from batuta.conductor.decisions.requests import Poll, poll, request
from batuta.graph import Graph

ConditionsOf = Callable[[str, float], Conditions]
"""The conditions at a provider, at a time."""


@dataclass(frozen=True, slots=True)
class DueRequest:
    """A processing whose request is recorded, and is to be sent now.

    `request_id` is what it is sent under; None for the id of the processing.
    """

    processing_id: str
    product: str
    obs_id: str
    provider: str
    attempt: int
    remake: bool = False
    request_id: str | None = None


def _unlimited(_provider: str) -> int:
    return sys.maxsize


@dataclass(frozen=True, kw_only=True)
class Capacity:
    """How many requests may be sent now.

    Attributes
    ----------
    total : int
        To all providers together.
    of_provider : callable
        To the provider of that name, at most.
    busy : collection of str
        Providers that are to be sent none.
    """

    total: int
    of_provider: Callable[[str], int] = _unlimited
    busy: Collection[str] = ()


def take_due_requests(
    connection: sa.Connection,
    graph: Graph,
    conditions_of: ConditionsOf,
    capacity: Capacity,
    now: float,
) -> list[DueRequest]:
    """Record as requested the processings that are due, the highest priority first."""
    if capacity.total <= 0:
        return []
    _lock_slots(connection)
    slots = _free_slots(connection, graph)
    for name in graph.providers:
        slots[name] = _free(slots, name, capacity.of_provider(name))
    closed = {*capacity.busy, *(name for name, free in slots.items() if free <= 0)}
    requests: list[DueRequest] = []
    while capacity.total > len(requests):
        # In a long queue, more are due than can be taken: no more are read.
        free = sum(number for name, number in slots.items() if name not in closed)
        at_most = min(capacity.total - len(requests), max(free, 1))
        rows = connection.execute(DUE, {"now": now, "closed": list(closed), "at_most": at_most})
        due = [record_of(row) for row in rows]
        chosen = [
            each
            for each in due
            if _take_slot(slots, each.provider, capacity.of_provider(each.provider))
        ]
        changes = [
            (record, request(record, conditions_of(record.provider, now))) for record in chosen
        ]
        write_changes(connection, changes)
        requests += [
            DueRequest(
                processing_id=after.id,
                product=after.product,
                obs_id=after.obs_id,
                provider=after.provider,
                attempt=after.attempt,
                remake=after.remake,
                request_id=after.pipeline_id,
            )
            for _, after in changes
        ]
        if len(chosen) == len(due):
            break
        # The rows of a provider without free slots must not hide what others can do: read again
        # without them.
        closed |= {each.provider for each in due if slots[each.provider] <= 0}
    return requests


def take_due_polls(
    connection: sa.Connection, conditions_of: ConditionsOf, capacity: Capacity, now: float
) -> list[Poll]:
    """Record as polled the processings whose pipelines are to be asked, the longest due first.

    Rows that another conductor is about to poll, or that an event is about to change, are locked
    and are passed over.
    """
    slots: dict[str, int] = {}
    full: set[str] = set()
    polls: list[Poll] = []
    while capacity.total > len(polls):
        wanted = {"now": now, "full": list(full), "at_most": capacity.total - len(polls)}
        rows = connection.execute(TO_POLL, wanted).all()
        chosen = [
            poll(record_of(row), conditions_of(row.provider, now))
            for row in rows
            if _take_slot(slots, row.provider, capacity.of_provider(row.provider))
        ]
        write_changes(connection, [(each.record, after) for each, after in chosen])
        polls += [each for each, _ in chosen]
        if len(chosen) == len(rows):
            break
        # The rows of a provider that answers slowly must not hide those of the others.
        full |= {row.provider for row in rows if slots[row.provider] <= 0}
    return polls


def _lock_slots(connection: sa.Connection) -> None:
    """Let no other conductor take slots until the transaction ends.

    Two that count the processings of a provider at once would both find the same slot free.
    SQLite has one writer at a time: nothing to do.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(sa.text("SELECT pg_advisory_xact_lock(1618033988)"))


def _free_slots(connection: sa.Connection, graph: Graph) -> dict[str, int]:
    """Count the free slots of each provider with ``max_concurrent``."""
    limits = {
        provider.name: provider.max_concurrent
        for provider in graph.providers.values()
        if provider.max_concurrent is not None
    }
    if not limits:
        return {}
    counts = connection.execute(AT_PROVIDERS, {"providers": list(limits)}).all()
    active = {row[0]: row[1] for row in counts}
    return {name: limit - active.get(name, 0) for name, limit in limits.items()}


def _take_slot(slots: dict[str, int], provider: str, capacity: int) -> bool:
    """Take one slot at `provider`, and return whether one was free."""
    slots[provider] = _free(slots, provider, capacity) - 1
    return slots[provider] >= 0


def _free(slots: Mapping[str, int], provider: str, capacity: int) -> int:
    return min(slots.get(provider, capacity), capacity)
