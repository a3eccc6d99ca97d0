"""Times on the command line: a moment, or how long ago it was, or is still to pass."""

import re
from datetime import UTC, datetime, timedelta
from typing import Final

from batuta.errors import ConfigurationError

_UNITS: Final = {"s": "seconds", "min": "minutes", "h": "hours", "d": "days"}
_AGE: Final = re.compile(r"([0-9]{1,6})(s|min|h|d)")
_ENDS: Final = "accepted: 90d or 12h from now, or 2027-01-01T08:00, UTC unless it has a zone"
ACCEPTED: Final = "accepted: 30min, 2h, 7d ago, or 2026-11-29T08:00, UTC unless it has a zone"


def read_moment(option: str, given: str | None) -> str | None:
    """Return a moment given as an age or in ISO 8601 as the conductor takes it, or None.

    Raises
    ------
    ConfigurationError
        If it is neither; names `option`.
    """
    if given is None:
        return None
    try:
        if (age := _AGE.fullmatch(given)) is not None:
            moment = datetime.now(UTC) - timedelta(**{_UNITS[age[2]]: int(age[1])})
        else:
            moment = datetime.fromisoformat(given)
    except (ValueError, OverflowError) as exc:
        raise ConfigurationError(f"{option} {given!r:.80}: no such time ({ACCEPTED})") from exc
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).isoformat()


def read_end(option: str, given: str | None) -> datetime | None:
    """Return when something is to end: so long from now, or a moment to come; None for never.

    Raises
    ------
    ConfigurationError
        If it is neither; names `option`.
    """
    if given is None:
        return None
    now = datetime.now(UTC)
    try:
        if (span := _AGE.fullmatch(given)) is not None:
            moment = now.replace(microsecond=0) + timedelta(**{_UNITS[span[2]]: int(span[1])})
        else:
            moment = datetime.fromisoformat(given)
        moment = moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except (ValueError, OverflowError) as exc:
        raise ConfigurationError(f"{option} {given!r:.80}: no such time ({_ENDS})") from exc
    if moment <= now:
        raise ConfigurationError(f"{option} {given!r:.80}: is over already ({_ENDS})")
    return moment
