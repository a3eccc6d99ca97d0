"""The part of a log that one attempt has written."""

import re
from pathlib import Path
from typing import Final

_STARTED: Final = re.compile(rb" of \S+, attempt ([0-9]{1,9}): started$")


def started_line(product: str, obs_id: str, attempt: int) -> str:
    """Return the message with which the log of an attempt begins."""
    return f"{product} of {obs_id}, attempt {attempt}: started"


def find_attempts(path: Path, product: str, obs_id: str) -> dict[int, tuple[int, int]]:
    """Return the first byte of each attempt in a log, and the one after its last.

    An attempt whose beginning was cut out of the log is part of the one before it. Of an attempt
    that was begun twice, because its service died, both are one.
    """
    found: dict[int, tuple[int, int]] = {}
    current, position = None, 0
    with path.open("rb") as log:
        for line in log:
            begun = _STARTED.search(line.rstrip())
            text = started_line(product, obs_id, int(begun[1])) if begun else ""
            if begun and line.rstrip().endswith(b": " + text.encode()):
                current = int(begun[1])
            end = position + len(line)
            if current is not None:
                found[current] = (found.get(current, (position, 0))[0], end)
            position = end
    return found
