"""The slots at providers that requests may take now, and who takes them."""

import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import sqlalchemy as sa

from batuta.conductor.database.statements import AT_PROVIDERS
from batuta.conductor.decisions.processing_record import ProcessingRecord
from batuta.conductor.decisions.shares import Balance, share_out
from batuta.graph import Graph
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
        To the provider of that name, at most.
    busy : collection of str
        Providers that are to be sent none.
    """

    total: int
    of_provider: Callable[[str], int] = _unlimited
    busy: Collection[str] = ()


class Slots:
    """The free slots of every provider, in all and by class.

    Parameters
    ----------
    connection : sa.Connection
        In whose transaction the processings at providers are counted.
    graph : Graph
        The product graph.
    capacity : Capacity
        How many requests may be sent.
    """

    def __init__(self, connection: sa.Connection, graph: Graph, capacity: Capacity) -> None:
        self._graph = graph
        self._capacity = capacity
        at = _at_providers(connection, graph)
        self._free: dict[str, int] = {}
        self._of_class: dict[str, dict[WorkClass, int]] = {}
        for provider in graph.providers.values():
            free = capacity.of_provider(provider.name)
            if provider.max_concurrent is not None:
                free = min(free, provider.max_concurrent - at[provider.name].total())
            self._free[provider.name] = 0 if provider.name in capacity.busy else max(free, 0)
            if provider.max_concurrent_by_class:
                self._of_class[provider.name] = {
                    each: max(limit - at[provider.name][each], 0)
                    for each, limit in provider.max_concurrent_by_class.items()
                }

    def free(self, provider: str, work_class: WorkClass) -> int:
        """Return how many slots a class could take at a provider now."""
        if provider in self._capacity.busy:
            return 0
        # A processing claimed under an earlier graph may name a provider that it had.
        free = self._free.setdefault(provider, max(self._capacity.of_provider(provider), 0))
        return min(free, self._of_class.get(provider, {}).get(work_class, free))

    def take(
        self, due: Sequence[ProcessingRecord], at_most: int, turns: Turns
    ) -> list[ProcessingRecord]:
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
        return sorted(chosen, key=lambda each: urgency(each.work_class))

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
