"""Lanes: worker processes of one machine that replaced each other, as one row of a timeline.

Processes are replaced after some tasks, so that two workers may be hundreds of processes.
"""

import heapq
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd

_TOLERANCE_S: Final = 0.001
"""Start and duration of a task are read from two different clocks."""
_OVERLAP: Final = 0.25
"""Share of the shorter of two lifetimes by which a process may overlap its predecessor."""


@dataclass(frozen=True, kw_only=True)
class LaneStats:
    """Statistics of one lane."""

    lane: int
    host: str
    processes: int
    """Number of its worker processes."""
    attempts: int
    busy_s: float
    first_s: float
    """Start of its first task, Unix time."""
    last_s: float
    """End of its last task, Unix time."""
    longest_gap_s: float
    """Longest idle time between two of its tasks."""
    peak_bytes: int


def assign_lanes(attempts: pd.DataFrame, places: int | None) -> pd.DataFrame:
    """Add the column ``lane`` to attempts: processes are packed into lanes by their lifetimes.

    A process lives from the start of its first task to the end of its last. It goes to the lane
    of its machine that became free first, or to a new one where none is free. A worker may still
    be finishing its last task when its replacement starts, so that once there are as many lanes
    as workers, lifetimes in a lane may overlap a little.

    Parameters
    ----------
    attempts : DataFrame
        As `attempts_frame` returns them.
    places : int, optional
        Maximum number of processes at a time; None where unknown.
    """
    lives = attempts.groupby("process").agg(
        host=("host", "first"), first_s=("start_s", "min"), last_s=("end_s", "max")
    )
    packing = _Packing(places)
    lanes = np.zeros(len(lives), dtype=np.int64)
    for process, host, first_s, last_s in lives.itertuples():
        lanes[process] = packing.lane_of(host, first_s, last_s)
    return attempts.assign(lane=lanes[attempts["process"].to_numpy()])


class _Packing:
    """Greedy interval partitioning: processes must be added in the order of their starts."""

    def __init__(self, places: int | None) -> None:
        self._places = places
        self._ended: dict[str, list[tuple[float, float, int]]] = {}
        """By host, a heap: end and length of the last lifetime in each lane, and the lane."""
        self._count = 0

    def lane_of(self, host: str, first_s: float, last_s: float) -> int:
        """Return the lane of a process."""
        ended = self._ended.setdefault(host, [])
        life_s = last_s - first_s
        if ended and ended[0][0] - first_s <= self._overlap_s(min(life_s, ended[0][1])):
            lane = heapq.heappop(ended)[2]
        else:
            lane, self._count = self._count, self._count + 1
        heapq.heappush(ended, (last_s, life_s, lane))
        return lane

    def _overlap_s(self, life_s: float) -> float:
        full = self._places is not None and self._count >= self._places
        return max(_TOLERANCE_S, _OVERLAP * life_s if full else 0.0)


def find_gaps(attempts: pd.DataFrame) -> pd.DataFrame:
    """Find the idle times of lanes between two tasks.

    Parameters
    ----------
    attempts : DataFrame
        With lanes.

    Returns
    -------
    DataFrame
        ``lane``, ``start_s`` and ``end_s`` (Unix) of each gap.
    """
    ordered = attempts.sort_values(["lane", "start_s"], kind="stable")
    end_s = ordered.groupby("lane")["end_s"].cummax()
    before_s = end_s.groupby(ordered["lane"]).shift()
    gaps = pd.DataFrame({"lane": ordered["lane"], "start_s": before_s, "end_s": ordered["start_s"]})
    return gaps[gaps["end_s"] > gaps["start_s"]].reset_index(drop=True)


def lane_stats(attempts: pd.DataFrame, gaps: pd.DataFrame) -> tuple[LaneStats, ...]:
    """Return the statistics of each lane."""
    summed = attempts.groupby("lane").agg(
        host=("host", "first"),
        processes=("process", "nunique"),
        attempts=("task", "size"),
        busy_s=("wall_s", "sum"),
        first_s=("start_s", "min"),
        last_s=("end_s", "max"),
        peak_bytes=("peak_bytes", "max"),
    )
    longest = (gaps["end_s"] - gaps["start_s"]).groupby(gaps["lane"]).max()
    summed["longest_gap_s"] = longest.reindex(summed.index, fill_value=0.0).astype(float)
    rows: Any = summed.reset_index().to_dict("records")
    return tuple(LaneStats(**row) for row in rows)
