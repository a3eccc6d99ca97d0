"""Instants in requests: with a zone, and never a bare number."""

import re
from typing import Annotated, Any, Final

from pydantic import AwareDatetime, BeforeValidator

_NUMBER: Final = re.compile(r"\s*[-+]?[0-9.]+([eE][-+]?[0-9]+)?\s*")


def _refuse_number(value: Any) -> Any:
    if isinstance(value, (int, float)) or (isinstance(value, str) and _NUMBER.fullmatch(value)):
        raise ValueError("a number is no time (accepted: ISO 8601 with a zone, 2026-11-29T08:00Z)")
    return value


Instant = Annotated[AwareDatetime, BeforeValidator(_refuse_number)]
"""An instant with its zone.

pydantic takes a number for the seconds or milliseconds since 1970: ``20261129`` would silently be a
day of August of that year.
"""
