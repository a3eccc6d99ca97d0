"""Valid names of products, observations and services.

Names come from outside: a notification, a request, a graph. They are checked once, where they
enter, so that they are safe in paths, NATS subjects and queries.
"""

import re
from typing import Final

NAME_PATTERN: Final = r"^[A-Za-z0-9][A-Za-z0-9_.:+-]{0,127}$"
"""Letters, digits and ``_ . : + -``, at most 128, the first a letter or a digit."""

NAME_RULE: Final = "1 to 128 letters, digits or _ . : + -, the first a letter or a digit"

SERVICE_PATTERN: Final = r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$"
"""A service's name is also a token of a NATS subject: no dot."""

SERVICE_RULE: Final = "1 to 64 letters, digits, _ or -, the first a letter or a digit"

_NAME: Final = re.compile(NAME_PATTERN)
_SERVICE: Final = re.compile(SERVICE_PATTERN)


def name_problem(what: str, value: object) -> str | None:
    """Return why `value` is not a valid name of a product or observation, or None if it is."""
    if isinstance(value, str) and _NAME.fullmatch(value):
        return None
    return f"{what}: {value!r} is not a name (accepted: {NAME_RULE})"


def service_problem(what: str, value: object) -> str | None:
    """Return why `value` is not a valid name of a service, or None if it is."""
    if isinstance(value, str) and _SERVICE.fullmatch(value):
        return None
    return f"{what}: {value!r} is not a service's name (accepted: {SERVICE_RULE})"
