"""What a report says of a span of time: functions of what was counted, without a database."""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import Final

from batuta.conductor.decisions.circuits import Circuit

DAY_S: Final = 86_400.0
DEFAULT_SPAN_S: Final = DAY_S / 2
MAX_SPAN_S: Final = 31 * DAY_S
"""What a report reads grows with its span."""

Key = tuple[str, str]
"""A provider, and a product that it makes."""
Counts = Mapping[Key, int]
Durations = Mapping[float, int]
"""How often something took so long, in seconds."""


class Incident(StrEnum):
    """What went wrong besides processings."""

    LATE = "late"
    """A product was due, and was not available."""
    EXPIRED = "expired"
    """A product was not worth making any more."""
    OPENED = "opened"
    """An address of a provider kept failing, and was left alone."""
    LOST = "lost"
    """It did not answer for so long that what it had was sent elsewhere."""


def incident_of(before: Circuit, after: Circuit) -> Incident | None:
    """Return what a change of a circuit is recorded as; None for what says nothing new."""
    if after.lost is not None and before.lost is None:
        return Incident.LOST
    return Incident.OPENED if after.open and not before.open else None


@dataclass(frozen=True, slots=True)
class Span:
    """A span of time, its end excluded, in seconds since 1970."""

    begin: float
    end: float


def span_of(begin: float | None, end: float | None, now: float) -> Span:
    """Return the span that is asked for: until `now`, and of `DEFAULT_SPAN_S`, where not told.

    Raises
    ------
    ValueError
        If it is empty, is to come, or is longer than `MAX_SPAN_S`; in one line.
    """
    last = now if end is None else end
    first = last - DEFAULT_SPAN_S if begin is None else begin
    if first >= last:
        raise ValueError("from: not before to (accepted: a time before it)")
    if first > now:
        raise ValueError("from: is to come (accepted: a time in the past)")
    if last - first > MAX_SPAN_S:
        days = (last - first) / DAY_S
        raise ValueError(
            f"from, to: {days:.1f} days (accepted: at most {MAX_SPAN_S / DAY_S:.0f} days: ask for "
            "one part after the other)"
        )
    return Span(first, last)


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """How long something took, in seconds: so many times, half of them in at most the median."""

    number: int
    median_s: float
    p95_s: float


def rounded(seconds: float) -> float:
    """Return a duration to half a percent, or to 5 ms: few different ones are to be counted.

    One that a clock made negative, which was set back, is none.
    """
    if seconds < 10:
        return max(0.0, round(seconds, 2))
    return float(f"{seconds:.3g}")


def quantile(durations: Durations, share: float) -> float:
    """Return the shortest time that `share` of the durations do not exceed.

    Raises
    ------
    ValueError
        If there are none.
    """
    left = max(1, math.ceil(share * sum(durations.values())))
    for seconds in sorted(durations):
        left -= durations[seconds]
        if left <= 0:
            return seconds
    raise ValueError("no durations")


def spread(durations: Durations) -> Spread | None:
    """Return how durations spread; None if there are none."""
    number = sum(durations.values())
    if number == 0:
        return None
    return Spread(number=number, median_s=quantile(durations, 0.5), p95_s=quantile(durations, 0.95))


def waiting_at_end(open_now: Counts, begun_since: Counts, ended_since: Counts) -> Counter[Key]:
    """Return how many processings had begun, and had not ended, at the end of a span.

    Parameters
    ----------
    open_now : mapping
        Those that have not ended now.
    begun_since, ended_since : mapping
        Of those, the ones that have begun after the span; and those that have ended after it, and
        had begun before.
    """
    left = Counter(open_now)
    left.subtract(begun_since)
    left.update(ended_since)
    return +left


@dataclass(frozen=True, slots=True, kw_only=True)
class ProductReport:
    """What became of a product in a span of time; of all products, both names are empty.

    Attributes
    ----------
    provider, product : str
        The provider is empty where the graph has no such product any more.
    made : int
        Processings that have succeeded.
    failed, still_failed : int
        Those that have failed for good; and of them, those that nobody has retried with success.
    retried : int
        Attempts that have failed, and were followed by another.
    cancelled : int
        Processings that were cancelled, expired ones among them.
    late, still_late : int
        Observations for which it was due in the span and not available; and of them, those for
        which it is not available now.
    expired : int
        Observations for which it was not worth making any more.
    approved, refused : int
        What persons have answered.
    waiting, held : int
        Processings that had not ended at the end, or had failed and were retried since; and of
        them, those that holds keep back now.
    latency : Spread or None
        Of what was made in the classes alert and live: from the first input of the observation to
        the archive; of what was made again, from when what it is made from was there.
    processing : Spread or None
        Of what was made: from the start of the last attempt to the archive.
    """

    provider: str
    product: str
    made: int = 0
    failed: int = 0
    still_failed: int = 0
    retried: int = 0
    cancelled: int = 0
    late: int = 0
    still_late: int = 0
    expired: int = 0
    approved: int = 0
    refused: int = 0
    waiting: int = 0
    held: int = 0
    latency: Spread | None = None
    processing: Spread | None = None


COUNTED: Final = tuple(each.name for each in fields(ProductReport) if each.type is int)
"""What is counted of each product."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What was counted in a span of time.

    Attributes
    ----------
    counts : mapping
        How many by provider and product, of each of `COUNTED` that there are any of.
    latency, processing : mapping
        Durations by provider and product, as `rounded` returns them.
    """

    counts: defaultdict[str, Counter[Key]] = field(default_factory=lambda: defaultdict(Counter))
    latency: defaultdict[Key, Counter[float]] = field(default_factory=lambda: defaultdict(Counter))
    processing: defaultdict[Key, Counter[float]] = field(
        default_factory=lambda: defaultdict(Counter)
    )

    def add(self, name: str, key: Key, number: int = 1) -> None:
        """Count so many more of one of `COUNTED`."""
        self.counts[name][key] += number


def product_reports(facts: Facts) -> list[ProductReport]:
    """Return what became of each product of which there is something to say, by provider."""
    keys = {key for counts in facts.counts.values() for key, number in counts.items() if number}
    return [
        ProductReport(
            provider=key[0],
            product=key[1],
            **{name: counts[key] for name, counts in facts.counts.items()},
            latency=spread(facts.latency.get(key, {})),
            processing=spread(facts.processing.get(key, {})),
        )
        for key in sorted(keys)
    ]


def total_report(facts: Facts) -> ProductReport:
    """Return what became of all products together."""
    return ProductReport(
        provider="",
        product="",
        **{name: counts.total() for name, counts in facts.counts.items()},
        latency=spread(_together(facts.latency.values())),
        processing=spread(_together(facts.processing.values())),
    )


def _together(parts: Iterable[Counter[float]]) -> Durations:
    total: Counter[float] = Counter()
    for durations in parts:
        total.update(durations)
    return total
