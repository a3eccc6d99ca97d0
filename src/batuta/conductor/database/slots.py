"""The slots at providers that requests may take now, and who takes them."""

import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import sqlalchemy as sa

from batuta.conductor.database.circuits import CircuitStore
from batuta.conductor.database.statements import AT_PROVIDERS
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
        at = _at_providers(connection, graph, circuits)
        self._free: dict[str, int] = {}
        self._of_class: dict[str, dict[WorkClass, int]] = {}
        self._loads: dict[str, list[InstanceLoad]] = {}
        for provider in graph.providers.values():
            there = at.get(provider.name, _NONE)
            free = self._free_at(provider, there)
            if provider.max_concurrent is not None:
                free = min(free, provider.max_concurrent - there.of_class().total())
            self._free[provider.name] = max(free, 0)
            if provider.max_concurrent_by_class:
                of_class = there.of_class()
                self._of_class[provider.name] = {
                    each: max(limit - of_class[each], 0)
                    for each, limit in provider.max_concurrent_by_class.items()
                }

    def _free_at(self, provider: Provider, at: "_At") -> int:
        """Return how many requests the instances of a provider may be sent."""
        addresses = self._circuits.instances_of(provider.name)
        several = len(addresses) > 1
        if not several and self._is_plain(provider, addresses):
            return self._capacity.of_provider(provider.name)
        loads = [
            self._load(provider, address, address if several else provider.name, at)
            for address in addresses
        ]
        self._loads[provider.name] = loads
        return sum(each.free for each in loads)

    def _is_plain(self, provider: Provider, addresses: Sequence[str]) -> bool:
        """Return whether the only address of a provider has no limit, and nothing is against it."""
        limited = provider.max_concurrent_per_instance is not None
        return not limited and not any(
            self._circuits.circuit((provider.name, address)) for address in addresses
        )

    def _load(self, provider: Provider, address: str, place: str, at: "_At") -> InstanceLoad:
        circuit = self._circuits.circuit((provider.name, address))
        asked_at = may_be_asked_at(circuit, self._now)
        trial = circuit is not None and circuit.state is CircuitState.OPEN
        there = at.at_instance(address)
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


class _At:
    """The processings at a provider, by class and by instance."""

    def __init__(self, first: str) -> None:
        self._first = first
        self._by_class: dict[str, Counter[WorkClass]] = {}

    def add(self, instance: str | None, numbers: Sequence[int]) -> None:
        # What was sent while the provider had a single address was sent to the first one.
        counted = Counter(dict(zip(WorkClass, numbers, strict=True)))
        known = self._by_class.get(instance or self._first, Counter())
        self._by_class[instance or self._first] = known + counted

    def of_class(self) -> Counter[WorkClass]:
        """Count them by class."""
        return sum(self._by_class.values(), Counter())

    def at_instance(self, address: str) -> int:
        """Count those at one address."""
        return self._by_class.get(address, Counter()).total()


_NONE: Final = _At("")


def _at_providers(
    connection: sa.Connection, graph: Graph, circuits: CircuitStore
) -> dict[str, _At]:
    """Count the processings at the providers that have limits, or several addresses."""
    limited = [
        provider.name
        for provider in graph.providers.values()
        if provider.max_concurrent is not None
        or provider.max_concurrent_by_class
        or provider.max_concurrent_per_instance is not None
        or len(circuits.instances_of(provider.name)) > 1
    ]
    at = {name: _At(circuits.instance_of(name)) for name in limited}
    if limited:
        for name, instance, *numbers in connection.execute(AT_PROVIDERS, {"providers": limited}):
            at[name].add(instance, numbers)
    return at
