"""The circuits of providers' instances, on disk; see `batuta.conductor.decisions.circuits`."""

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import fields, replace
from operator import attrgetter
from typing import Any, Final

import sqlalchemy as sa

from batuta.conductor.database.incidents import record_circuit
from batuta.conductor.database.records import Row
from batuta.conductor.database.schema import ACTIVE, circuits
from batuta.conductor.database.schema import processings as table
from batuta.conductor.decisions.circuits import (
    Circuit,
    CircuitLimits,
    CircuitState,
    OpenedBy,
    Signal,
    after_signal,
    close_by_hand,
    may_be_asked_at,
    may_be_polled_at,
    on_trial,
    trial_without_outcome,
)
from batuta.conductor.decisions.processing_record import ProcessingRecord
from batuta.conductor.decisions.reports import incident_of
from batuta.service.database import insert

READ_AGAIN_S: Final = 1.0
"""How long what was read is used, in seconds: other conductors may share the database."""

Key = tuple[str, str]
"""Provider and instance."""

InstancesOf = Callable[[str], Sequence[str]]
"""The addresses of a provider; none if it is not known."""

_COLUMNS: Final = tuple(field.name for field in fields(Circuit))
_values: Final = attrgetter(*_COLUMNS)

READ: Final = sa.select(circuits)
LOCK: Final = (
    sa.select(circuits)
    .where(
        sa.tuple_(circuits.c.provider, circuits.c.instance).in_(
            sa.bindparam("keys", expanding=True)
        )
    )
    .with_for_update()
)
UNDER_WAY: Final = sa.select(table.c.id).where(
    table.c.id.in_(sa.bindparam("ids", expanding=True)), sa.text(ACTIVE)
)


def circuit_of(row: Row) -> Circuit:
    """Return a row as a circuit."""
    values = dict(zip(_COLUMNS, _values(row), strict=True))
    typed = {
        "state": CircuitState(row.state),
        "opened_by": None if row.opened_by is None else OpenedBy(row.opened_by),
        "unanswered": tuple(row.unanswered),
        "failed": tuple(row.failed),
    }
    return Circuit(**{**values, **typed})


