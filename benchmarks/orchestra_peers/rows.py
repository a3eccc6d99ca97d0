"""The rows of the table: what is measured on each system, and how it is told."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Final

from benchmarks.orchestra_peers.scenario import Rate, Session
from benchmarks.support.figures import Target

FULL_RATE: Final = 2000
RATES: Final = (25, 50, 100, 200, 400, 800, 1600)
LESS: Final = Target("at most", 1)
MORE: Final = Target("at least", 1)


@dataclass(frozen=True)
class Sizes:
    """How much is measured."""

    turns: int = 3
    burst: int = 200
    singles: int = 50
    rate_s: float = 10.0
    held_s: float = 10.0


QUICK: Final = Sizes(turns=1, singles=20, held_s=3.0)
SMOKE: Final = Sizes(turns=1, burst=5, singles=2, rate_s=0.02, held_s=0.1)
"""Enough to see that all of them play; the figures mean nothing."""


@dataclass(frozen=True)
class Line:
    """A line of the table for each peer.

    Parameters
    ----------
    what : str
        What it is about.
    value, text : callable
        Of what the turns of a system found: a number to compare, and how it is told.
    target : Target
        What the ratio of Batuta's value to the peer's should be.
    """

    what: str
    value: Callable[[list[Any]], float]
    text: Callable[[list[Any]], str]
    target: Target = LESS


@dataclass(frozen=True)
class Row:
    """What is measured on a system that runs, how often, and the lines that tell it."""

    measure: Callable[[Session], Awaitable[Any]]
    turns: int
    lines: Sequence[Line]


@dataclass(frozen=True)
class Times:
    """Of a burst, and of single observations, in s."""

    burst: float
    singles: list[float]


def burst(sizes: Sizes) -> Row:
    """Observations at once, and one after the other."""

    async def measure(opened: Session) -> Times:
        return Times(await opened.burst(sizes.burst), await opened.idle(sizes.singles))

    single = "one observation through three levels, idle"
    return Row(
        measure,
        sizes.turns,
        (
            Line(f"{sizes.burst} observations at once through three levels", _best, _seconds),
            Line(f"{single}: median", _median, lambda turns: f"{1000 * _median(turns):.1f} ms"),
            Line(f"{single}: 99 %", _p99, lambda turns: f"{1000 * _p99(turns):.1f} ms"),
        ),
    )


def _best(turns: list[Times]) -> float:
    return min(turn.burst for turn in turns)


def _seconds(turns: list[Times]) -> str:
    return f"{_best(turns):.2f} s"


def _singles(turns: list[Times]) -> list[float]:
    return sorted(single for turn in turns for single in turn.singles)


def _median(turns: list[Times]) -> float:
    return median(_singles(turns))


def _p99(turns: list[Times]) -> float:
    singles = _singles(turns)
    return singles[int(0.99 * len(singles))]


def full_rate(sizes: Sizes) -> Row:
    """A rate that none of them may hold."""

    async def measure(opened: Session) -> Rate:
        return await opened.rate(FULL_RATE, sizes.rate_s)

    what = f"{FULL_RATE:,} observations a second for {sizes.rate_s:g} s, begun"
    return Row(measure, 1, (Line(what, _begun, _rate, MORE),))


def _begun(turns: list[Rate]) -> float:
    return turns[0].begun_a_second


def _rate(turns: list[Rate]) -> str:
    return f"{turns[0].begun_a_second:,.0f} a second, 99 % within {turns[0].p99_s:.2g} s"


@dataclass(frozen=True)
class Highest:
    """The highest of `RATES` that was held, a second (0 for none), and what became of it."""

    rate: int = 0
    p99_s: float = 0.0


def held_rate(sizes: Sizes) -> Row:
    """The highest of `RATES` that is held, on all levels."""

    async def measure(opened: Session) -> Highest:
        highest = Highest()
        for rate in RATES:
            found = await opened.rate(rate, sizes.held_s)
            if not found.held:
                break
            highest = Highest(rate, found.p99_s)
        return highest

    what = f"observations a second that are held for {sizes.held_s:g} s, through three levels"
    return Row(measure, 1, (Line(what, lambda turns: float(turns[0].rate), _highest, MORE),))


def _highest(turns: list[Highest]) -> str:
    found = turns[0]
    if not found.rate:
        return f"less than {RATES[0]}"
    return f"{found.rate} (99 % begun within {1000 * found.p99_s:.0f} ms)"


ROWS: Final[dict[str, Callable[[Sizes], Row]]] = {
    "burst": burst,
    "full-rate": full_rate,
    "held-rate": held_rate,
}
