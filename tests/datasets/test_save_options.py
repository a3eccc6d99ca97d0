"""Formats and options, as a program asks the orchestrator for them."""

import json
from pathlib import Path

import laspy
import numpy as np
import pytest
import rasterio
import xarray as xr

from batuta.datasets import CarsDataset, SaveOptions
from batuta.errors import ConfigurationError
from batuta.orchestrator import Orchestrator
from tests.datasets.cases import COL_SPLIT, HEIGHT, HEIGHTS, ROW_SPLIT, WIDTH, Case


def filled(dataset_type: str) -> CarsDataset:
    case = Case(dataset_type, "any")
    dataset = case.dataset()
    for position in case.positions():
        dataset[position] = case.tile(*position)
    return dataset


def files_in(manifest: Path) -> list[str]:
    found: list[str] = json.loads(manifest.read_text())["files"]
    return found


def test_one_dataset_goes_in_several_formats_with_their_options(tmp_path: Path) -> None:
    heights, points = filled("arrays"), filled("points")
    cog = SaveOptions(cloud_optimized=True, compression="deflate", tags={"mission": "one"})
    with Orchestrator({"mode": "sequential"}) as orchestrator:
        orchestrator.add_to_save_lists(tmp_path / "z.tif", "z", heights, options=cog, nodata=-1)
        orchestrator.add_to_save_lists(tmp_path / "z.zarr", "z", heights, nodata=-1)
        orchestrator.add_to_save_lists(
            tmp_path / "points.laz", "points", points, save_points_cloud_by_pair=True
        )
    with rasterio.open(tmp_path / "z.tif") as raster:
        from_tiff = raster.read(1)
        assert raster.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert raster.tags()["mission"] == "one"
    expected = HEIGHTS.copy()
    expected[ROW_SPLIT : 2 * ROW_SPLIT, COL_SPLIT : 2 * COL_SPLIT] = -1  # the tile that is None
    np.testing.assert_array_equal(from_tiff, expected)
    from_zarr = xr.open_zarr(tmp_path / "z.zarr", chunks=None)["z"]
    assert from_zarr.shape == (HEIGHT, WIDTH)
    np.testing.assert_array_equal(from_zarr, np.where(expected == -1, np.nan, expected))
    by_pair = files_in(tmp_path / "points.laz.manifest.json")
    assert by_pair == ["points_one_three-448a84c0.laz", "points_one_two.laz"]
    assert sum(len(laspy.read(tmp_path / name).points) for name in by_pair) == 220
    assert files_in(tmp_path / "z.zarr.manifest.json") == ["z.zarr"]


def test_options_that_do_not_go_with_the_file_are_refused_before_anything_is_done(
    tmp_path: Path,
) -> None:
    with (
        Orchestrator({"mode": "sequential"}) as orchestrator,
        pytest.raises(ConfigurationError, match=r"options\.cloud_optimized: True is not for CSV"),
    ):
        orchestrator.add_to_save_lists(
            tmp_path / "a.csv",
            "points",
            filled("points"),
            options=SaveOptions(cloud_optimized=True),
        )
    assert list(tmp_path.iterdir()) == []
