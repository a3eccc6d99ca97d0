"""The known name that is nearest to a misspelt one."""

from collections.abc import Collection
from difflib import get_close_matches
from typing import Final

_MAX_COMPARISONS: Final = 1_000_000


class NameSuggester:
    """Suggests the known name nearest to an unknown one.

    Comparing is slow (about a microsecond a known name): beyond `_MAX_COMPARISONS` in total, which
    only many thousand names with many mistakes reach, there are no suggestions.
    """

    def __init__(self, known: Collection[str]) -> None:
        self._known = known
        self._left = _MAX_COMPARISONS
        self._nearest: dict[str, str | None] = {}

    def nearest(self, name: str) -> str | None:
        """Return the nearest known name, or None if none is near."""
        if name not in self._nearest and self._left >= len(self._known):
            self._left -= len(self._known)
            near = get_close_matches(name, self._known, n=1)
            self._nearest[name] = near[0] if near else None
        return self._nearest.get(name)

    def hint(self, name: str) -> str:
        """Return `` (did you mean 'x'?)``, or an empty text if no known name is near."""
        nearest = self.nearest(name)
        return f" (did you mean {nearest!r}?)" if nearest is not None else ""
