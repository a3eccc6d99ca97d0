"""Workers over time. Processes are renewed, so hundreds may pass through two places.

A lane is such a place: processes of one machine that followed each other.
"""

import heapq
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd

_TOLERANCE_S: Final = 0.001
"""Begin and duration of a task are read from two clocks."""
_OVERLAP: Final = 0.25
"""Of the shorter of two lives, where one process follows another."""


@dataclass(frozen=True, kw_only=True)
class LaneStats:
    """What one lane did."""

    lane: int
    host: str
    processes: int
    """Worker processes that passed through it."""
    attempts: int
    busy_s: float
    first_s: float
    """Begin of its first task, Unix time."""
    last_s: float
    """End of its last task, Unix time."""
    longest_gap_s: float
    """Between two of its tasks."""
    peak_bytes: int


def assign_lanes(attempts: pd.DataFrame, places: int | None) -> pd.DataFrame:
    """Add to attempts the column ``lane``: processes packed by their life spans.

    A process lives from the begin of its first task to the end of its last. It takes the lane of
    its machine that was free first, or a new one where none was. A worker that is renewed may
    still end its last task when its successor begins: where there are as many lanes as places,
    they may overlap a little.

    Parameters
    ----------
    attempts : DataFrame
        As `attempts_frame` gives them.
    places : int, optional
        How many processes may run at a time; None where that is not known.
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
    """Lanes in use, for processes that come in the order of their begins."""

    def __init__(self, places: int | None) -> None:
        self._places = places
        self._ended: dict[str, list[tuple[float, float, int]]] = {}
        """By host: end and length of the last life in each lane, and the lane."""
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
    """Find when lanes did nothing between two tasks.

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
    """Sum up what each lane did."""
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
