"""Aggregate tasks in bins: a screen has a thousand pixels, a run may have 100,000 tasks."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray


def busy_time_per_bin(
    attempts: pd.DataFrame,
    keys: Sequence[str],
    edges_s: NDArray[np.float64],
) -> dict[tuple[object, ...], NDArray[np.float64]]:
    """Sum the busy time of attempts in each bin of time.

    Parameters
    ----------
    attempts : DataFrame
        With lanes.
    keys : sequence of str
        Columns to group by.
    edges_s : ndarray of float
        Edges of the bins, ascending, in Unix time.

    Returns
    -------
    dict
        The busy time (s) in each bin, by the values of `keys`.
    """
    found: dict[tuple[object, ...], NDArray[np.float64]] = {}
    ordered = attempts.sort_values("start_s", kind="stable")
    # Per lane, since attempts of a lane hardly overlap and each second must count only once.
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
    """Return for each lane the highest peak (bytes) of the attempts that started in each bin.

    NaN where none started.
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
    """Downsample a grid to at most `most` cells in each direction, by the maximum of each block.

    Returns
    -------
    ndarray, int
        The grid, and the side of a cell in tiles.
    """
    side = -(-max(grid.shape) // most)
    if side == 1:
        return grid, 1
    rows, cols = (-(-length // side) for length in grid.shape)
    padded = np.full((rows * side, cols * side), -np.inf)
    padded[: grid.shape[0], : grid.shape[1]] = np.nan_to_num(grid, nan=-np.inf)
    blocks = padded.reshape(rows, side, cols, side).max(axis=(1, 3))
    return np.where(np.isinf(blocks), np.nan, blocks), side
