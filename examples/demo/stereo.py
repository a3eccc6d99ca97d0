"""Stereo pipeline: from a rectified pair to disparities, points and a raster of heights.

Each product is computed tile by tile in an orchestrator, which writes its file as tiles come and
tells how many are done.
"""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import xarray as xr
from rasterio import Affine

from batuta.datasets import CarsDataset, Overlaps, Window, fill_dataframe, fill_dataset
from batuta.orchestrator import Orchestrator, update_saving_infos
from batuta.pipeline import Context, Output, Pipeline
from examples.demo.disparity import (
    Calibration,
    Disparities,
    Image,
    match,
    measure_error,
    open_raster,
    read_part,
    read_raster,
)
from examples.demo.qpo import write_json

ORCHESTRATOR: Final = {"mode": "multiprocessing", "nb_workers": 2}

TILE_ROWS: Final = 125
TILE_COLS: Final = 186

ROW_OVERLAP: Final = 64
"""How far a tile looks above and below: costs gathered from further do not change the match."""

COL_OVERLAP: Final = 128
"""The same, and as far as a match may lie: 80 px."""

CELL_M: Final = 0.005
"""Side of a cell of the raster of heights: what a pixel sees at the far end of the scene."""

TILE_CELLS: Final = 160

REFERENCE_M: Final = 5.0
"""Heights rise towards the camera from the plane that faces it at this distance."""

pipeline = Pipeline("stereo_pipeline")


def fill_grid(
    orchestrator: Orchestrator, dataset: CarsDataset, function: Callable[..., Any], *args: Any
) -> None:
    """Declare one task per tile: ``function(*args, window, overlaps, saving_info)``."""
    [info] = orchestrator.get_saving_infos([dataset])
    for row, col in dataset.positions():
        dataset[row, col] = orchestrator.cluster.create_task(function)(
            *args,
            Window.from_mapping(dataset.get_window_as_dict(row, col)),
            Overlaps.from_mapping(dataset.get_overlaps_as_dict(row, col)),
            update_saving_infos(info, row=row, col=col),
        )


def match_tile(
    left: Path, right: Path, window: Window, overlaps: Overlaps, saving_info: dict[str, Any]
) -> xr.Dataset:
    """Match one tile, overlaps included."""
    rows = (window.row_min - overlaps.up, window.row_max + overlaps.down)
    cols = (window.col_min - overlaps.left, window.col_max + overlaps.right)
    disparity = match(read_part(left, rows, cols), read_part(right, rows, cols))
    tile = xr.Dataset({"disparity": (("row", "col"), disparity)})
    fill_dataset(tile, saving_info, window=window.as_dict(), overlaps=overlaps.as_dict())
    return tile


def compute_disparity(left: Path, right: Path, target: Path, orchestrator: Orchestrator) -> None:
    """Match the pair with `orchestrator`, tile by tile, into the GeoTIFF `target`.

    Raises
    ------
    ValueError
        If the images do not have the same size.
    """
    with open_raster(left) as one, open_raster(right) as other:
        if one.shape != other.shape:
            raise ValueError(
                f"images of {one.shape} and {other.shape} pixels: not a rectified pair"
            )
        rows, cols = one.shape
    dataset = CarsDataset("arrays", name="disparity")
    dataset.create_grid(cols, rows, TILE_ROWS, TILE_COLS, ROW_OVERLAP, COL_OVERLAP)
    orchestrator.add_to_save_lists(target, "disparity", dataset, nodata=float("nan"))
    fill_grid(orchestrator, dataset, match_tile, left, right)


def points_tile(
    disparity: Path,
    calibration: Calibration,
    colours: Path | None,
    window: Window,
    _: Overlaps,
    saving_info: dict[str, Any],
) -> pd.DataFrame:
    """Place the pixels of one tile in space."""
    rows, cols = (window.row_min, window.row_max), (window.col_min, window.col_max)
    values: Disparities = read_part(disparity, rows, cols)
    x, y, z, matched = calibration.points_m(values, window.row_min, window.col_min)
    columns: dict[str, Any] = {"x": x, "y": y, "z": z}
    columns = {name: values.astype(np.float32) for name, values in columns.items()}
    if colours is not None:
        image: Image = read_part(colours, rows, cols)
        columns |= {name: image[..., band][matched] for band, name in enumerate("rgb")}
    points = pd.DataFrame(columns)
    fill_dataframe(points, saving_info)
    return points


def compute_points(
    disparity: Path,
    calibration: Calibration,
    colours: Path | None,
    target: Path,
    orchestrator: Orchestrator,
) -> None:
    """Compute the points of a disparity map with `orchestrator` into the Parquet `target`.

    Columns are ``x, y, z`` in m (to the right, up, away from the left camera) and, with
    `colours`, ``r, g, b``.
    """
    with open_raster(disparity) as raster:
        rows, cols = raster.shape
    dataset = CarsDataset("points", name="points")
    dataset.create_grid(cols, rows, TILE_ROWS, TILE_COLS)
    orchestrator.add_to_save_lists(target, "points", dataset)
    fill_grid(orchestrator, dataset, points_tile, disparity, calibration, colours)