class CircuitStore:
    """The circuits; those of instances of which there is nothing to say are not kept.

    What was read is kept in memory, so that as long as all is well no decision reads or writes
    any. Whatever changes one reads it again, locked, in the transaction of the change. It is used
    by one thread at a time.

    Parameters
    ----------
    instances_of : callable
        Returns the addresses of a provider.
    limits : CircuitLimits
        When circuits open.
    """

    def __init__(self, instances_of: InstancesOf, limits: CircuitLimits) -> None:
        self.instances_of = instances_of
        self.limits = limits
        self._known: dict[Key, Circuit] = {}
        self._read_at: float | None = None
        self._uncommitted = False
        self._told: dict[Key, Circuit] = {}

    @property
    def known(self) -> Collection[Circuit]:
        """Those of which there is something to say."""
        return tuple(self._known.values())

    def refresh(self, connection: sa.Connection, now: float) -> None:
        """Read what other conductors may have written, unless that was done a moment ago."""
        recent = self._read_at is not None and abs(now - self._read_at) < READ_AGAIN_S
        # What was changed in a transaction that was not committed is not so.
        if recent and not self._uncommitted:
            return
        self._known = {each.key: each for each in map(circuit_of, connection.execute(READ))}
        self._read_at = now
        self._uncommitted = False

    def lock(self, connection: sa.Connection) -> None:
        """Let no other conductor change any circuit until the transaction ends.

        To be called before processings are locked, where circuits may be changed after that: of
        two conductors, one that has changed a circuit and looks for a processing, and one that has
        locked the processing and is about to change the circuit would wait for each other.
        SQLite has one writer at a time: nothing to do.
        """
        if connection.dialect.name == "postgresql":
            connection.execute(sa.text("SELECT pg_advisory_xact_lock(1732050807)"))

    def settle(self) -> None:
        """Note that the transaction is committed."""
        self._uncommitted = False

    def news(self) -> list[Circuit]:
        """Return the circuits that were opened, taken for lost, or closed since this was called.

        What another conductor of the same database has changed is among them; and after a start,
        what is open.
        """
        now = {each.key: each for each in self.known if each.open}
        changed = [
            each
            for key, each in now.items()
            if key not in self._told or _told(self._told[key]) != _told(each)
        ]
        closed = [close_by_hand(each) for key, each in self._told.items() if key not in now]
        self._told = now
        return changed + closed

    def key_of(self, record: ProcessingRecord) -> Key:
        """Return whose circuit a processing is under."""
        return record.provider, record.instance or self.instance_of(record.provider)

    def instance_of(self, provider: str) -> str:
        """Return the first address of a provider, or an empty text."""
        return next(iter(self.instances_of(provider)), "")

    # ---------------------------------------------------------------- changes

    def record(self, connection: sa.Connection, signals: Iterable[Signal], now: float) -> None:
        """Record what signals change."""
        concerned: dict[Key, list[Signal]] = {}
        for signal in signals:
            # Of one of which there is nothing to say, only what speaks against it says anything.
            if signal.key in concerned or signal.key in self._known or not signal.good:
                concerned.setdefault(signal.key, []).append(signal)
        self._update(
            connection, concerned, lambda circuit: self._after(circuit, concerned[circuit.key], now)
        )

    def end_stray_trials(self, connection: sa.Connection, now: float) -> None:
        """Let a trial be repeated whose processing is not at its provider any more.

        It was cancelled, or was archived before it was asked about.
        """
        trials = {each.key: each.trial for each in self.known if each.trial is not None}
        if not trials:
            return
        under_way = set(connection.scalars(UNDER_WAY, {"ids": list(trials.values())}))
        stray = [key for key, trial in trials.items() if trial not in under_way]

        def end(circuit: Circuit) -> Circuit:
            if circuit.trial is None or circuit.trial != trials[circuit.key]:
                return circuit
            return trial_without_outcome(circuit, now)

        self._update(connection, stray, end)

    def begin_trial(self, connection: sa.Connection, key: Key, processing_id: str) -> None:
        """Record that a request or a poll about `processing_id` is sent as a trial."""
        self._update(connection, [key], lambda circuit: on_trial(circuit, processing_id))

    def lose(self, connection: sa.Connection, key: Key, now: float) -> None:
        """Record that an instance is lost."""
        self._update(
            connection,
            [key],
            lambda circuit: (
                replace(circuit, lost=now) if circuit.opened_by is OpenedBy.UNANSWERED else circuit
            ),
        )

    def close(self, connection: sa.Connection, provider: str) -> list[Circuit]:
        """Close the circuits of a provider by hand; return those that were not closed."""
        rows = connection.execute(READ.where(circuits.c.provider == provider)).all()
        found = [circuit_of(row) for row in rows]
        self._update(connection, [each.key for each in found], close_by_hand)
        return [each for each in found if each.state is not CircuitState.CLOSED]

    def _after(self, circuit: Circuit, signals: Iterable[Signal], now: float) -> Circuit:
        for signal in signals:
            circuit = after_signal(circuit, signal, self.limits, now)
        return circuit

    def _update(
        self,
        connection: sa.Connection,
        keys: Iterable[Key],
        change: Callable[[Circuit], Circuit],
    ) -> None:
        # In one order, so that two conductors do not wait for each other.
        wanted = sorted(keys)
        if not wanted:
            return
        rows = connection.execute(LOCK, {"keys": wanted}).all()
        recorded = {each.key: each for each in map(circuit_of, rows)}
        for key in wanted:
            before = recorded.get(key) or _new(key)
            after = change(before)
            if after.remarkable:
                self._known[key] = after
            else:
                self._known.pop(key, None)
            if after != before:
                self._uncommitted = True
                _write(connection, after)
                if (incident := incident_of(before, after)) is not None:
                    record_circuit(connection, after, incident)

    # ---------------------------------------------------------------- what may be sent

    def asked_at(self, provider: str, now: float) -> float | None:
        """Return when the first instance of a provider may be sent a request; None: unknown."""
        times = [
            may_be_asked_at(self._known.get((provider, instance)), now)
            for instance in self.instances_of(provider)
        ]
        return min((each for each in times if each is not None), default=None)

    def not_asked(self, now: float) -> list[str]:
        """Return the providers that are to be sent no request now."""
        names = {each.provider for each in self._known.values()}
        times = {name: self.asked_at(name, now) for name in names}
        return [name for name, at in times.items() if at is None or at > now]

    def not_polled(self, now: float) -> list[str]:
        """Return where processings are that are not polled now: instances, or providers."""
        keys = [
            each.key
            for each in self._known.values()
            if (at := may_be_polled_at(each, now)) is None or at > now
        ]
        return [place for key in keys for place in self.places_of(key)]

    def places_of(self, key: Key) -> list[str]:
        """Return how the records of processings name an instance: by its address, or not at all.

        What was sent while a provider had a single address was sent to its first one.
        """
        provider, instance = key
        return [instance, provider] if instance == self.instance_of(provider) else [instance]

    def trials(self) -> list[str]:
        """Return the processings that trials are about."""
        return [each.trial for each in self._known.values() if each.trial is not None]

    def to_try_by_poll(self, now: float) -> list[Circuit]:
        """Return the circuits that a poll may be a trial of."""
        return [
            each
            for each in self.known
            if each.state is CircuitState.OPEN
            and each.opened_by is OpenedBy.UNANSWERED
            and max(each.retry_at or now, each.quiet_until or now) <= now
        ]

    def circuit(self, key: Key) -> Circuit | None:
        """Return a circuit; None if there is nothing to say."""
        return self._known.get(key)

    def due_at(self, now: float) -> float | None:
        """Return when the first instance that waits may be asked again."""
        times = [
            instant
            for each in self._known.values()
            for instant in (may_be_asked_at(each, now), may_be_polled_at(each, now))
            if instant is not None and instant > now
        ]
        return min(times, default=None)


def _told(circuit: Circuit) -> tuple[bool, bool]:
    """Return what others are told of: not each trial."""
    return circuit.open, circuit.lost is not None


def _new(key: Key) -> Circuit:
    return Circuit(provider=key[0], instance=key[1])


def _write(connection: sa.Connection, circuit: Circuit) -> None:
    key = {"provider": circuit.provider, "instance": circuit.instance}
    if not circuit.remarkable:
        connection.execute(sa.delete(circuits).filter_by(**key))
        return
    values: dict[str, Any] = dict(zip(_COLUMNS, _values(circuit), strict=True))
    others = {name: value for name, value in values.items() if name not in key}
    connection.execute(
        insert(connection, circuits)
        .values(**values)
        .on_conflict_do_update(index_elements=list(key), set_=others)
    )
