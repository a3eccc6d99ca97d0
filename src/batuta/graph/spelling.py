"""Helpers for messages about names: suggestions for misspelt ones, duplicates, quotes."""

from collections import Counter
from collections.abc import Collection, Hashable, Sequence
from difflib import get_close_matches
from typing import Final, TypeVar

Key = TypeVar("Key", bound=Hashable)

_MAX_COMPARISONS: Final = 1_000_000
_MAX_QUOTE_LENGTH: Final = 120


class NameSuggester:
    """Suggests the known name nearest to an unknown one.

    Comparing is slow (about a microsecond a known name): beyond `_MAX_COMPARISONS` in total, which
    only a graph of many thousand products with many mistakes reaches, there are no suggestions.
    """

    def __init__(self, known: Collection[str]) -> None:
        self._known = known
        self._left = _MAX_COMPARISONS
        self._hints: dict[str, str] = {}

    def hint(self, name: str) -> str:
        """Return `` (did you mean 'x'?)``, or an empty text if no known name is near."""
        if name not in self._hints and self._left >= len(self._known):
            self._left -= len(self._known)
            self._hints[name] = self._nearest(name)
        return self._hints.get(name, "")

    def _nearest(self, name: str) -> str:
        near = get_close_matches(name, self._known, n=1, cutoff=0.7)
        return f" (did you mean {near[0]!r}?)" if near else ""


def duplicates(names: Sequence[Key]) -> list[Key]:
    """Return the names that occur more than once, in order of first occurrence."""
    if len(set(names)) == len(names):
        return []
    return [name for name, count in Counter(names).items() if count > 1]


def quote(value: object) -> str:
    """Quote a value given by the user, cut off if it is too long for one line."""
    text = repr(value)
    return text if len(text) <= _MAX_QUOTE_LENGTH else f"{text[:_MAX_QUOTE_LENGTH]}…"
