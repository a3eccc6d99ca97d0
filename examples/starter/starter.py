"""Two products of an image: its background, tile by tile, then what stands out of it."""

from typing import Any

import numpy as np
import pandas as pd
import rasterio
import xarray as xr
from rasterio.windows import Window

from batuta.datasets import CarsDataset, fill_dataset
from batuta.pipeline import Context, Output, Pipeline

TILE_PX = 64
THRESHOLD = 5.0

pipeline = Pipeline("starter")


@pipeline.product("BACKGROUND", inputs=["IMAGE"])
def background(context: Context) -> Output:
    """The level of the image around each pixel, in the same units."""
    image = context.input("IMAGE")
    with rasterio.open(image) as opened:
        height, width = opened.shape
    path = context.output_path("background.tif")
    with context.orchestrator() as orchestrator:
        tiles = CarsDataset("arrays", name="background")
        tiles.create_grid(width, height, TILE_PX, TILE_PX)
        task = orchestrator.cluster.create_task(background_of_tile)
        for row, col in tiles.positions():
            tiles[row, col] = task(str(image), tiles.get_window_as_dict(row, col))
        orchestrator.add_to_save_lists(path, "background", tiles, nodata=None)
    return Output(path, metadata={"tile_px": TILE_PX})


def background_of_tile(image: str, window: dict[str, int]) -> xr.Dataset:
    """Compute one tile; this runs in a worker process."""
    rows = (window["row_min"], window["row_max"])
    cols = (window["col_min"], window["col_max"])
    with rasterio.open(image) as opened:
        values = opened.read(1, window=Window.from_slices(rows, cols))
        profile: dict[str, Any] = {"crs": opened.crs, "transform": opened.transform}
    level = np.full(values.shape, np.median(values), np.float32)
    tile = xr.Dataset({"background": (("row", "col"), level)})
    fill_dataset(tile, window=window, profile=profile)
    return tile


@pipeline.product("SOURCES", inputs=["IMAGE", "BACKGROUND"])
def sources(context: Context) -> Output:
    """The pixels that stand out of the background, as CSV, the brightest first."""
    with rasterio.open(context.input("IMAGE")) as opened:
        values = opened.read(1)
    with rasterio.open(context.input("BACKGROUND")) as opened:
        excess = values - opened.read(1)
    noise = 1.4826 * np.median(np.abs(excess))
    rows, cols = np.nonzero(excess > THRESHOLD * noise)
    table = pd.DataFrame({"row": rows, "col": cols, "excess": excess[rows, cols]})
    path = context.output_path("sources.csv")
    table.sort_values("excess", ascending=False).to_csv(path, index=False)
    return Output(path, metadata={"sources": len(table), "noise": noise})
