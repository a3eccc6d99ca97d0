"""Providers and their instances, as REST shows them: what is there, and what is left alone."""

from collections.abc import Collection, Iterator
from datetime import datetime

import sqlalchemy as sa
from pydantic import BaseModel

from batuta.conductor.database.current_graph import CurrentGraph, ReadsGraph
from batuta.conductor.database.requests.circuit_store import READ, InstancesOf, circuit_of
from batuta.conductor.database.statements import at_instances
from batuta.conductor.decisions.circuits import Circuit, CircuitState, OpenedBy
from batuta.graph import Graph
from batuta.messaging.processings import instant_of
from batuta.service.database import reading


class InstanceView(BaseModel):
    """One address of a provider.

    `processings` is how many are there. `circuit` is ``closed``, ``open`` or ``half-open``; while
    it is not closed, `opened_by` tells whether requests were ``unanswered`` or processings
    ``failing``, `since` when it was opened, `retry_at` from when it is tried again, and `reason`
    what went wrong last. `full_until` is until when it asks to be sent nothing, `lost` when it was
    taken for lost. `in_use` is false of an address that the provider no longer has.
    """

    address: str
    in_use: bool
    processings: int
    circuit: CircuitState
    opened_by: OpenedBy | None
    since: datetime | None
    retry_at: datetime | None
    reason: str | None
    full_until: datetime | None
    lost: datetime | None


class ProviderView(BaseModel):
    """A provider, its limits and its instances."""

    provider: str
    max_concurrent: int | None
    max_concurrent_per_instance: int | None
    instances: list[InstanceView]


class ProviderViews(ReadsGraph):
    """Reads how providers are; never writes.

    Parameters
    ----------
    engine : sa.Engine
        The conductor's database.
    graph : Graph or CurrentGraph
        The product graph.
    instances_of : callable
        Returns the addresses of a provider.
    """

    def __init__(
        self, engine: sa.Engine, graph: Graph | CurrentGraph, instances_of: InstancesOf
    ) -> None:
        super().__init__(graph)
        self._engine = engine
        self._instances_of = instances_of

    def all(self) -> list[ProviderView]:
        """Return the providers of the graph, in its order, and others that are left alone."""
        with self._current.one_moment(self._engine), reading(self._engine) as connection:
            circuits = {each.key: each for each in map(circuit_of, connection.execute(READ))}
            names = dict.fromkeys([*self._graph.providers, *(name for name, _ in circuits)])
            return [self._provider(connection, name, circuits) for name in names]

    def names(self) -> list[str]:
        """Return the providers of the graph, sorted."""
        return sorted(self._graph.providers)

    def knows(self, provider: str) -> bool:
        """Return whether the graph has a provider, or it is left alone."""
        if provider in self._graph.providers:
            return True
        with reading(self._engine) as connection:
            rows = connection.execute(READ).all()
        return any(row.provider == provider for row in rows)

    def open(self) -> list[Circuit]:
        """Return the circuits that are not closed."""
        with reading(self._engine) as connection:
            found = [circuit_of(row) for row in connection.execute(READ)]
        return [each for each in found if each.open]

    def open_at(self, providers: Collection[str]) -> list[Circuit]:
        """Return those of some providers."""
        return [each for each in self.open() if each.provider in providers]

    def _provider(
        self, connection: sa.Connection, name: str, circuits: dict[tuple[str, str], Circuit]
    ) -> ProviderView:
        known = self._graph.providers.get(name)
        in_use = list(self._instances_of(name))
        others = [address for provider, address in circuits if provider == name]
        addresses = list(dict.fromkeys([*in_use, *others]))
        # What was sent while the provider had a single address was sent to its first one.
        places = {
            f"places_{index}": [address, name] if index == 0 else [address]
            for index, address in enumerate(addresses)
        }
        statement = at_instances(len(addresses))
        numbers = connection.execute(statement, {"provider": name, **places}).one()
        return ProviderView(
            provider=name,
            max_concurrent=None if known is None else known.max_concurrent,
            max_concurrent_per_instance=(
                None if known is None else known.max_concurrent_per_instance
            ),
            instances=[
                _instance(
                    circuits.get((name, address)) or Circuit(provider=name, instance=address),
                    number,
                    in_use=address in in_use,
                )
                for address, number in zip(addresses, numbers, strict=True)
            ],
        )


def _instance(circuit: Circuit, number: int, *, in_use: bool) -> InstanceView:
    return InstanceView(
        address=circuit.instance,
        in_use=in_use,
        processings=number,
        circuit=circuit.state,
        opened_by=circuit.opened_by,
        since=_time(circuit.since),
        retry_at=_time(circuit.retry_at),
        reason=circuit.reason,
        full_until=_time(circuit.full_until),
        lost=_time(circuit.lost),
    )


def _time(seconds: float | None) -> datetime | None:
    return None if seconds is None else instant_of(seconds)


def circuit_lines(circuits: Collection[Circuit]) -> Iterator[str]:
    """Say in a line for each circuit that its instance is left alone, since when and why."""
    for each in circuits:
        since, retry_at = instant_of(each.since or 0.0), instant_of(each.retry_at or 0.0)
        lost = ", lost" if each.lost is not None else ""
        tried = (
            "being tried now"
            if each.state is CircuitState.HALF_OPEN
            else f"tried again at {retry_at:%Y-%m-%d %H:%M:%S}"
        )
        yield (
            f"provider {each.provider} at {each.instance}: circuit open since "
            f"{since:%Y-%m-%d %H:%M:%S}{lost}, {tried}: {each.reason}"
        )
