"""How long a campaign takes, from the record of past processings: functions without a database."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from batuta.graph import Graph
from batuta.work_classes import WorkClass

MIN_SETTLED: Final = 20
"""With so many ended, the speed of a campaign itself tells more than the record of others."""

Interval = tuple[float, float]
"""When a processing was requested, and when it ended, in seconds since 1970."""


def mean_s(intervals: Sequence[Interval]) -> float | None:
    """Return how long processings took on average; None if there is none."""
    if not intervals:
        return None
    return sum(max(0.0, end - begin) for begin, end in intervals) / len(intervals)


def most_at_once(intervals: Iterable[Interval]) -> int:
    """Return how many of the intervals overlapped at most."""
    # Sorted, an end comes before a beginning at the same time.
    moments = sorted(
        moment for begin, end in intervals for moment in ((begin, 1), (max(begin, end), -1))
    )
    most = now = 0
    for _, change in moments:
        now += change
        most = max(most, now)
    return most


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """How long a campaign takes.

    Attributes
    ----------
    seconds : float or None
        That of the provider with most to do; None if no product has a record.
    at_once : mapping
        How many processings of the campaign each provider makes at a time.
    without_record : tuple of str
        Products that no processing has made yet: their time is not counted.
    """

    seconds: float | None
    at_once: Mapping[str, int]
    without_record: tuple[str, ...]


def estimate(
    graph: Graph,
    numbers: Mapping[str, int],
    past: Mapping[str, Sequence[Interval]],
    work_class: WorkClass,
    max_concurrent: int,
) -> Estimate:
    """Return how long a campaign takes if nothing else is made meanwhile.

    A provider makes as many at once as the graph lets it, or, where the graph does not say, as many
    as it is known to have made at once.

    Parameters
    ----------
    numbers : mapping
        How many processings there are of each product.
    past : mapping
        Processings of each product that have succeeded.
    """
    work_s: dict[str, float] = {}
    intervals: dict[str, list[Interval]] = {}
    without: list[str] = []
    for name, number in numbers.items():
        mean = mean_s(past.get(name, ()))
        provider = graph.products[name].provider
        work_s.setdefault(provider, 0.0)
        if mean is None:
            without.append(name)
            continue
        work_s[provider] += mean * number
        intervals.setdefault(provider, []).extend(past[name])
    at_once = {
        name: _at_once(graph, name, intervals.get(name, ()), work_class, max_concurrent)
        for name in work_s
    }
    if not intervals:
        return Estimate(seconds=None, at_once=at_once, without_record=tuple(without))
    longest = max(work_s[name] / at_once[name] for name in work_s)
    return Estimate(
        seconds=max(longest, sum(work_s.values()) / max_concurrent),
        at_once=at_once,
        without_record=tuple(without),
    )


def _at_once(
    graph: Graph,
    provider: str,
    intervals: Iterable[Interval],
    work_class: WorkClass,
    max_concurrent: int,
) -> int:
    definition = graph.providers[provider]
    limit = definition.max_concurrent
    if limit is None:
        limit = most_at_once(intervals)
    of_class = definition.max_concurrent_by_class.get(work_class, max_concurrent)
    return max(1, min(limit, of_class, max_concurrent))


def remaining_s(done: int, total: int, ran_s: float, planned_s: float | None) -> float | None:
    """Return how long a campaign that runs still takes; None if nothing tells.

    Parameters
    ----------
    done, total : int
        Processings that have ended, and all of them.
    ran_s : float
        How long it has run, pauses left out, in seconds.
    planned_s : float or None
        The estimate of its plan, in seconds.
    """
    left = total - done
    if left <= 0:
        return 0.0
    if done >= MIN_SETTLED and ran_s > 0:
        return left * ran_s / done
    return None if planned_s is None or total == 0 else planned_s * left / total
