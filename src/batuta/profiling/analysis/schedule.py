"""Lower bounds of the run time: the critical path, and a simulated schedule without overhead."""

import heapq
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from batuta.profiling.files.task_graph import TaskGraph


@dataclass(frozen=True, kw_only=True)
class ScheduleStep:
    """A task of the critical path."""

    task: int
    name: str
    wall_s: float
    dataset: str | None
    row: int | None
    col: int | None


@dataclass(frozen=True, kw_only=True)
class ScheduleBounds:
    """The measured time, and what bounds it."""

    measured_s: float
    workers: int
    work_s: float
    """Sum of the durations of all tasks."""
    perfect_s: float
    """Of a simulated schedule on as many workers, without overhead between tasks."""
    critical_s: float
    """Length of the critical path: the longest chain of dependent tasks."""
    critical_path: tuple[ScheduleStep, ...]

    @property
    def shared_s(self) -> float:
        """The work divided evenly among the workers."""
        return self.work_s / self.workers


class SimulatedSchedule:
    """Simulate schedules of tasks with known durations.

    Parameters
    ----------
    graph : TaskGraph
        The tasks.
    durations_s : ndarray of float
        Of each.
    """

    def __init__(self, graph: TaskGraph, durations_s: NDArray[np.float64]) -> None:
        self._dependencies = graph.dependency_lists()
        self._durations = durations_s.tolist()
        self.work_s = float(durations_s.sum())
        self._dependents: list[list[int]] = [[] for _ in self._dependencies]
        for task, dependencies in enumerate(self._dependencies):
            for before in dependencies:
                self._dependents[before].append(task)
        self._remaining_s = self._longest_chains_s()
        self.critical_s = max(self._remaining_s, default=0.0)

    def __len__(self) -> int:
        """Return the number of tasks."""
        return len(self._dependencies)

    def _longest_chains_s(self) -> list[float]:
        """Return for each task the duration of the longest chain that starts with it."""
        after = [0.0] * len(self._dependencies)
        for task in range(len(self._dependencies) - 1, -1, -1):
            after[task] += self._durations[task]
            for before in self._dependencies[task]:
                after[before] = max(after[before], after[task])
        return after

    def critical_path(self) -> list[int]:
        """Return the indices of the tasks of the critical path, in order."""
        path: list[int] = []
        ahead = list(range(len(self._dependencies)))
        while ahead:
            path.append(max(ahead, key=self._remaining_s.__getitem__))
            ahead = self._dependents[path[-1]]
        return path

    def makespan_s(self, workers: int) -> float:
        """Simulate list scheduling: a free worker takes the ready task with the longest chain left.

        The makespan is at most twice that of the optimal schedule, and mostly within a few
        percent of it (R. L. Graham, "Bounds on multiprocessing timing anomalies", 1969).
        """
        if workers >= len(self):
            return self.critical_s
        if workers == 1:
            return self.work_s
        unmet = [len(dependencies) for dependencies in self._dependencies]
        ready = [(-left, task) for task, left in enumerate(self._remaining_s) if not unmet[task]]
        heapq.heapify(ready)
        running: list[tuple[float, int]] = []
        now_s = 0.0
        while ready or running:
            while ready and len(running) < workers:
                task = heapq.heappop(ready)[1]
                heapq.heappush(running, (now_s + self._durations[task], task))
            now_s, ended = heapq.heappop(running)
            for task in self._dependents[ended]:
                unmet[task] -= 1
                if not unmet[task]:
                    heapq.heappush(ready, (-self._remaining_s[task], task))
        return now_s

    def fewest_workers(self, limit_s: float, most: int) -> int:
        """Return the fewest workers that need at most `limit_s`; `most` if none does."""
        enough = max(1, int(np.ceil(self.work_s / limit_s - 1e-9))) if limit_s > 0 else 1
        too_few, step = enough - 1, 1
        while enough < most and self.makespan_s(enough) > limit_s:
            too_few, enough, step = enough, enough + step, step * 2
        enough = min(enough, most)
        while enough - too_few > 1:
            middle = (too_few + enough) // 2
            if self.makespan_s(middle) > limit_s:
                too_few = middle
            else:
                enough = middle
        return enough


def task_durations_s(attempts: pd.DataFrame) -> NDArray[np.float64]:
    """Return the wall time (s) of the attempt that counts for each task, by ascending number.

    It is the last successful attempt, or the last one where none was successful.
    """
    ordered = attempts.sort_values(["task", "done", "attempt"], kind="stable")
    return ordered.drop_duplicates("task", keep="last")["wall_s"].to_numpy(dtype=np.float64)


def describe_steps(attempts: pd.DataFrame, numbers: NDArray[np.int64]) -> tuple[ScheduleStep, ...]:
    """Describe the tasks with these numbers, in that order."""
    ordered = attempts[attempts["task"].isin(numbers)].sort_values(["task", "done", "attempt"])
    known = ordered.drop_duplicates("task", keep="last").set_index("task").loc[numbers]
    rows: Any = known.reset_index().to_dict("records")
    return tuple(_step(row) for row in rows)


def _step(row: dict[str, Any]) -> ScheduleStep:
    placed = isinstance(row["dataset"], str)
    return ScheduleStep(
        task=int(row["task"]),
        name=row["name"],
        wall_s=row["wall_s"],
        dataset=row["dataset"] if placed else None,
        row=int(row["row"]) if placed else None,
        col=int(row["col"]) if placed else None,
    )
