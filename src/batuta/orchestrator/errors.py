"""The exceptions that report missing tiles."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Final, NamedTuple

from batuta.cluster import TaskFailedError
from batuta.cluster.remote_error import read_back, trace_of, try_pickle
from batuta.errors import BatutaError, describe_error, one_line
from batuta.formatting import format_count

MAX_LISTED: Final = 10
"""Of tiles that failed for the same reason, this many are listed."""


class RootCause(NamedTuple):
    """What ended a tile."""

    reason: str
    """In one line."""
    exception: BaseException
    traceback: str
    """Of the exception, as text; empty where nothing was raised."""

    @classmethod
    def of(cls, error: BaseException) -> "RootCause":
        """Return the root cause of an error: of a task, what it raised; of a group, each error."""
        if isinstance(error, TaskFailedError):
            return cls(str(error), error.__cause__ or error, error.traceback)
        if isinstance(error, ExceptionGroup):
            each = [describe_error(one) for one in error.exceptions]
            return cls("; ".join(dict.fromkeys(each)), error, trace_of(error))
        return cls(describe_error(error), error, trace_of(error))


@dataclass(frozen=True)
class TileFailure:
    """A tile that could not be computed or saved, and why.

    Parameters
    ----------
    dataset_name : str
        The CarsDataset.
    row, col : int
        The tile.
    reason : str
        The root cause in one line.
    cause : BaseException
        The exception itself, with the traceback of its worker as a note; an `UnpicklableError` with
        its description where it cannot leave the process that raised it.
    traceback : str
        Of the exception, as text: where it was raised, in a worker or here. Empty where a worker
        was lost.
    """

    dataset_name: str
    row: int
    col: int
    reason: str
    cause: BaseException = field(compare=False)
    traceback: str = field(default="", repr=False)

    def __str__(self) -> str:
        return f"{self.dataset_name}[{self.row}, {self.col}]: {self.reason}"

    def __reduce__(self) -> tuple[Callable[..., "TileFailure"], tuple[Any, ...]]:
        """Cross process borders, whatever the cause is."""
        place = (self.dataset_name, self.row, self.col)
        return _failure_of, (*place, self.reason, try_pickle(self.cause), self.traceback)


def _failure_of(
    dataset_name: str, row: int, col: int, reason: str, pickled: bytes | None, traceback: str
) -> TileFailure:
    cause = read_back(pickled, reason)
    return TileFailure(dataset_name, row, col, reason, cause, traceback)


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
            f" {format_count(total, 'tile')} done"
        )

    def __reduce__(self) -> tuple[type["DiskFullError"], tuple[str, float, int, int]]:
        """Pickle the arguments, from which the message is made again."""
        return type(self), (self.folder, self.free_mb, self.done, self.total)


class MissingVariableError(BatutaError):
    """No tile has a variable that was to be saved; all else is computed and saved.

    Parameters
    ----------
    problems : iterable of str
        A line for each file that is not written: the variable, and those that tiles have.
    """

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))

    def __reduce__(self) -> tuple[type["MissingVariableError"], tuple[tuple[str, ...]]]:
        """Pickle the arguments, from which the message is made again."""
        return type(self), (self.problems,)


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
        super().__init__(f"{len(self.failures)} of {format_count(total, 'tile')} failed:{lines}")

    def summary(self) -> str:
        """Return the first tile of each reason, in one line."""
        tiles = format_count(self.total, "tile")
        parts = []
        for same in _by_reason(self.failures):
            more = f" and {len(same) - 1} more" if len(same) > 1 else ""
            first = same[0]
            parts.append(
                f"{first.dataset_name}[{first.row}, {first.col}]{more}: {one_line(first.reason)}"
            )
        return f"{len(self.failures)} of {tiles} failed: {'; '.join(parts)}"

    def __reduce__(self) -> tuple[type["TilesFailedError"], tuple[tuple[TileFailure, ...], int]]:
        """Pickle the arguments, from which the message is made again."""
        return type(self), (self.failures, self.total)


def _by_reason(failures: Iterable[TileFailure]) -> list[list[TileFailure]]:
    found: dict[str, list[TileFailure]] = {}
    for failure in failures:
        found.setdefault(failure.reason, []).append(failure)
    return list(found.values())


def _listed(failures: Iterable[TileFailure]) -> Iterator[str]:
    """Return a line per failure, for the first `MAX_LISTED` of each reason."""
    for same in _by_reason(failures):
        yield from map(str, islice(same, MAX_LISTED))
        if len(same) > MAX_LISTED:
            yield f"and {len(same) - MAX_LISTED} more for the same reason"
