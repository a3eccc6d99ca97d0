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
    if not error:
        return ""
    text = " ".join(error.split())
    for name in sorted(names, key=len, reverse=True):
        text = _without_name(text, name)
    text = _IDS.sub(MARK, text)
    text = _CODES.sub(lambda found: found[1] or MARK, text)
    return text[:MAX_LENGTH]


def _without_name(text: str, name: str) -> str:
    """Return a text in which `MARK` stands for a name, wherever it is a word.

    Without a regular expression: each name would be compiled to its own, once, which takes longer
    than all else that is recorded of a processing.
    """
    parts: list[str] = []
    start, at = 0, text.find(name) if name else -1
    while at >= 0:
        end = at + len(name)
        if _is_of_word(text[at - 1 : at]) or _is_of_word(text[end : end + 1]):
            at = text.find(name, at + 1)
            continue
        parts += [text[start:at], MARK]
        start, at = end, text.find(name, end)
    return "".join([*parts, text[start:]])


def _is_of_word(character: str) -> bool:
    return character.isalnum() or character in ("_", "-")
