"""The slots at providers that requests may take now, and who takes them."""

import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import sqlalchemy as sa

from batuta.conductor.database.requests.circuit_store import CircuitStore
from batuta.conductor.database.statements import AT_PROVIDERS, at_instances
from batuta.conductor.decisions.circuits import CircuitState, may_be_asked_at
from batuta.conductor.decisions.instances import InstanceLoad, places
from batuta.conductor.decisions.processing_record import ProcessingRecord
from batuta.conductor.decisions.shares import Balance, share_out
from batuta.graph import Graph, Provider
from batuta.work_classes import WorkClass, urgency

Turns = dict[str, Balance]
"""What the classes have been credited, by provider; kept from one reading to the next."""

ALL_PROVIDERS: Final = "*"
"""In `Turns`: for what is limited over all of them together."""


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
        To the provider of that name, at most; of one that has several addresses, to each of them,
        by its address.
    """

    total: int
    of_provider: Callable[[str], int] = _unlimited


@dataclass(frozen=True, slots=True)
class Placed:
    """A processing that is to be requested now, and where.

    Attributes
    ----------
    instance : str or None
        The address that it is sent to; None for the only one.
    trial : str or None
        The address of which it tries whether it has recovered.
    """

    record: ProcessingRecord
    instance: str | None = None
    trial: str | None = None


class Slots:
    """The free slots of every provider, in all and by class, and those of its instances.

    Parameters
    ----------
    connection : sa.Connection
        In whose transaction the processings at providers are counted.
    graph : Graph
        The product graph.
    capacity : Capacity
        How many requests may be sent.
    circuits : CircuitStore
        Which instances are left alone.
    now : float
        What time it is, in seconds since 1970.
    """

    def __init__(
        self,
        connection: sa.Connection,
        graph: Graph,
        capacity: Capacity,
        circuits: CircuitStore,
        now: float,
    ) -> None:
        self._graph = graph
        self._capacity = capacity
        self._circuits = circuits
        self._now = now
        self._connection = connection
        at = _at_providers(connection, graph)
        self._free: dict[str, int] = {}
        self._of_class: dict[str, dict[WorkClass, int]] = {}
        self._loads: dict[str, list[InstanceLoad]] = {}
        for provider in graph.providers.values():
            free = self._free_at(provider)
            if provider.max_concurrent is not None:
                free = min(free, provider.max_concurrent - at[provider.name].total())
            self._free[provider.name] = max(free, 0)
            if provider.max_concurrent_by_class:
                self._of_class[provider.name] = {
                    each: max(limit - at[provider.name][each], 0)
                    for each, limit in provider.max_concurrent_by_class.items()
                }

    def _free_at(self, provider: Provider) -> int:
        """Return how many requests the instances of a provider may be sent."""
        addresses = self._circuits.instances_of(provider.name)
        several = len(addresses) > 1
        if not several and self._is_plain(provider, addresses):
            return self._capacity.of_provider(provider.name)
        there = self._at_instances(provider, addresses)
        loads = [
            self._load(provider, address, address if several else provider.name, number)
            for address, number in zip(addresses, there, strict=True)
        ]
        self._loads[provider.name] = loads
        return sum(each.free for each in loads)

    def _is_plain(self, provider: Provider, addresses: Sequence[str]) -> bool:
        """Return whether the only address of a provider has no limit, and nothing is against it."""
        limited = provider.max_concurrent_per_instance is not None
        return not limited and not any(
            self._circuits.circuit((provider.name, address)) for address in addresses
        )

    def _at_instances(self, provider: Provider, addresses: Sequence[str]) -> Sequence[int]:
        """Count the processings at each address of a provider."""
        places = {
            f"places_{index}": self._circuits.places_of((provider.name, address))
            for index, address in enumerate(addresses)
        }
        wanted = {"provider": provider.name, **places}
        return self._connection.execute(at_instances(len(addresses)), wanted).one()

    def _load(self, provider: Provider, address: str, place: str, there: int) -> InstanceLoad:
        circuit = self._circuits.circuit((provider.name, address))
        asked_at = may_be_asked_at(circuit, self._now)
        trial = circuit is not None and circuit.state is CircuitState.OPEN
        limit = provider.max_concurrent_per_instance
        room = -there if limit is None else limit - there
        free = min(self._capacity.of_provider(place), sys.maxsize if limit is None else room)
        if asked_at is None or asked_at > self._now:
            free = 0
        return InstanceLoad(address, room, max(min(free, 1) if trial else free, 0), trial)

    def free(self, provider: str, work_class: WorkClass) -> int:
        """Return how many slots a class could take at a provider now."""
        # A processing claimed under an earlier graph may name a provider that it had.
        free = self._free.setdefault(provider, max(self._capacity.of_provider(provider), 0))
        return min(free, self._of_class.get(provider, {}).get(work_class, free))

    def take(self, due: Sequence[ProcessingRecord], at_most: int, turns: Turns) -> list[Placed]:
        """Take slots for some of what is `due`, and return it, the most urgent first.

        Parameters
        ----------
        due : sequence of ProcessingRecord
            In the order in which each class takes its slots; of each class at each provider, as
            many as there are slots for, if so many are due.
        at_most : int
            How many may be taken.
        turns : dict
            Whose turn it is; changed.
        """
        waiting: defaultdict[str, list[ProcessingRecord]] = defaultdict(list)
        for each in due:
            waiting[each.provider].append(each)
        chosen: list[ProcessingRecord] = []
        for name, its in waiting.items():
            chosen += self._take_at(name, its, turns)
        if len(chosen) > at_most:
            chosen.sort(key=lambda each: (urgency(each.work_class), -each.priority))
            kept, turns[ALL_PROVIDERS] = share_out(
                chosen, at_most, {}, turns.get(ALL_PROVIDERS, {}), self._graph.shares
            )
            chosen = kept
        for each in chosen:
            self._free[each.provider] -= 1
            limits = self._of_class.get(each.provider, {})
            if each.work_class in limits:
                limits[each.work_class] -= 1
        return self._placed(sorted(chosen, key=lambda each: urgency(each.work_class)))

    def _placed(self, chosen: Sequence[ProcessingRecord]) -> list[Placed]:
        """Return what was chosen with the instances that it is sent to."""
        if not self._loads:
            return [Placed(each) for each in chosen]
        numbers = Counter(each.provider for each in chosen)
        found = {
            name: iter(places(numbers[name], loads))
            for name, loads in self._loads.items()
            if name in numbers
        }
        return [
            self._at(each, next(found[each.provider])) if each.provider in found else Placed(each)
            for each in chosen
        ]

    def _at(self, record: ProcessingRecord, load: InstanceLoad) -> Placed:
        several = len(self._loads[record.provider]) > 1
        return Placed(
            record,
            instance=load.address if several else None,
            trial=load.address if load.trial else None,
        )

    def _take_at(
        self, provider: str, waiting: Sequence[ProcessingRecord], turns: Turns
    ) -> list[ProcessingRecord]:
        free = self._free[provider]
        limits = self._of_class.get(provider, {})
        chosen, turns[provider] = share_out(
            waiting, free, limits, turns.get(provider, {}), self._graph.shares
        )
        return chosen


def _at_providers(connection: sa.Connection, graph: Graph) -> Mapping[str, Counter[WorkClass]]:
    """Count the processings at the providers that have limits, by class."""
    limited = [
        provider.name
        for provider in graph.providers.values()
        if provider.max_concurrent is not None or provider.max_concurrent_by_class
    ]
    at: defaultdict[str, Counter[WorkClass]] = defaultdict(Counter)
    if limited:
        for name, *numbers in connection.execute(AT_PROVIDERS, {"providers": limited}):
            at[name] = Counter(dict(zip(WorkClass, numbers, strict=True)))
    return at
