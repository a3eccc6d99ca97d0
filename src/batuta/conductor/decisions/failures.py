"""What failures have in common: their errors, without what is of one processing alone."""

import re
from collections.abc import Collection
from typing import Final

MAX_LENGTH: Final = 200
"""Of what errors have in common, in characters: what follows tells like errors apart too seldom."""
MARK: Final = "#"
"""Stands for what is of one processing alone."""

_IDS: Final = re.compile(
    r"""
      \b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b         # a UUID
    | \b0x[0-9a-f]+\b                                         # an address of memory
    | \b(?=[0-9a-f]*[0-9])[0-9a-f]{8,}\b                      # a digest, or a part of one
    | (?<=[/\\])tmp[\w-]{6,}                                  # a file, or a folder, of a moment
    """,
    re.IGNORECASE | re.VERBOSE,
)
_CODES: Final = re.compile(
    r"((?:status|signal|code|errno|http)\s\d{1,3}\b)|\d+(?:[.,:]\d+)*", re.IGNORECASE
)
"""Numbers; the first group is one that tells what went wrong, and stays."""


def kind_of_error(error: str | None, names: Collection[str] = ()) -> str:
    """Return what an error has in common with like ones, empty if there is none.

    Ids, numbers and the names that are given stand as `MARK`, but for short numbers that tell what
    went wrong: the status of an answer or of an exit, a signal, an ``errno``.

    Parameters
    ----------
    names : collection of str
        What is of one processing alone: its id, its observation.
    """
    text = " ".join((error or "").split())
    for name in sorted(names, key=len, reverse=True):
        text = re.sub(rf"(?<![\w-]){re.escape(name)}(?![\w-])", MARK, text)
    text = _IDS.sub(MARK, text)
    text = _CODES.sub(lambda found: found[1] or MARK, text)
    return text[:MAX_LENGTH]
