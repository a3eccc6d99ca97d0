"""Divide the time of the workers into work and kinds of idle time."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class WorkerTime:
    """The time of all workers, from start to end of the run, s; the parts add up to the total."""

    worked_s: float
    """In successful attempts."""
    failed_s: float
    """In attempts that failed or were lost."""
    starting_s: float
    """Idle before the first task of each worker."""
    ending_s: float
    """Idle after the last task of each worker."""
    delayed_s: float
    """Idle between two tasks although a task was ready: submitting tasks, starting processes,
    pauses while tiles are saved."""
    starved_s: float
    """Idle between two tasks, while all remaining tasks waited for results of others."""
    unused_s: float
    """Of workers that never ran a task."""

    @property
    def total_s(self) -> float:
        """Sum of all parts."""
        return self.worked_s + self.failed_s + self.idle_s

    @property
    def between_s(self) -> float:
        """Idle between tasks, for any reason."""
        return self.delayed_s + self.starved_s

    @property
    def idle_s(self) -> float:
        """Sum of all idle times."""
        return self.starting_s + self.ending_s + self.between_s + self.unused_s


def measure_worker_time(
    attempts: pd.DataFrame, gaps: pd.DataFrame, span_s: tuple[float, float], workers: int
) -> WorkerTime:
    """Divide the time of the workers into its parts.

    Parameters
    ----------
    attempts, gaps : DataFrame
        With lanes, and as `find_gaps` returns them.
    span_s : tuple of float
        Start and end of the run, Unix time.
    workers : int
        The number of workers.
    """
    begin_s, end_s = span_s
    lanes = attempts.groupby("lane").agg(first_s=("start_s", "min"), last_s=("end_s", "max"))
    gap_s = (gaps["end_s"] - gaps["start_s"]).sum()
    delayed_s = _time_while_tasks_waited(attempts, gaps)
    done = attempts["done"]
    return WorkerTime(
        worked_s=float(attempts.loc[done, "wall_s"].sum()),
        failed_s=float(attempts.loc[~done, "wall_s"].sum()),
        starting_s=float((lanes["first_s"] - begin_s).clip(lower=0).sum()),
        ending_s=float((end_s - lanes["last_s"]).clip(lower=0).sum()),
        delayed_s=delayed_s,
        starved_s=float(gap_s) - delayed_s,
        unused_s=max(0, workers - len(lanes)) * (end_s - begin_s),
    )


def _time_while_tasks_waited(attempts: pd.DataFrame, gaps: pd.DataFrame) -> float:
    """Return the time in gaps during which some task was ready."""
    waited = attempts[attempts["waiting_s"] > 0]
    starts = waited["start_s"].to_numpy()
    edges, covered = _union_of_intervals(starts - waited["waiting_s"].to_numpy(), starts)
    if not len(edges):
        return 0.0
    until = np.interp(gaps["end_s"].to_numpy(), edges, covered)
    before = np.interp(gaps["start_s"].to_numpy(), edges, covered)
    return float((until - before).sum())


def _union_of_intervals(
    starts: NDArray[np.float64], ends: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return moments, and how much of the time up to each is in some of the intervals."""
    order = np.argsort(starts, kind="stable")
    starts, ends = starts[order], np.maximum.accumulate(ends[order])
    # A new stretch starts where an interval starts after all earlier ones have ended.
    first = np.ones(len(starts), dtype=bool)
    first[1:] = starts[1:] > ends[:-1]
    last = np.append(first[1:], True)[: len(starts)]
    begins, stops = starts[first], ends[last]
    edges = np.column_stack([begins, stops]).ravel()
    lengths = np.column_stack([np.zeros(len(begins)), stops - begins]).ravel()
    return edges, np.cumsum(lengths)
