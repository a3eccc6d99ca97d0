"""A program that makes a small product, with a task that leaks."""

from pathlib import Path
from typing import Any, Final

import numpy as np
import xarray as xr

from batuta.datasets import CarsDataset, fill_dataset
from batuta.orchestrator import Orchestrator, update_saving_infos

LEAK_BYTES: Final = 100_000
LARGE_BYTES: Final = 300_000_000
"""More than the modules take that a dask worker imports meanwhile; it is not written to."""
SIDE_PX: Final = 16

_KEPT: Final[list[Any]] = []


def leaks(side_px: int) -> Any:
    _KEPT.append(b"x" * LEAK_BYTES)  # the leak
    large = np.zeros(LARGE_BYTES, np.uint8)  # the peak
    return np.ones((side_px, side_px)) + large[0]


def doubles(values: Any, window: Any, saving_info: Any) -> xr.Dataset:
    tile = xr.Dataset({"value": (("row", "col"), values * 2)})
    fill_dataset(tile, saving_info=saving_info, window=window)
    return tile


def make_product(conf: dict[str, Any], output: Path) -> None:
    """Make ``value.tif`` in two tiles."""
    with Orchestrator(conf, output) as orchestrator:
        tiles = CarsDataset("arrays", name="tiles")
        tiles.create_grid(2 * SIDE_PX, SIDE_PX, SIDE_PX, SIDE_PX, 0, 0)
        orchestrator.add_to_save_lists(output / "value.tif", "value", tiles)
        (info,) = orchestrator.get_saving_infos([tiles])
        create_task = orchestrator.cluster.create_task
        for row, col in tiles.positions():
            window = tiles.get_window_as_dict(row, col)
            here = update_saving_infos(info, row=row, col=col)
            tiles[row, col] = create_task(doubles)(create_task(leaks)(SIDE_PX), window, here)