def heights_tile(
    points: Path,
    left_m: float,
    top_m: float,
    window: Window,
    _: Overlaps,
    saving_info: dict[str, Any],
) -> xr.Dataset:
    """Grid the points over one tile: the median height of each cell."""
    rows, cols = window.shape
    west, east = (left_m + col * CELL_M for col in (window.col_min, window.col_max))
    north, south = (top_m - row * CELL_M for row in (window.row_min, window.row_max))
    inside = [("x", ">=", west), ("x", "<", east), ("y", "<=", north), ("y", ">", south)]
    table = pd.read_parquet(points, columns=["x", "y", "z"], filters=inside)
    col = ((table["x"].to_numpy(np.float64) - west) / CELL_M).astype(np.intp).clip(0, cols - 1)
    row = ((north - table["y"].to_numpy(np.float64)) / CELL_M).astype(np.intp).clip(0, rows - 1)
    median = (REFERENCE_M - table["z"]).groupby(row * cols + col).median()
    heights = np.full(rows * cols, np.nan, dtype=np.float32)
    heights[median.index.to_numpy()] = median.to_numpy()
    tile = xr.Dataset({"height": (("row", "col"), heights.reshape(rows, cols))})
    profile = {"transform": Affine(CELL_M, 0, left_m, 0, -CELL_M, top_m)}
    fill_dataset(tile, saving_info, window=window.as_dict(), profile=profile)
    return tile


def compute_heights(points: Path, target: Path, orchestrator: Orchestrator) -> None:
    """Grid points with `orchestrator` into the GeoTIFF `target`.

    The raster faces the camera: x to the right, y up, in m; heights rise towards the camera, as
    those of the ground do towards a satellite.
    """
    left_m, right_m = _extent(points, "x")
    bottom_m, top_m = _extent(points, "y")
    cols = max(1, int(np.ceil((right_m - left_m) / CELL_M)))
    rows = max(1, int(np.ceil((top_m - bottom_m) / CELL_M)))
    dataset = CarsDataset("arrays", name="heights")
    dataset.create_grid(cols, rows, TILE_CELLS, TILE_CELLS)
    orchestrator.add_to_save_lists(target, "height", dataset, nodata=float("nan"))
    fill_grid(orchestrator, dataset, heights_tile, points, left_m, top_m)


def _extent(points: Path, axis: str) -> tuple[float, float]:
    """Bounds of an axis, widened to whole cells."""
    values = pq.read_table(points, columns=[axis])[axis].to_numpy()
    if len(values) == 0:
        raise ValueError(f"{points.name}: it holds no point")
    low, high = np.floor(values.min() / CELL_M), np.ceil(values.max() / CELL_M)
    return float(low * CELL_M), float(high * CELL_M)


@pipeline.product("DISPARITY", inputs=["STEREO_LEFT", "STEREO_RIGHT"], timeout_s=600)
def disparity(context: Context) -> Output:
    """Disparity of each pixel of the left image, as a GeoTIFF; NaN where there is no match."""
    left, right = context.input("STEREO_LEFT"), context.input("STEREO_RIGHT")
    target = context.output_path("disparity.tif")
    with context.orchestrator(ORCHESTRATOR) as orchestrator:
        compute_disparity(left, right, target, orchestrator)
    values = read_raster(target)
    share = float(np.isfinite(values).mean() * 100)
    context.log.info("%d x %d pixels, %.1f %% matched", *values.shape, share)
    summary = {
        "rows": values.shape[0],
        "cols": values.shape[1],
        "matched_percent": share,
        "median_px": float(np.nanmedian(values)),
    }
    return Output(target, media_type="image/tiff", metadata=summary)


@pipeline.product("DISPARITY_ERROR", inputs=["DISPARITY", "TRUE_DISPARITY"], timeout_s=120)
def disparity_error(context: Context) -> Output:
    """Disparity against the truth, as JSON."""
    computed = read_raster(context.input("DISPARITY"))
    error = measure_error(computed, read_raster(context.input("TRUE_DISPARITY")))
    context.log.info(
        "%.2f %% of %d pixels off by more than 2 px", error.bad_percent, error.compared
    )
    path = write_json(context.output_path("disparity_error.json"), asdict(error))
    summary = {
        "bad_percent": error.bad_percent,
        "median_error_px": error.median_error_px,
        "density_percent": error.density_percent,
    }
    return Output(path, media_type="application/json", metadata=summary)


@pipeline.product(
    "POINTS", inputs=["DISPARITY", "CALIBRATION"], optional=["STEREO_LEFT"], timeout_s=600
)
def points(context: Context) -> Output:
    """Points in space, with colours if the left image is available, as Parquet."""
    source = context.input("DISPARITY")
    calibration = Calibration.read(context.input("CALIBRATION"))
    colours = context.optional_input("STEREO_LEFT")
    target = context.output_path("points.parquet")
    with context.orchestrator(ORCHESTRATOR) as orchestrator:
        compute_points(source, calibration, colours, target, orchestrator)
    contents = pq.read_metadata(target)
    summary = {"points": contents.num_rows, "coloured": colours is not None}
    context.log.info("%d points", contents.num_rows)
    return Output(target, media_type="application/vnd.apache.parquet", metadata=summary)


@pipeline.product("HEIGHTS", inputs=["POINTS"], timeout_s=600)
def heights(context: Context) -> Output:
    """Heights over the plane that faces the camera at 5 m, as a GeoTIFF."""
    source = context.input("POINTS")
    target = context.output_path("heights.tif")
    with context.orchestrator(ORCHESTRATOR) as orchestrator:
        compute_heights(source, target, orchestrator)
    values = read_raster(target)
    low, middle, high = (float(each) for each in np.nanpercentile(values, (1, 50, 99)))
    context.log.info("%d x %d cells of %g m", *values.shape, CELL_M)
    summary = {
        "rows": values.shape[0],
        "cols": values.shape[1],
        "cell_m": CELL_M,
        "heights_1_50_99_percent_m": [low, middle, high],
    }
    return Output(target, media_type="image/tiff", metadata=summary)
