"""A dataset class of a program, with the members of `TileGrid` alone."""

from typing import Any

import numpy as np
import pytest

from batuta.datasets import CarsDict
from batuta.orchestrator import Orchestrator


class BareGrid:
    """Rows and columns of tiles, and nothing else."""

    dataset_type = "dict"
    final_function = None

    def __init__(self, name: str, rows: int, cols: int) -> None:
        self.name = name
        self.tiling_grid = np.zeros((rows, cols, 4), dtype=int)
        self.overlaps = np.zeros((rows, cols, 4), dtype=int)
        self.tiles: dict[tuple[int, int], Any] = {}

    @property
    def shape(self) -> tuple[int, int]:
        return self.tiling_grid.shape[0], self.tiling_grid.shape[1]

    def __getitem__(self, position: tuple[int, int]) -> Any:
        return self.tiles.get(position)

    def __setitem__(self, position: tuple[int, int], tile: Any) -> None:
        self.tiles[position] = tile


def square(value: int) -> CarsDict:
    return CarsDict({"square": value * value})


@pytest.mark.parametrize("conf", [{"mode": "sequential"}, {"mode": "multiprocessing"}])
def test_its_tiles_are_computed_and_replaced(conf: dict[str, Any]) -> None:
    with Orchestrator(conf) as orchestrator:
        grid = BareGrid("grid", 2, 3)
        for row in range(2):
            for col in range(2):
                grid[row, col] = orchestrator.cluster.create_task(square)(10 * row + col)
        orchestrator.add_to_replace_lists(grid)
        orchestrator.breakpoint()
        assert {place: tile.data for place, tile in grid.tiles.items()} == {
            (0, 0): {"square": 0},
            (0, 1): {"square": 1},
            (1, 0): {"square": 100},
            (1, 1): {"square": 121},
        }
