"""Tiles of a dataset with a final function are saved in the order of its grid."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import xarray as xr
from affine import Affine

from batuta.cluster import TaskFailedError
from batuta.datasets import CarsDataset, fill_dataset
from batuta.orchestrator import Orchestrator, TilesFailedError, update_saving_infos

COLS = 4


@dataclass(eq=False)
class Promise:
    """A delayed object of `Backwards`: what each try gives; an exception is a failed try."""

    tries: list[Any]

    @property
    def delayed(self) -> "Promise":
        return self

    def result(self) -> Any:
        given = self.tries.pop(0)
        if isinstance(given, Exception):
            raise given
        return given


class Backwards:
    """A cluster whose results come last first."""

    delayed_type = Promise

    def start_tasks(self, task_list: Sequence[Promise]) -> list[Promise]:
        return list(task_list)

    def as_completed(self, future_list: Sequence[Promise]) -> Iterator[Promise]:
        return reversed(future_list)

    def cleanup(self) -> None:
        """Nothing to end."""


def tile_of(info: dict[str, Any], col: int) -> xr.Dataset:
    """Make a tile of one row that reaches over the next: what they share depends on the order."""
    width = 2 if col < COLS - 1 else 1
    tile = xr.Dataset({"height": (("row", "col"), np.full((1, width), col + 1.0))})
    window = {"row_min": 0, "row_max": 1, "col_min": col, "col_max": col + width}
    fill_dataset(
        tile,
        saving_info=update_saving_infos(info, row=0, col=col),
        window=window,
        profile={"transform": Affine(1, 0, 300, 0, -1, 500)},
    )
    return tile


def merge(orchestrator: Orchestrator, tile: xr.Dataset) -> xr.Dataset:
    """Add ten times what is saved already."""
    saved = orchestrator.get_data("height", tile)
    if saved is not None:
        tile["height"].values += 10 * saved
    return tile


def failure() -> Exception:
    return TaskFailedError("tile_of", "no light")


def run_program(out_dir: Path, failed_tries: dict[int, int]) -> CarsDataset:
    """Save the tiles, which come last first; some fail so many times."""
    with Orchestrator({"mode": "sequential"}, out_dir) as orchestrator:
        orchestrator.cluster = Backwards()  # type: ignore[assignment]  # all that a run needs
        heights = CarsDataset("arrays", name="heights")
        heights.create_grid(COLS, 1, 1, 1)
        heights.final_function = merge
        (info,) = orchestrator.get_saving_infos([heights])
        for _, col in heights.positions():
            failures = [failure() for _ in range(failed_tries.get(col, 0))]
            heights[0, col] = Promise([*failures, tile_of(info, col)])
        orchestrator.add_to_save_lists(out_dir / "heights.tif", "height", heights)
        orchestrator.add_to_replace_lists(heights)
    return heights


def saved(out_dir: Path) -> list[float]:
    with rasterio.open(out_dir / "heights.tif") as raster:
        return [float(value) for value in raster.read(1)[0]]


IN_ORDER = [1.0, 12.0, 23.0, 34.0]


def test_tiles_that_come_backwards_are_merged_in_the_order_of_the_grid(tmp_path: Path) -> None:
    run_program(tmp_path, {})
    assert saved(tmp_path) == IN_ORDER


def test_a_tile_that_is_retried_keeps_its_turn(tmp_path: Path) -> None:
    run_program(tmp_path, {1: 1})
    assert saved(tmp_path) == IN_ORDER


def test_a_tile_that_fails_for_good_does_not_hold_the_others_back(tmp_path: Path) -> None:
    with pytest.raises(TilesFailedError, match=r"heights\[0, 1\]"):
        run_program(tmp_path, {1: 2})
    assert saved(tmp_path) == [1.0, 1.0, 3.0, 34.0]


def test_what_replaces_a_tile_is_what_was_saved(tmp_path: Path) -> None:
    heights = run_program(tmp_path, {})
    assert [float(heights[0, col]["height"].values[0, 0]) for col in range(COLS)] == IN_ORDER
