"""What is raised when tiles of a product are missing."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Final

from batuta.errors import BatutaError

MAX_LISTED: Final = 10
"""Tiles that failed for the same reason are listed up to this number."""


@dataclass(frozen=True)
class TileFailure:
    """A tile that could not be computed or saved, and its root cause in one line."""

    dataset_name: str
    row: int
    col: int
    cause: str

    def __str__(self) -> str:
        return f"{self.dataset_name}[{self.row}, {self.col}]: {self.cause}"


class DiskFullError(BatutaError):
    """A disk is full: nothing more is computed, and the tiles that are done are kept.

    Parameters
    ----------
    folder : str
        Where there is no room.
    free_mb : float
        What room there is, in MB.
    done, total : int
        Tiles that are done, and how many there were to do.
    """

    def __init__(self, folder: str, free_mb: float, done: int, total: int) -> None:
        self.folder = folder
        self.free_mb = free_mb
        self.done = done
        self.total = total
        super().__init__(
            f"no room left in {folder} ({free_mb:g} MB free): {done} of {total} tiles are done,"
            " and computing stopped"
        )

    def __reduce__(self) -> tuple[type["DiskFullError"], tuple[str, float, int, int]]:
        """Cross process borders with its parts kept apart."""
        return type(self), (self.folder, self.free_mb, self.done, self.total)


class TilesFailedError(BatutaError):
    """Tiles of a product are missing; all the others are computed and saved.

    Parameters
    ----------
    failures : iterable of TileFailure
        In the order of their datasets, row by row.
    total : int
        How many tiles there were to compute.
    """

    def __init__(self, failures: Iterable[TileFailure], total: int) -> None:
        self.failures = tuple(failures)
        self.total = total
        lines = "".join(f"\n  {line}" for line in _listed(self.failures))
        super().__init__(f"{len(self.failures)} of {total} tiles failed:{lines}")

    def __reduce__(self) -> tuple[type["TilesFailedError"], tuple[tuple[TileFailure, ...], int]]:
        """Cross process borders with the failures kept apart."""
        return type(self), (self.failures, self.total)


def _listed(failures: Iterable[TileFailure]) -> Iterator[str]:
    """Return a line for each failure; of those for the same reason, for the first ones."""
    by_cause: dict[str, list[TileFailure]] = {}
    for failure in failures:
        by_cause.setdefault(failure.cause, []).append(failure)
    for same in by_cause.values():
        yield from map(str, islice(same, MAX_LISTED))
        if len(same) > MAX_LISTED:
            yield f"and {len(same) - MAX_LISTED} more for the same reason"
