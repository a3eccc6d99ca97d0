"""The exceptions that report missing tiles."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Final

from batuta.errors import BatutaError

MAX_LISTED: Final = 10
"""Of tiles that failed for the same reason, this many are listed."""


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
    """A disk is full: computing stopped, and the tiles that are done are kept.

    Parameters
    ----------
    folder : str
        The folder that could not be written in.
    free_mb : float
        Free space there, in MB.
    done, total : int
        Number of tiles that are done, and of all tiles.
    """

    def __init__(self, folder: str, free_mb: float, done: int, total: int) -> None:
        self.folder = folder
        self.free_mb = free_mb
        self.done = done
        self.total = total
        super().__init__(
            f"no space left in {folder} ({free_mb:g} MB free): computing stopped with {done} of"
            f" {total} tiles done"
        )

    def __reduce__(self) -> tuple[type["DiskFullError"], tuple[str, float, int, int]]:
        """Pickle the arguments, from which the message is made again."""
        return type(self), (self.folder, self.free_mb, self.done, self.total)


class TilesFailedError(BatutaError):
    """Tiles of a product are missing; all the others are computed and saved.

    Parameters
    ----------
    failures : iterable of TileFailure
        In the order of their datasets, row by row.
    total : int
        Number of tiles to compute.
    """

    def __init__(self, failures: Iterable[TileFailure], total: int) -> None:
        self.failures = tuple(failures)
        self.total = total
        lines = "".join(f"\n  {line}" for line in _listed(self.failures))
        super().__init__(f"{len(self.failures)} of {total} tiles failed:{lines}")

    def __reduce__(self) -> tuple[type["TilesFailedError"], tuple[tuple[TileFailure, ...], int]]:
        """Pickle the arguments, from which the message is made again."""
        return type(self), (self.failures, self.total)


def _listed(failures: Iterable[TileFailure]) -> Iterator[str]:
    """Return a line per failure, for the first `MAX_LISTED` of each reason."""
    by_cause: dict[str, list[TileFailure]] = {}
    for failure in failures:
        by_cause.setdefault(failure.cause, []).append(failure)
    for same in by_cause.values():
        yield from map(str, islice(same, MAX_LISTED))
        if len(same) > MAX_LISTED:
            yield f"and {len(same) - MAX_LISTED} more for the same reason"
