"""The graph of tasks as arrays: a hundred thousand tasks are traversed at once."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray


@dataclass(frozen=True)
class TaskGraph:
    """Tasks and their dependencies, each task referred to by its index in `numbers`."""

    numbers: NDArray[np.int64]
    """Of the tasks, ascending: the dependencies of a task come before it."""
    starts: NDArray[np.int64]
    """Task `i` depends on ``dependencies[starts[i]:starts[i + 1]]``."""
    dependencies: NDArray[np.int64]

    def __len__(self) -> int:
        """Return the number of tasks."""
        return len(self.numbers)

    def indices(self, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the index of each task number; -1 where no such task is known."""
        if not len(self):
            return np.full(len(numbers), -1, dtype=np.int64)
        found = np.searchsorted(self.numbers, numbers).clip(max=len(self) - 1)
        return np.where(self.numbers[found] == numbers, found, -1)

    def dependency_lists(self) -> list[list[int]]:
        """Return the dependencies of each task, as lists."""
        dependencies, starts = self.dependencies.tolist(), self.starts.tolist()
        return [dependencies[starts[i] : starts[i + 1]] for i in range(len(self))]


def graph_of(tasks: pa.Table) -> TaskGraph:
    """Read the graph of a table of attempts (`TASK_SCHEMA`).

    Tasks that are not in the table are left out: they were kept from an earlier run, or had not
    run yet. So are dependencies on a task with a higher number: a garbled table could have cycles.
    """
    numbers, first = np.unique(tasks["task"].to_numpy(), return_index=True)
    after = tasks["after"].take(pa.array(first)).combine_chunks()
    lengths = pc.fill_null(pc.list_value_length(after), 0).to_numpy(zero_copy_only=False)
    owners = np.repeat(np.arange(len(numbers)), lengths)
    no_edges = TaskGraph(numbers, np.zeros(len(numbers) + 1, np.int64), np.zeros(0, np.int64))
    dependencies = no_edges.indices(after.flatten().to_numpy(zero_copy_only=False))
    known = (dependencies >= 0) & (dependencies < owners)
    counts = np.bincount(owners[known], minlength=len(numbers))
    starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    return TaskGraph(numbers, starts, dependencies[known])


def nearest_owners(graph: TaskGraph, owners: NDArray[np.int64]) -> NDArray[np.int64]:
    """Assign each task to the nearest owner that it leads to.

    Parameters
    ----------
    graph : TaskGraph
        The tasks.
    owners : ndarray of int
        Indices of the owners; -1 is none. An owner belongs to itself, another task to the first
        of the owners that it leads to without passing through another owner.

    Returns
    -------
    ndarray of int
        For each task the position of its owner in `owners`; -1 where it has none.
    """
    assigned = [-1] * len(graph)
    for position, task in enumerate(owners.tolist()):
        if task >= 0 and assigned[task] < 0:
            assigned[task] = position
    dependencies = graph.dependency_lists()
    for position, owner in enumerate(owners.tolist()):
        stack = [owner] if owner >= 0 and assigned[owner] == position else []
        while stack:
            for task in dependencies[stack.pop()]:
                if assigned[task] < 0:
                    assigned[task] = position
                    stack.append(task)
    return np.array(assigned, dtype=np.int64)
