"""Find leaks: memory that grows with each repetition of a task, distinguished from noise."""

from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

_WARM_UP: Final = 1
"""Repetitions left out: the first call fills caches and imports modules, which is no leak."""
_Z: Final = 1.959964
"""Standard deviations on each side of a 95 % confidence interval."""


NOISE_BYTES: Final = 8192
"""Smaller growth per repetition is no leak: memory is allocated in pages, and heaps settle."""


@dataclass(frozen=True, kw_only=True)
class LeakingLine:
    """A line whose allocations are never freed, found by memray."""

    file: str
    line: int
    function: str
    bytes_per_loop: int
    """The median over the tasks in which it was seen."""


@dataclass(frozen=True, kw_only=True)
class MemoryGrowth:
    """How memory grew with the repetitions of the tasks of one name."""

    name: str
    tasks: int
    repetitions: int
    """Of each task, at most."""
    slope_bytes: float | None
    """Per repetition; None where there are too few."""
    low_bytes: float | None
    """Lower bound of the slope, 95 % confidence."""
    high_bytes: float | None
    """Upper bound of the slope."""
    lines: tuple[LeakingLine, ...] = ()
    """With memray, the largest leak first."""

    @property
    def leaks(self) -> bool:
        """Whether the growth is significantly above noise."""
        return self.low_bytes is not None and self.low_bytes > NOISE_BYTES


def memory_growth(loops: pa.Table, leaks: pa.Table) -> tuple[MemoryGrowth, ...]:
    """Fit the memory after each repetition, for each task name; leaks first.

    The slope is the median of the slopes between any two repetitions of the same task, which no
    single jump changes (Theil and Sen; for several tasks Hirsch, Slack and Smith, "Techniques of
    trend analysis for monthly water quality data", 1982). Its bounds are those of Kendall's
    test.

    Parameters
    ----------
    loops, leaks : pyarrow.Table
        Of `LOOP_SCHEMA` and `LEAK_SCHEMA`.
    """
    frame: pd.DataFrame = loops.to_pandas()
    found: pd.DataFrame = leaks.to_pandas()
    fitted = [
        _fit(str(name), rows, _lines(found[found["name"] == name]))
        for name, rows in frame.groupby("name", sort=False)
    ]
    return tuple(sorted(fitted, key=lambda one: (not one.leaks, -(one.slope_bytes or 0))))


def _lines(leaks: pd.DataFrame) -> tuple[LeakingLine, ...]:
    groups = leaks.groupby(["file", "line", "function"])["bytes_per_loop"]
    medians = groups.median().sort_values(ascending=False, kind="stable").reset_index()
    return tuple(
        LeakingLine(file=file, line=line, function=function, bytes_per_loop=round(size))
        for file, line, function, size in medians.itertuples(index=False)
    )


def _fit(name: str, rows: pd.DataFrame, lines: tuple[LeakingLine, ...]) -> MemoryGrowth:
    # Each attempt repeats the task anew, mostly in another process: slopes across are meaningless.
    series = [
        ordered.iloc[_WARM_UP:]
        for _, part in rows.groupby(["task", "worker"], sort=False)
        for ordered in [part.sort_values("loop", kind="stable")]
    ]
    pairs = [
        _pairs(part["loop"].to_numpy(np.float64), part["held_bytes"].to_numpy(np.float64))
        for part in series
    ]
    slopes = np.sort(np.concatenate([part for part, _ in pairs]))
    low, high = _bounds(slopes, sum(variance for _, variance in pairs))
    return MemoryGrowth(
        name=name,
        tasks=int(rows["task"].nunique()),
        repetitions=int(rows["loop"].nunique()),
        slope_bytes=float(np.median(slopes)) if len(slopes) else None,
        low_bytes=low,
        high_bytes=high,
        lines=lines,
    )


def _pairs(
    loops: NDArray[np.float64], held: NDArray[np.float64]
) -> tuple[NDArray[np.float64], float]:
    """Slopes between any two repetitions, and the variance of Kendall's sum of their signs."""
    one, other = np.triu_indices(len(loops), k=1)
    apart = loops[other] != loops[one]
    one, other = one[apart], other[apart]
    slopes = (held[other] - held[one]) / (loops[other] - loops[one])
    _, ties = np.unique(held, return_counts=True)
    return slopes, _signs_variance(np.array([len(loops)])) - _signs_variance(ties)


def _signs_variance(counts: NDArray[np.int64]) -> float:
    return float((counts * (counts - 1) * (2 * counts + 5) / 18).sum())


def _bounds(slopes: NDArray[np.float64], variance: float) -> tuple[float | None, float | None]:
    """Bounds of the median slope, by rank; None where there are too few slopes."""
    half = _Z * np.sqrt(variance)
    low = round((len(slopes) - half) / 2) - 1
    high = round((len(slopes) + half) / 2)
    if low < 0 or high >= len(slopes):
        return None, None
    return float(slopes[low]), float(slopes[high])
