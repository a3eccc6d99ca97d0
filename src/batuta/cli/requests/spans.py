"""Spans of time on the command line: from a time on, before another, hours back, or a night."""

from datetime import UTC, date, datetime, time, timedelta
from typing import Final

from batuta.cli.requests.times import read_moment
from batuta.errors import ConfigurationError

NIGHT_BEGINS: Final = time(18, tzinfo=UTC)
NIGHT: Final = timedelta(hours=12)


def read_span(
    begin: str | None, end: str | None, hours: float | None, night: str | None
) -> dict[str, str]:
    """Return the span that is given as the conductor takes it; empty where none is.

    Raises
    ------
    ConfigurationError
        If it is given in two ways, or one is not understood.
    """
    ways = [
        name
        for name, given in (
            ("--from or --to", begin or end),
            ("--hours", hours),
            ("--night", night),
        )
        if given is not None
    ]
    if len(ways) > 1:
        raise ConfigurationError(f"{' and '.join(ways)} given (accepted: one of them)")
    if night is not None:
        return _night(night)
    if hours is not None:
        return {"from": (datetime.now(UTC) - timedelta(hours=hours)).isoformat()}
    moments = {"from": read_moment("--from", begin), "to": read_moment("--to", end)}
    return {name: moment for name, moment in moments.items() if moment is not None}


def _night(given: str) -> dict[str, str]:
    """Return the night that begins in the evening of a day."""
    try:
        begin = datetime.combine(date.fromisoformat(given), NIGHT_BEGINS)
        end = begin + NIGHT
    except (ValueError, OverflowError) as exc:
        raise ConfigurationError(
            f"--night {given!r:.80}: no such day (accepted: that of its evening, such as "
            "2026-11-29)"
        ) from exc
    return {"from": begin.isoformat(), "to": end.isoformat()}
