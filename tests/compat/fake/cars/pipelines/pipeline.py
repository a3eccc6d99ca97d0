"""A surface made of tiles that reach over each other, and its points."""

import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

import cars.orchestrator.orchestrator as ocht
from cars.core import cars_logging
from cars.core import constants as cst
from cars.core.progress.progress import ProgressTree
from cars.dataset import CarsDataset
from cars.orchestrator.cluster.log_wrapper import cars_profile

ROWS, COLS, SIDE, REACH = 3, 4, 20, 7
"""Tiles of SIDE pixels, that each cover REACH more below and to the right."""

HEIGHT, WIDTH = ROWS * SIDE + REACH, COLS * SIDE + REACH


@cars_profile(name="Surface of a tile")  # type: ignore[untyped-decorator]  # as in CARS
def surface(base: Any, row: int, col: int, saving_info: Any, killed_once: str | None) -> Any:
    """Compute a tile; none where the row and the column are the same."""
    assert ocht.Orchestrator.__module__.startswith("batuta")  # in the worker too
    if killed_once is not None and (row, col) == (0, 1):
        with Path(killed_once).open("a") as tries:
            tries.write("x")
        if Path(killed_once).read_text() == "x":
            os.kill(os.getpid(), signal.SIGKILL)
    if row == col:
        return None, None
    cars_logging.logger.warning("tile %d, %d", row, col)
    side = SIDE + REACH
    values = base["level"] + np.arange(side * side, dtype=np.float64).reshape(side, side) / 7
    tile = xr.Dataset({"height": (("row", "col"), values * (row + 1) + col)})
    tile.attrs |= {
        "saving_info": ocht.update_saving_infos(saving_info, row=row, col=col),
        "window": {
            "row_min": row * SIDE,
            "row_max": row * SIDE + side,
            "col_min": col * SIDE,
            "col_max": col * SIDE + side,
        },
        "profile": {"height": HEIGHT, "width": WIDTH},
        "attributes": {cst.CROPPED_DISPARITY_RANGE: (row, col) == (2, 0)},
    }
    return tile, {"cropped": ocht.get_disparity_range_cropped(tile)}


@cars_profile(interval=0.5)  # type: ignore[untyped-decorator]
def points(tile: Any, about: Any) -> Any:
    """Return a few points of a tile; None for None."""
    if tile is None:
        return None
    return pd.DataFrame({"z": tile["height"].to_numpy()[0, :3], "cropped": about["cropped"]})


def merge(orchestrator: Any, tile: Any) -> Any:
    """Return the mean with what is already saved: the result depends on the order."""
    there, nodata = orchestrator.get_data("height", tile)
    if there is not None:
        assert there.shape == (1, SIDE + REACH, SIDE + REACH)
        heights = tile["height"].to_numpy()
        mean = (heights + there[0]) / 2
        tile["height"].values = np.where(there[0] == nodata, heights, mean)
    return tile


def run(conf: dict[str, Any], out: Path, killed_once: str | None) -> None:
    """Make the surface and its points."""
    with ocht.Orchestrator(orchestrator_conf=conf, out_dir=None, launch_worker=False) as checked:
        conf = checked.get_conf()
    with ocht.Orchestrator(
        orchestrator_conf=conf,
        out_dir=str(out),
        log_dir=str(out / "logs"),
        out_yaml_path=str(out / "metadata.yaml"),
    ) as orchestrator:
        metadata = orchestrator.out_yaml
        heights = CarsDataset("arrays", "unknown", ROWS, COLS)
        cloud = CarsDataset("points", "unknown", ROWS, COLS)
        heights.final_function = merge
        fill(orchestrator, heights, cloud, killed_once)
        orchestrator.set_target_task(5)
        orchestrator.add_to_save_lists(
            str(out / "height.tif"),
            "height",
            heights,
            dtype=np.float64,
            nodata=-32768,
            cars_ds_name="surface",
            rio_band_description=[(1, "metres")],
            rio_tags=[(1, "ground")],
        )
        orchestrator.add_to_save_lists(
            str(out / "missing.tif"), "missing", heights, optional_data=True
        )
        orchestrator.add_to_save_lists(str(out / "cloud"), "", cloud, save_by_pair=True)
        orchestrator.add_to_replace_lists(cloud, cars_ds_name="cloud")
        orchestrator.update_out_info({"heights": {"max": np.float32(3)}})
        orchestrator.update_index({"dsm": {"height": "height.tif"}})
        cropped = orchestrator.breakpoint()
        first = cloud[0, 1]["z"].tolist()
        orchestrator.update_out_info({"heights": {"cropped": cropped, "first": first}})
        assert metadata["heights"]["cropped"] is cropped
        assert orchestrator.breakpoint() is False
    (out / "progress.txt").write_text(repr(ProgressTree.told))


def fill(orchestrator: Any, heights: Any, cloud: Any, killed_once: str | None) -> None:
    """Declare the tasks."""
    base = orchestrator.cluster.scatter({"level": np.full((SIDE + REACH, SIDE + REACH), 100.0)})
    (info,) = orchestrator.get_saving_infos([heights])
    create_task = orchestrator.cluster.create_task
    for row in range(ROWS):
        for col in range(COLS):
            if (row, col) == (1, 3):
                continue
            heights[row, col], about = create_task(surface, nout=2)(
                base, row, col, saving_info=info, killed_once=killed_once
            )
            cloud[row, col] = create_task(points)(heights[row, col], about=about)
