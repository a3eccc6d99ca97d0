"""Helpers for messages about names: suggestions for misspelt ones, duplicates, quotes."""

from collections import Counter
from collections.abc import Hashable, Sequence
from typing import Final, TypeVar

from batuta.spelling import NameSuggester

__all__ = ["NameSuggester", "duplicates", "quote"]

Key = TypeVar("Key", bound=Hashable)

_MAX_QUOTE_LENGTH: Final = 120


def duplicates(names: Sequence[Key]) -> list[Key]:
    """Return the names that occur more than once, in order of first occurrence."""
    if len(set(names)) == len(names):
        return []
    return [name for name, count in Counter(names).items() if count > 1]


def quote(value: object) -> str:
    """Quote a value given by the user, cut off if it is too long for one line."""
    text = repr(value)
    return text if len(text) <= _MAX_QUOTE_LENGTH else f"{text[:_MAX_QUOTE_LENGTH]}…"
