"""What a campaign has planned and not begun yet: observations by the batch, compressed.

A million observations are a few thousand rows, which are written in a second or two.
"""

import json
import zlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

MAX_ITEMS: Final = 400
"""Products of observations in one part, about: one transaction begins all of them."""
_FASTEST: Final = 1
"""Level of zlib: names that follow each other are alike, whatever the effort."""

Planned = tuple[str, tuple[str, ...]]
"""An observation, and the products that are made of it, in their order."""


@dataclass(frozen=True, slots=True)
class Part:
    """Observations that follow each other, and what is made of them."""

    dropped: bool
    first: str
    last: str
    content: bytes

    @classmethod
    def of(cls, planned: Sequence[Planned], *, dropped: bool) -> "Part":
        """Return a part of observations, at least one, in the order of the database."""
        grouped: defaultdict[tuple[str, ...], list[str]] = defaultdict(list)
        for obs_id, products in planned:
            grouped[products].append(obs_id)
        text = json.dumps([*grouped.items()], separators=(",", ":"))
        content = zlib.compress(text.encode(), _FASTEST)
        return cls(dropped, planned[0][0], planned[-1][0], content)

    def as_row(self, campaign: int) -> dict[str, Any]:
        """Return it as a row of its table."""
        values = {name: getattr(self, name) for name in self.__slots__}
        return {**values, "campaign": campaign}


def contents_of(content: bytes) -> Mapping[str, tuple[str, ...]]:
    """Return the products of each observation of a part."""
    groups = json.loads(zlib.decompress(content))
    return {obs_id: tuple(products) for products, names in groups for obs_id in names}


def split(planned: Iterable[Planned], *, dropped: bool) -> Iterator[Part]:
    """Split observations into parts of `MAX_ITEMS` products, of one observation at least."""
    some: list[Planned] = []
    size = 0
    for each in planned:
        if some and size + len(each[1]) > MAX_ITEMS:
            yield Part.of(some, dropped=dropped)
            some, size = [], 0
        some.append(each)
        size += len(each[1])
    if some:
        yield Part.of(some, dropped=dropped)
