"""Time and memory of each tile: which parts of the image are slow."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from batuta.profiling.files.run_info import GridInfo, RunInfo


@dataclass(frozen=True, kw_only=True)
class TileStats:
    """Statistics of one tile."""

    dataset: str
    row: int
    col: int
    wall_s: float
    peak_bytes: int


@dataclass(frozen=True, kw_only=True)
class TileGrid:
    """The tiles of one dataset; arrays are (rows, cols), NaN where no task ran."""

    dataset: str
    tile_px: tuple[int, int] | None
    """Rows and columns of its largest tile; None where not known."""
    wall_s: NDArray[np.float64]
    """Of all attempts at the tasks that led to each tile."""
    peak_bytes: NDArray[np.float64]
    """Highest memory of a worker during these attempts."""

    @property
    def ran(self) -> int:
        """Number of tiles for which tasks ran."""
        return int(np.isfinite(self.wall_s).sum())

    @property
    def total_s(self) -> float:
        """Of all tiles."""
        return float(np.nansum(self.wall_s))

    def slowest(self, most: int) -> tuple[TileStats, ...]:
        """Return the `most` slowest tiles."""
        times = np.nan_to_num(self.wall_s, nan=-1.0).ravel()
        order = np.argsort(-times, kind="stable")[: min(most, self.ran)]
        return tuple(self.tile(*divmod(int(i), self.wall_s.shape[1])) for i in order)

    def tile(self, row: int, col: int) -> TileStats:
        """Return the statistics of one tile for which tasks ran."""
        return TileStats(
            dataset=self.dataset,
            row=row,
            col=col,
            wall_s=float(self.wall_s[row, col]),
            peak_bytes=int(self.peak_bytes[row, col]),
        )


def tile_grids(attempts: pd.DataFrame, run: RunInfo) -> tuple[TileGrid, ...]:
    """Return the tiles of each dataset, the one with the largest total time first.

    A dataset whose grid is not described by the run gets the smallest grid that holds its tiles.
    """
    placed = attempts.dropna(subset=["dataset"])
    summed = placed.groupby(["dataset", "row", "col"], sort=False).agg(
        wall_s=("wall_s", "sum"), peak_bytes=("peak_bytes", "max")
    )
    declared = {grid.dataset: grid for grid in reversed(run.grids)}
    grids = [
        _grid(str(dataset), rows.reset_index(), declared.get(str(dataset)))
        for dataset, rows in summed.groupby("dataset", sort=False)
    ]
    return tuple(sorted(grids, key=lambda grid: -grid.total_s))


def _grid(dataset: str, tiles: pd.DataFrame, declared: GridInfo | None) -> TileGrid:
    rows = tiles["row"].to_numpy(dtype=np.int64)
    cols = tiles["col"].to_numpy(dtype=np.int64)
    shape = (
        max(int(rows.max()) + 1, declared.rows if declared else 0),
        max(int(cols.max()) + 1, declared.cols if declared else 0),
    )
    return TileGrid(
        dataset=dataset,
        tile_px=(declared.tile_rows_px, declared.tile_cols_px)
        if declared and declared.tile_rows_px
        else None,
        wall_s=_fill_grid(shape, rows, cols, tiles["wall_s"].to_numpy()),
        peak_bytes=_fill_grid(shape, rows, cols, tiles["peak_bytes"].to_numpy()),
    )


def _fill_grid(
    shape: tuple[int, int],
    rows: NDArray[np.int64],
    cols: NDArray[np.int64],
    values: NDArray[Any],
) -> NDArray[np.float64]:
    grid = np.full(shape, np.nan)
    grid[rows, cols] = values
    return grid
