from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from batuta.orchestrator import Orchestrator
from examples.demo.disparity import match, open_raster, read_raster, write_raster
from examples.demo.observations import MOTORCYCLE
from examples.demo.stereo import (
    CELL_M,
    REFERENCE_M,
    compute_disparity,
    compute_heights,
    compute_points,
)
from tests.examples.products import Made, Pair

# The first test that asks for the products waits for all of them to be made.
pytestmark = pytest.mark.timeout(400)

OBS_ID = "MIDDLEBURY-MOTORCYCLE"

SEQUENTIAL = {"mode": "sequential"}


def test_tiles_match_as_the_whole_image_does(pair: Pair, made: dict[tuple[str, str], Made]) -> None:
    tiled = read_raster(made[OBS_ID, "DISPARITY"].path)
    whole = match(pair.left, pair.right)
    assert np.mean(np.isfinite(tiled) == np.isfinite(whole)) > 0.9998
    both = np.isfinite(tiled) & np.isfinite(whole)
    # OpenCV's step is a sixteenth of a pixel.
    assert np.mean(np.abs(tiled - whole)[both] <= 1 / 16) > 0.9998


def test_the_disparity_is_one_raster_with_its_nodata(made: dict[tuple[str, str], Made]) -> None:
    with open_raster(made[OBS_ID, "DISPARITY"].path) as raster:
        assert (raster.count, raster.shape, raster.dtypes) == (1, (500, 741), ("float32",))
        assert np.isnan(raster.nodata)


def test_the_stated_error_is_that_of_the_demonstration(made: dict[tuple[str, str], Made]) -> None:
    facts = made[OBS_ID, "DISPARITY_ERROR"].metadata
    assert facts["bad_percent"] == pytest.approx(4.28, abs=0.15)
    assert facts["density_percent"] == pytest.approx(89.1, abs=0.5)


def test_images_of_different_sizes_are_no_pair(pair: Pair, tmp_path: Path) -> None:
    left = write_raster(tmp_path / "left.png", pair.left)
    right = write_raster(tmp_path / "right.png", pair.right[:-1])
    with (
        pytest.raises(ValueError, match=r"\(500, 741\) and \(499, 741\)"),
        Orchestrator(SEQUENTIAL, out_dir=tmp_path) as orchestrator,
    ):
        compute_disparity(left, right, tmp_path / "disparity.tif", orchestrator)
    assert not (tmp_path / "disparity.tif").exists()


def test_there_is_a_point_per_matched_pixel_in_its_colour(
    pair: Pair, made: dict[tuple[str, str], Made]
) -> None:
    disparity = read_raster(made[OBS_ID, "DISPARITY"].path)
    cloud = pd.read_parquet(made[OBS_ID, "POINTS"].path)
    assert len(cloud) == np.isfinite(disparity).sum()
    cols = cloud["x"] * MOTORCYCLE.focal_px / cloud["z"] + MOTORCYCLE.centre_x_px
    rows = MOTORCYCLE.centre_y_px - cloud["y"] * MOTORCYCLE.focal_px / cloud["z"]
    seen = pair.left[np.rint(rows).astype(int), np.rint(cols).astype(int)]
    np.testing.assert_array_equal(cloud[["r", "g", "b"]].to_numpy(), seen)


def test_points_without_an_image_have_no_colour(
    made: dict[tuple[str, str], Made], tmp_path: Path
) -> None:
    target = tmp_path / "points.parquet"
    with Orchestrator(SEQUENTIAL, out_dir=tmp_path) as orchestrator:
        source = made[OBS_ID, "DISPARITY"].path
        compute_points(source, MOTORCYCLE, None, target, orchestrator)
    assert list(pd.read_parquet(target).columns) == ["x", "y", "z"]


def test_a_slope_of_points_is_gridded_as_it_is(tmp_path: Path) -> None:
    x, y = (each.ravel() for each in np.meshgrid(np.linspace(0, 1, 801), np.linspace(0, 0.5, 401)))
    z = 3 + 0.5 * x
    points = tmp_path / "points.parquet"
    pd.DataFrame({"x": x, "y": y, "z": z}).astype(np.float32).to_parquet(points)
    target = tmp_path / "heights.tif"
    with Orchestrator(SEQUENTIAL, out_dir=tmp_path) as orchestrator:
        compute_heights(points, target, orchestrator)
    heights = read_raster(target)
    assert heights.shape == (100, 200)
    assert np.isfinite(heights).all()
    middle = (np.arange(200) + 0.5) * CELL_M
    np.testing.assert_allclose(
        heights, np.broadcast_to(REFERENCE_M - 3 - 0.5 * middle, heights.shape), atol=CELL_M / 2
    )
    with open_raster(target) as raster:
        assert raster.bounds == pytest.approx((0.0, 0.0, 1.0, 0.5))


def test_no_point_makes_no_raster(tmp_path: Path) -> None:
    points = tmp_path / "points.parquet"
    pd.DataFrame({"x": [], "y": [], "z": []}).astype(np.float32).to_parquet(points)
    with (
        pytest.raises(ValueError, match="holds no point"),
        Orchestrator(SEQUENTIAL, out_dir=tmp_path) as orchestrator,
    ):
        compute_heights(points, tmp_path / "heights.tif", orchestrator)
