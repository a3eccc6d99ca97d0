"""Many tasks in few bins: a screen has a thousand pixels, and a run a hundred thousand tasks."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray


def busy_time_per_bin(
    attempts: pd.DataFrame,
    keys: Sequence[str],
    edges_s: NDArray[np.float64],
) -> dict[tuple[object, ...], NDArray[np.float64]]:
    """Share out the time of attempts over bins.

    Parameters
    ----------
    attempts : DataFrame
        With lanes.
    keys : sequence of str
        Columns: attempts with the same values in them are counted together.
    edges_s : ndarray of float
        Of the bins, ascending, Unix time; one more than bins.

    Returns
    -------
    dict
        By the values of `keys`, the busy time (s) in each bin.
    """
    found: dict[tuple[object, ...], NDArray[np.float64]] = {}
    ordered = attempts.sort_values("start_s", kind="stable")
    # Attempts of one lane follow each other: their covered time grows with time.
    for values, part in ordered.groupby([*keys, "lane"], sort=False, observed=True):
        key = tuple(values)[:-1]
        busy = np.diff(_covered_time_until(part, edges_s))
        found[key] = found[key] + busy if key in found else busy
    return found


def _covered_time_until(
    attempts: pd.DataFrame, moments_s: NDArray[np.float64]
) -> NDArray[np.float64]:
    starts = attempts["start_s"].to_numpy()
    ends = np.maximum.accumulate(attempts["end_s"].to_numpy())
    starts = np.maximum(starts, np.concatenate([starts[:1], ends[:-1]]))
    ends = np.maximum(starts, ends)
    edges = np.column_stack([starts, ends]).ravel()
    lengths = np.column_stack([np.zeros(len(starts)), ends - starts]).ravel()
    covered: NDArray[np.float64] = np.interp(moments_s, edges, np.cumsum(lengths))
    return covered


def peak_memory_per_bin(
    attempts: pd.DataFrame, edges_s: NDArray[np.float64]
) -> dict[int, NDArray[np.float64]]:
    """Return for each lane the highest peak (bytes) of the attempts that began in each bin.

    NaN where none began.
    """
    bins = len(edges_s) - 1
    place = np.searchsorted(edges_s, attempts["start_s"].to_numpy(), side="right") - 1
    place = place.clip(0, bins - 1)
    highest = attempts["peak_bytes"].groupby([attempts["lane"], place]).max()
    found: dict[int, NDArray[np.float64]] = {}
    for lane, part in highest.groupby(level=0):
        values = np.full(bins, np.nan)
        values[part.index.get_level_values(1)] = part.to_numpy()
        found[int(str(lane))] = values
    return found


def downsample(grid: NDArray[np.float64], most: int) -> tuple[NDArray[np.float64], int]:
    """Shrink a grid to at most `most` cells each way; each cell is the highest of its block.

    Returns
    -------
    ndarray, int
        The grid, and how many tiles a cell is high and wide.
    """
    side = -(-max(grid.shape) // most)
    if side == 1:
        return grid, 1
    rows, cols = (-(-length // side) for length in grid.shape)
    padded = np.full((rows * side, cols * side), -np.inf)
    padded[: grid.shape[0], : grid.shape[1]] = np.nan_to_num(grid, nan=-np.inf)
    blocks = padded.reshape(rows, side, cols, side).max(axis=(1, 3))
    return np.where(np.isinf(blocks), np.nan, blocks), side
