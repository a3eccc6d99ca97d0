"""Which task takes results of which, as arrays: a hundred thousand tasks are walked at once."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray


@dataclass(frozen=True)
class TaskGraph:
    """Tasks and what they take, each known by its index in `numbers`."""

    numbers: NDArray[np.int64]
    """Of the tasks, ascending: what a task takes comes before it."""
    starts: NDArray[np.int64]
    """Task `i` takes the results of ``before[starts[i]:starts[i + 1]]``."""
    before: NDArray[np.int64]

    def __len__(self) -> int:
        """Return the number of tasks."""
        return len(self.numbers)

    def indices(self, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the index of each task number; -1 where no such task is known."""
        if not len(self):
            return np.full(len(numbers), -1, dtype=np.int64)
        found = np.searchsorted(self.numbers, numbers).clip(max=len(self) - 1)
        return np.where(self.numbers[found] == numbers, found, -1)

    def taken(self) -> list[list[int]]:
        """List for each task what it takes."""
        before, starts = self.before.tolist(), self.starts.tolist()
        return [before[starts[i] : starts[i + 1]] for i in range(len(self))]


def graph_of(tasks: pa.Table) -> TaskGraph:
    """Read the graph of a table of attempts (`TASK_SCHEMA`).

    Tasks that are not in the table are left out: they were kept from an earlier run, or had not
    run yet. So is what breaks the order of declaration, in which there is no cycle.
    """
    numbers, first = np.unique(tasks["task"].to_numpy(), return_index=True)
    after = tasks["after"].take(pa.array(first)).combine_chunks()
    lengths = pc.fill_null(pc.list_value_length(after), 0).to_numpy(zero_copy_only=False)
    owners = np.repeat(np.arange(len(numbers)), lengths)
    bare = TaskGraph(numbers, np.zeros(len(numbers) + 1, np.int64), np.zeros(0, np.int64))
    before = bare.indices(after.flatten().to_numpy(zero_copy_only=False))
    known = (before >= 0) & (before < owners)
    counts = np.bincount(owners[known], minlength=len(numbers))
    starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    return TaskGraph(numbers, starts, before[known])


def nearest(graph: TaskGraph, owners: NDArray[np.int64]) -> NDArray[np.int64]:
    """Share tasks out among those that own something.

    Parameters
    ----------
    graph : TaskGraph
        The tasks.
    owners : ndarray of int
        Indices of the tasks that own; -1 is none. A task belongs to itself where it owns,
        else to the first of the owners that it leads to without passing by another.

    Returns
    -------
    ndarray of int
        For each task the position in `owners` of whom it belongs to; -1 where to none.
    """
    found = [-1] * len(graph)
    for position, task in enumerate(owners.tolist()):
        if task >= 0 and found[task] < 0:
            found[task] = position
    taken = graph.taken()
    for position, owner in enumerate(owners.tolist()):
        left = [owner] if owner >= 0 and found[owner] == position else []
        while left:
            for task in taken[left.pop()]:
                if found[task] < 0:
                    found[task] = position
                    left.append(task)
    return np.array(found, dtype=np.int64)
