"""A pipeline that makes its products tile by tile, inside an orchestrator."""

import logging
import os
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from batuta.datasets import CarsDataset, fill_dataset
from batuta.orchestrator import Orchestrator, update_saving_infos
from batuta.pipeline import Context, Pipeline
from tests.pipeline.scripted import note, stage, wait_for

pipeline = Pipeline("tiled_pipeline")

CONFIGURATION = {"mode": "multiprocessing", "nb_workers": 2}
ON_SLURM = {"mode": "slurm_dask", "account": "observatory", "nb_workers": 1}


def ramp(window: dict[str, int], saving_info: Any) -> xr.Dataset:
    shape = (window["row_max"] - window["row_min"], window["col_max"] - window["col_min"])
    tile = xr.Dataset({"height": (("row", "col"), np.ones(shape, np.float32))})
    fill_dataset(tile, saving_info=saving_info, window=window)
    return tile


def slow_ramp(window: dict[str, int], saving_info: Any) -> xr.Dataset:
    (stage() / f"tile-{os.getpid()}").touch()
    wait_for("go on")
    time.sleep(600)
    return ramp(window, saving_info)


def broken_ramp(window: dict[str, int], saving_info: Any) -> xr.Dataset:
    logging.getLogger("terrain").warning("row %d is looked at", window["row_min"])
    if window["row_min"] == 16:
        raise ValueError("the slope is vertical")
    return ramp(window, saving_info)


def half_slow_ramp(window: dict[str, int], saving_info: Any) -> xr.Dataset:
    if window["row_min"] >= 32 and not (stage() / "go on").exists():
        time.sleep(600)
    return ramp(window, saving_info)


def play(
    context: Context, orchestrator: Orchestrator, function: Any, path: Path | None = None
) -> Path:
    path = path or context.output_path("height.tif")
    grid = CarsDataset("arrays", name="height")
    grid.create_grid(64, 64, 16, 16, 0, 0)
    (info,) = orchestrator.get_saving_infos([grid])
    orchestrator.add_to_save_lists(path, "height", grid, dtype="float32", cars_ds_name="height")
    for row, col in grid.positions():
        grid[row, col] = orchestrator.cluster.create_task(function)(
            grid.get_window_as_dict(row, col), update_saving_infos(info, row=row, col=col)
        )
    return path


@pipeline.product("HEIGHT")
def height(context: Context) -> Path:
    with context.orchestrator(CONFIGURATION) as orchestrator:
        return play(context, orchestrator, ramp)


@pipeline.product("MAPPED_HEIGHT")
def mapped_height(context: Context) -> Path:
    heights = np.zeros((64, 64), "float32")
    return context.map_tiles(np.negative, heights, out="h.tif", tile=16, mode=CONFIGURATION)


@pipeline.product("BROKEN_HEIGHT")
def broken_height(context: Context) -> Path:
    with context.orchestrator(CONFIGURATION) as orchestrator:
        return play(context, orchestrator, broken_ramp)


@pipeline.product("SLOW_HEIGHT")
def slow_height(context: Context) -> Path:
    note("leader", str(os.getpid()))
    with context.orchestrator(CONFIGURATION) as orchestrator:
        return play(context, orchestrator, slow_ramp)


@pipeline.product("RESUMED_HEIGHT")
def resumed_height(context: Context) -> Path:
    kept = stage() / "kept"
    kept.mkdir(exist_ok=True)
    with context.orchestrator(CONFIGURATION | {"resume": True}, kept) as orchestrator:
        path = play(context, orchestrator, half_slow_ramp, kept / "height.tif")
    return Path(shutil.copy(path, context.output_path("height.tif")))


@pipeline.product("HEIGHT_ON_DASK")
def height_on_dask(context: Context) -> Path:
    with context.orchestrator({"mode": "local_dask"}) as orchestrator:
        return play(context, orchestrator, ramp)


@pipeline.product("HEIGHT_ON_SLURM")
def height_on_slurm(context: Context) -> Path:
    with context.orchestrator(ON_SLURM) as orchestrator:
        return play(context, orchestrator, ramp)


@pipeline.product("SLOW_HEIGHT_ON_SLURM")
def slow_height_on_slurm(context: Context) -> Path:
    with context.orchestrator(ON_SLURM) as orchestrator:
        return play(context, orchestrator, slow_ramp)
