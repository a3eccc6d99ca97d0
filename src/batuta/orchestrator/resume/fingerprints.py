"""What the tiles of a CarsDataset are computed from, so that a change is found."""

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
class Fingerprint:
    """Of all tiles of a dataset.

    Parameters
    ----------
    grid : str
        Type, tiling and overlaps.
    functions : dict of str to str
        Name and code of each function that some tile needs.
    tiles : str
        All of the task graph: functions, arguments, and who takes whose results.
    """

    grid: str
    functions: dict[str, str]
    tiles: str


class Fingerprints:
    """Takes the fingerprints of one run: each task is read once, whatever it feeds."""

    def __init__(self) -> None:
        self._digester = Digester(self._of_delayed)
        self._tasks: dict[Task, bytes] = {}
        self._packages: dict[Path, bytes] = {}

    def of_dataset(self, dataset: TileGrid) -> Fingerprint:
        """Take the fingerprint of a dataset.

        Raises
        ------
        ConfigurationError
            Naming the task whose arguments cannot be read.
        """
        functions: dict[str, str] = {}
        seen: set[Task] = set()
        cells: list[bytes] = []
        for row, col in itertools.product(*map(range, dataset.shape)):
            cell = dataset[row, col]
            for task in _graph_of(cell, seen):
                self._read(task)
                if (name := _name(task)) not in functions:
                    functions[name] = self._of_function(task.function).hex()
            cells.append(self._of_cell(cell))
        grid = (dataset.dataset_type, dataset.tiling_grid, dataset.overlaps)
        return Fingerprint(
            grid=self._digester.of(grid).hex(),
            functions=functions,
            tiles=self._digester.of(cells).hex(),
        )

    def of_value(self, value: Any) -> str:
        """Take the fingerprint of anything else."""
        return self._digester.of(value).hex()

    def _of_function(self, function: Any) -> bytes:
        """Digest the function of a task, and all of the installed package that it comes from."""
        package = package_of_task(function)
        if package is not None and package not in self._packages:
            self._packages[package] = self._digester.of(
                [self._digester.of(each) for each in sources_of(package)]
            )
        return self._digester.of((function, package and self._packages[package]))

    def _read(self, task: Task) -> None:
        if task in self._tasks:
            return
        try:
            call = (task.function, task.args, dict(task.kwargs), task.nout)
            self._tasks[task] = self._digester.of(call)
        except (pickle.PicklingError, TypeError, AttributeError, RecursionError) as exc:
            raise _unreadable(f"the arguments of task {task.name}", exc) from exc

    def _of_cell(self, cell: Any) -> bytes:
        try:
            return self._digester.of(cell)
        except (pickle.PicklingError, TypeError, AttributeError, RecursionError) as exc:
            raise _unreadable("a tile that is there already", exc) from exc

    def _of_delayed(self, delayed: Delayed) -> bytes:
        if delayed.task not in self._tasks:
            raise TypeError(f"{delayed!r} was put in an argument after its task was declared")
        return self._tasks[delayed.task] + delayed.index.to_bytes(4, "little")


def _graph_of(cell: Any, seen: set[Task]) -> Iterator[Task]:
    """Return the tasks that a tile needs and that were not seen, each after what it depends on."""
    if not isinstance(cell, Delayed) or cell.task in seen:
        return
    seen.add(cell.task)
    waiting = [(cell.task, iter(cell.task.dependencies))]
    while waiting:
        task, dependencies = waiting[-1]
        fresh = next((each.task for each in dependencies if each.task not in seen), None)
        if fresh is None:
            yield task
            waiting.pop()
        else:
            seen.add(fresh)
            waiting.append((fresh, iter(fresh.dependencies)))


def _name(task: Task) -> str:
    """Name what a task calls, the same in every run; of partials and the like, their class."""
    function = task.function
    named = function if hasattr(function, "__qualname__") else type(function)
    return f"{named.__module__}.{named.__qualname__}"


def _unreadable(what: str, error: BaseException) -> ConfigurationError:
    reason = one_line(error)
    return ConfigurationError(
        f"resume: {what} cannot be pickled, and so not compared with an earlier run ({reason})"
    )
