"""Delivery of tiles in the order of their grid, in whatever order they are computed."""

from collections import deque
from collections.abc import Hashable, Iterator
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Tile = TypeVar("Tile")


class OrderedDelivery(Generic[Key, Tile]):
    """A reorder buffer: holds each tile back until those expected before it are settled.

    What a tile becomes may depend on what was saved before it: a `final_function` that reads
    the file makes the same product every time only if tiles are saved in the same order.
    Tasks are computed roughly in that order too, so that few tiles are held at a time.
    """

    def __init__(self) -> None:
        self._expected: deque[Key] = deque()
        self._early: dict[Key, Tile] = {}
        self._skipped: set[Key] = set()

    def expect(self, key: Key) -> None:
        """Append `key` to the order of delivery."""
        self._expected.append(key)

    def add(self, key: Key, tile: Tile) -> Iterator[tuple[Key, Tile]]:
        """Add a tile that was computed, and return those that may now be delivered."""
        self._early[key] = tile
        return self._release()

    def skip(self, key: Key) -> Iterator[tuple[Key, Tile]]:
        """Stop expecting a tile, and return those that may now be delivered."""
        self._skipped.add(key)
        return self._release()

    def _release(self) -> Iterator[tuple[Key, Tile]]:
        # Each key is popped before it is yielded: delivering a tile may fail, and must not be
        # repeated by the next call.
        while self._expected:
            first = self._expected[0]
            if first in self._early:
                self._expected.popleft()
                yield first, self._early.pop(first)
            elif first in self._skipped:
                self._expected.popleft()
            else:
                return
