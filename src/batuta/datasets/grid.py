"""Windows, overlaps and tile grids, as value objects.

Rows come before columns everywhere. Ranges are half-open: ``[row_min, row_max)``.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self, TypeAlias

import numpy as np
import numpy.typing as npt

from batuta.errors import ConfigurationError

Grid: TypeAlias = npt.NDArray[Any]
"""One row of four numbers per tile, shape (rows, columns, 4)."""


@dataclass(frozen=True)
class Window:
    """The pixels of a tile, without its overlaps: ``[row_min, row_max) x [col_min, col_max)``."""

    row_min: int
    row_max: int
    col_min: int
    col_max: int

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> Self:
        """Return the window of a mapping with these four keys."""
        return cls(*(int(values[key]) for key in ("row_min", "row_max", "col_min", "col_max")))

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.row_max - self.row_min, self.col_max - self.col_min

    def as_dict(self) -> dict[str, int]:
        """Return the four bounds by name."""
        return dict(vars(self))


@dataclass(frozen=True)
class Overlaps:
    """Pixels of a tile beyond its window, on each side."""

    up: int = 0
    down: int = 0
    left: int = 0
    right: int = 0

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> Self:
        """Return the overlaps of a mapping; a missing side is 0."""
        return cls(*(int(values.get(key, 0)) for key in ("up", "down", "left", "right")))

    def as_dict(self) -> dict[str, int]:
        """Return the four sides by name."""
        return dict(vars(self))

    def around(self, shape: tuple[int, int]) -> tuple[int, int]:
        """Return rows and columns of a tile whose window has `shape`, overlaps included."""
        return shape[0] + self.up + self.down, shape[1] + self.left + self.right


@dataclass(frozen=True, kw_only=True)
class GridSpec:
    """An image split into tiles of equal size, but for the last row and column.

    Parameters
    ----------
    rows, cols : int
        Size of the image, in pixels.
    row_split, col_split : int
        Height and width of a tile, in pixels.
    row_overlap, col_overlap : int
        Pixels that a tile takes from its neighbours above and below, left and right; never
        beyond the image.

    Raises
    ------
    ConfigurationError
        Naming every value that is not a whole number, or is too small.
    """

    rows: int
    cols: int
    row_split: int
    col_split: int
    row_overlap: int = 0
    col_overlap: int = 0

    def __post_init__(self) -> None:
        smallest = {"row_overlap": 0, "col_overlap": 0}
        problems = [
            f"{name}: {value!r} given, a whole number of at least {smallest.get(name, 1)} expected"
            for name, value in asdict(self).items()
            if not _is_whole(value) or value < smallest.get(name, 1)
        ]
        if problems:
            raise ConfigurationError(problems)

    def tiling(self) -> Grid:
        """Return row_min, row_max, col_min, col_max of each tile; shape (rows, columns, 4)."""
        row_min, row_max = _split(self.rows, self.row_split)
        col_min, col_max = _split(self.cols, self.col_split)
        return _grid_of(row_min, row_max, col_min, col_max)

    def overlaps(self) -> Grid:
        """Return up, down, left, right of each tile; shape (rows, columns, 4)."""
        up, down = _margins(self.rows, self.row_split, self.row_overlap)
        left, right = _margins(self.cols, self.col_split, self.col_overlap)
        return _grid_of(up, down, left, right)


def extent_of(grid: Grid) -> tuple[int, int]:
    """Return the rows and columns that all tiles of a grid cover together."""
    return (
        int(grid[..., 1].max() - grid[..., 0].min()),
        int(grid[..., 3].max() - grid[..., 2].min()),
    )


def largest_tile(grid: Grid) -> tuple[int, int]:
    """Return the largest number of rows, and of columns, of a tile of a grid."""
    return int((grid[..., 1] - grid[..., 0]).max()), int((grid[..., 3] - grid[..., 2]).max())


def _is_whole(value: object) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def _split(size: int, split: int) -> tuple[Grid, Grid]:
    starts = np.arange(0, size, split, dtype=np.int64)
    return starts, np.minimum(starts + split, size)


def _margins(size: int, split: int, overlap: int) -> tuple[Grid, Grid]:
    starts, ends = _split(size, split)
    return np.minimum(starts, overlap), np.minimum(size - ends, overlap)


def _grid_of(row_a: Grid, row_b: Grid, col_a: Grid, col_b: Grid) -> Grid:
    grid = np.empty((len(row_a), len(col_a), 4), dtype=np.int64)
    grid[..., 0], grid[..., 1] = row_a[:, None], row_b[:, None]
    grid[..., 2], grid[..., 3] = col_a[None, :], col_b[None, :]
    return grid
