"""The program of the tests: a map of an image, tile by tile with overlaps, then its points."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr

from batuta.datasets import CarsDataset, fill_dataframe, fill_dataset
from batuta.orchestrator import Observer, Orchestrator, update_saving_infos
from tests.cluster.functions import die, fail, hang

ROWS, COLS, TILE, OVERLAP = 500, 741, 128, 20

Pixels = npt.NDArray[np.float32]


def image() -> Pixels:
    return np.arange(ROWS * COLS, dtype=np.float32).reshape(ROWS, COLS)


def disparity(
    left: Pixels,
    right: Pixels,
    *,
    place: Mapping[str, Any],
    saving_info: dict[str, Any],
) -> xr.Dataset:
    tile = xr.Dataset(
        {"disparity": (("row", "col"), left - right), "mask": (("row", "col"), left > 0)}
    )
    fill_dataset(tile, saving_info=saving_info, **place)
    return tile


def points(tile: xr.Dataset, row: int, col: int, saving_info: dict[str, Any]) -> pd.DataFrame:
    values = tile["disparity"].to_numpy()
    frame = pd.DataFrame({"row": [row] * 2, "col": [col] * 2, "z": values[0, :2].astype(float)})
    fill_dataframe(frame, saving_info=saving_info)
    return frame


def misbehave(how: str, *args: Any, **kwargs: Any) -> Any:
    """Stand for `disparity`, and fail."""
    {"raise": lambda: fail("no light"), "die": die, "hang": hang}[how]()


def new_grid(name: str = "disparity") -> CarsDataset:
    grid = CarsDataset("arrays", name=name)
    grid.create_grid(COLS, ROWS, TILE, TILE, 0, OVERLAP)
    return grid


def fill_maps(
    orchestrator: Orchestrator, maps: CarsDataset, failing: Mapping[tuple[int, int], str]
) -> None:
    """Put the task of each tile in its place."""
    pixels = image()
    (saving_info,) = orchestrator.get_saving_infos([maps])
    for row, col in maps.positions():
        window, sides = maps.get_window_as_dict(row, col), maps.get_overlaps_as_dict(row, col)
        part = pixels[
            window["row_min"] - sides["up"] : window["row_max"] + sides["down"],
            window["col_min"] - sides["left"] : window["col_max"] + sides["right"],
        ]
        info = update_saving_infos(saving_info, row=row, col=col)
        place = {"window": window, "overlaps": sides}
        how = failing.get((row, col))
        create = orchestrator.cluster.create_task
        maps[row, col] = (
            create(disparity, nout=1)(part * 3, part, place=place, saving_info=info)
            if how is None
            else create(misbehave)(how, part)
        )


def fill_cloud(orchestrator: Orchestrator, cloud: CarsDataset, maps: CarsDataset) -> None:
    (saving_info,) = orchestrator.get_saving_infos([cloud])
    for row, col in maps.positions():
        info = update_saving_infos(saving_info, row=row, col=col)
        create = orchestrator.cluster.create_task
        cloud[row, col] = create(points)(maps[row, col], row, col, saving_info=info)


def run_program(
    conf: dict[str, Any],
    out_dir: Path,
    failing: Mapping[tuple[int, int], str] | None = None,
    observers: Iterable[Observer] = (),
) -> None:
    """Make the map and its points in `out_dir`; tiles of `failing` do as they are told."""
    with Orchestrator(conf, out_dir, observers=observers) as orchestrator:
        maps = new_grid()
        cloud = CarsDataset("points", name="points")
        cloud.create_empty_copy(maps)
        fill_maps(orchestrator, maps, failing or {})
        fill_cloud(orchestrator, cloud, maps)
        orchestrator.add_to_save_lists(
            str(out_dir / "map.tif"), "disparity", maps, nodata=-1, cars_ds_name="disparity"
        )
        orchestrator.add_to_save_lists(
            str(out_dir / "mask.tif"), "mask", maps, dtype="uint8", nodata=255
        )
        for name in ("points.parquet", "points.csv"):
            orchestrator.add_to_save_lists(str(out_dir / name), "points", cloud)
