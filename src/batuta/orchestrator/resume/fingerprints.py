"""Fingerprints of what the tiles of a CarsDataset are computed from, to detect changes."""

import itertools
import pickle
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from batuta.cluster.tasks import Delayed, Task
from batuta.errors import ConfigurationError, one_line
from batuta.orchestrator.contract import TileGrid
from batuta.orchestrator.resume.code import package_of_task, sources_of
from batuta.orchestrator.resume.digests import Digester


@dataclass(frozen=True, kw_only=True)
class DatasetFingerprint:
    """The fingerprint of a dataset, of all its tiles.

    Parameters
    ----------
    grid : str
        Digest of the type, the tiling and the overlaps.
    functions : dict of str to str
        Name of each function that some tile needs, with the digest of its code.
    tiles : str
        Digest of the whole task graph: functions, arguments and dependencies.
    """

    grid: str
    functions: dict[str, str]
    tiles: str


class Fingerprinter:
    """Computes the fingerprints of one run, and digests each task once, whatever needs it."""

    def __init__(self) -> None:
        self._digester = Digester(self._of_delayed)
        self._tasks: dict[Task, bytes] = {}
        self._packages: dict[Path, bytes] = {}

    def of_dataset(self, dataset: TileGrid) -> DatasetFingerprint:
        """Return the fingerprint of a dataset.

        Raises
        ------
        ConfigurationError
            Naming the task whose arguments cannot be pickled.
        """
        functions: dict[str, str] = {}
        visited: set[Task] = set()
        cells: list[bytes] = []
        for row, col in itertools.product(*map(range, dataset.shape)):
            cell = dataset[row, col]
            for task in _unvisited_tasks(cell, visited):
                self._digest_task(task)
                if (name := _name(task)) not in functions:
                    functions[name] = self._of_function(task.function).hex()
            cells.append(self._of_cell(cell))
        grid = (dataset.dataset_type, dataset.tiling_grid, dataset.overlaps)
        return DatasetFingerprint(
            grid=self._digester.digest(grid).hex(),
            functions=functions,
            tiles=self._digester.digest(cells).hex(),
        )

    def of_value(self, value: Any) -> str:
        """Return the fingerprint of any other value."""
        return self._digester.digest(value).hex()

    def _of_function(self, function: Any) -> bytes:
        """Digest the function of a task, and every file of the installed package it comes from."""
        package = package_of_task(function)
        if package is not None and package not in self._packages:
            self._packages[package] = self._digester.digest(
                [self._digester.digest(each) for each in sources_of(package)]
            )
        return self._digester.digest((function, package and self._packages[package]))

    def _digest_task(self, task: Task) -> None:
        if task in self._tasks:
            return
        try:
            call = (task.function, task.args, dict(task.kwargs), task.nout)
            self._tasks[task] = self._digester.digest(call)
        except (pickle.PicklingError, TypeError, AttributeError, RecursionError) as exc:
            raise _unreadable(f"the arguments of task {task.name}", exc) from exc

    def _of_cell(self, cell: Any) -> bytes:
        try:
            return self._digester.digest(cell)
        except (pickle.PicklingError, TypeError, AttributeError, RecursionError) as exc:
            raise _unreadable("a tile that is computed already", exc) from exc

    def _of_delayed(self, delayed: Delayed) -> bytes:
        if delayed.task not in self._tasks:
            raise TypeError(f"{delayed!r} was added to an argument after the task was created")
        return self._tasks[delayed.task] + delayed.index.to_bytes(4, "little")


def _unvisited_tasks(cell: Any, visited: set[Task]) -> Iterator[Task]:
    """Return the tasks that a tile needs and that were not visited, dependencies first."""
    if not isinstance(cell, Delayed) or cell.task in visited:
        return
    visited.add(cell.task)
    # A stack of our own: a chain of tasks may be longer than Python's recursion limit.
    stack = [(cell.task, iter(cell.task.dependencies))]
    while stack:
        task, dependencies = stack[-1]
        unvisited = next((each.task for each in dependencies if each.task not in visited), None)
        if unvisited is None:
            yield task
            stack.pop()
        else:
            visited.add(unvisited)
            stack.append((unvisited, iter(unvisited.dependencies)))


def _name(task: Task) -> str:
    """Return the qualified name of what a task calls; of partials and the like, of their class."""
    function = task.function
    named = function if hasattr(function, "__qualname__") else type(function)
    return f"{named.__module__}.{named.__qualname__}"


def _unreadable(what: str, error: BaseException) -> ConfigurationError:
    reason = one_line(error)
    return ConfigurationError(
        f"resume: {what} cannot be pickled, and so cannot be compared with an earlier run: {reason}"
    )
