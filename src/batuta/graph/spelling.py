"""Names as people give them: misspelt, given twice, or so long that a line cannot quote them."""

from collections import Counter
from collections.abc import Collection, Hashable, Sequence
from difflib import get_close_matches
from typing import Final, TypeVar

Key = TypeVar("Key", bound=Hashable)

_COMPARISONS: Final = 1_000_000
_LONGEST_QUOTE: Final = 120


class Speller:
    """Suggests the known name nearest to one that is not.

    Comparing is slow (about a microsecond a known name): over `_COMPARISONS` in total, which
    takes a graph of many thousand products with many mistakes, names get no suggestion.
    """

    def __init__(self, known: Collection[str]) -> None:
        self._known = known
        self._left = _COMPARISONS
        self._hints: dict[str, str] = {}

    def hint(self, name: str) -> str:
        """Return `` (did you mean 'x'?)``, or nothing where no known name is near."""
        if name not in self._hints and self._left >= len(self._known):
            self._left -= len(self._known)
            self._hints[name] = self._nearest(name)
        return self._hints.get(name, "")

    def _nearest(self, name: str) -> str:
        near = get_close_matches(name, self._known, n=1, cutoff=0.7)
        return f" (did you mean {near[0]!r}?)" if near else ""


def repeated(names: Sequence[Key]) -> list[Key]:
    """Return the names given more than once, in the order in which they first came."""
    if len(set(names)) == len(names):
        return []
    return [name for name, count in Counter(names).items() if count > 1]


def shown(value: object) -> str:
    """Quote a value given by the user, cut where it is too long for one line."""
    text = repr(value)
    return text if len(text) <= _LONGEST_QUOTE else f"{text[:_LONGEST_QUOTE]}…"
