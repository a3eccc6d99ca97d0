"""Format durations, sizes, shares and counts for people."""

from collections.abc import Iterable
from typing import Final

_SIZES: Final = ("B", "kB", "MB", "GB", "TB")


def format_seconds(seconds: float) -> str:
    """Format a duration with three digits, or to the second from 100 s on."""
    if seconds < 0.5e-6:
        return "0 s"
    if seconds < 0.9995e-3:
        return f"{seconds * 1e6:.0f} µs"
    if seconds < 0.9995:
        return f"{_three_digits(seconds * 1e3)} ms"
    if seconds < 99.95:
        return f"{_three_digits(seconds)} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 120:
        return f"{minutes} min {rest:02} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min"


def format_bytes(size: float) -> str:
    """Format a number of bytes with three digits, in powers of 1000."""
    value = abs(float(size))
    unit = 0
    while value >= 999.5 and unit < len(_SIZES) - 1:
        value /= 1000
        unit += 1
    sign = "-" if size < 0 else ""
    return f"{sign}{value:.0f} B" if unit == 0 else f"{sign}{_three_digits(value)} {_SIZES[unit]}"


def format_percent(share: float) -> str:
    """Format a share of 1 as a percentage."""
    return f"{share:.0%}".replace("%", " %") if share >= 0.0995 else f"{share * 100:.1f} %"


def format_ratio(ratio: float) -> str:
    """Format how many times as large something is."""
    return f"{ratio:.2f}" if ratio < 9.995 else f"{ratio:.0f}"


def format_count(count: int, noun: str) -> str:
    """Format a number of things: ``1 tile``, ``1,200 tiles``."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def _three_digits(value: float) -> str:
    if value >= 99.95:
        return f"{value:.0f}"
    return f"{value:.1f}" if value >= 9.995 else f"{value:.2f}"


def format_numbers(numbers: Iterable[int]) -> str:
    """Format whole numbers, those that follow one another as a range: ``1-3, 7``."""
    ranges: list[list[int]] = []
    for number in sorted(set(numbers)):
        if ranges and number == ranges[-1][-1] + 1:
            ranges[-1][1:] = [number]
        else:
            ranges.append([number])
    return ", ".join("-".join(map(str, each)) for each in ranges)
