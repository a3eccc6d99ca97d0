"""Tiles handed over in the order of their grid, in whatever order they come."""

from collections import deque
from collections.abc import Hashable, Iterator
from typing import Generic, TypeVar

Place = TypeVar("Place", bound=Hashable)
Tile = TypeVar("Tile")


class Turns(Generic[Place, Tile]):
    """Keeps each tile until those before it have had their turn.

    What a tile becomes may depend on what was saved before it: a dataset with a
    `final_function` that reads the file is the same every time only if the order is. The tiles
    that wait are few as long as computing follows the order too.
    """

    def __init__(self) -> None:
        self._expected: deque[Place] = deque()
        self._early: dict[Place, Tile] = {}
        self._given_up: set[Place] = set()

    def expect(self, place: Place) -> None:
        """Return a place its turn, after those expected before it."""
        self._expected.append(place)

    def take(self, place: Place, tile: Tile) -> Iterator[tuple[Place, Tile]]:
        """Take a tile, and give all those whose turn it is now."""
        self._early[place] = tile
        return self._due()

    def give_up(self, place: Place) -> Iterator[tuple[Place, Tile]]:
        """Expect a tile no more, and give all those whose turn it is now."""
        self._given_up.add(place)
        return self._due()

    def _due(self) -> Iterator[tuple[Place, Tile]]:
        while self._expected:
            first = self._expected[0]
            if first in self._early:
                self._expected.popleft()
                yield first, self._early.pop(first)
            elif first in self._given_up:
                self._expected.popleft()
            else:
                return
