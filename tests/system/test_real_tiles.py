"""Real data, tile by tile: an elevation model from the air, and a Pléiades pair.

The data do not come with the project: see what each test says when it is skipped.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio

from batuta.datasets import Overlaps, Window
from examples.terrain import terrain
from examples.terrain.dem import Dem
from examples.terrain.relief import gradient, hillshade, slope_deg
from tests.system.real_pair import UNMATCHED, Pair, match_in_tiles, matched, rectified

DATA = Path(__file__).parents[2].parent / "shared" / "data"
TILE_PX = 150

CONFIGURATIONS = [
    pytest.param({"mode": "sequential"}, id="sequential"),
    pytest.param({"mode": "multiprocessing", "nb_workers": 2}, id="multiprocessing"),
]

# An image in the geometry of its sensor lies nowhere on a map, nor do its disparities.
pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")


def real_file(name: str) -> Path:
    path = DATA / name
    if not path.is_file():
        pytest.skip(f"{name} is not in ../shared/data, next to the clone")
    return path


@pytest.fixture(scope="module")
def surface() -> Dem:
    return Dem.opened(real_file("dem/dsm.tif"))


@pytest.fixture(scope="module")
def pair() -> Pair:
    return rectified(real_file("stereo/img_01.tif"), real_file("stereo/img_02.tif"))


@pytest.mark.parametrize("conf", CONFIGURATIONS)
def test_slope_and_shade_of_a_surface_model_do_not_show_its_tiles(
    surface: Dem, conf: dict[str, Any], tmp_path: Path
) -> None:
    terrain.make_products(surface, tmp_path, conf, terrain.Settings(tile_px=TILE_PX))
    heights = surface.read(Window(0, surface.rows, 0, surface.cols), Overlaps())
    north, east = gradient(heights, *surface.pixel_size_m(0, surface.rows))
    slope, shade = slope_deg(north, east), np.rint(1 + 254 * hillshade(north, east))
    with rasterio.open(tmp_path / "slope.tif") as raster:
        assert (raster.crs, raster.transform) == (surface.crs, surface.transform)
        assert np.array_equal(raster.read(1), slope.astype(np.float32), equal_nan=True)
    with rasterio.open(tmp_path / "hillshade.tif") as raster:
        assert np.array_equal(raster.read(1), np.nan_to_num(shade).astype(np.uint8))


def test_pixels_without_height_have_no_slope(surface: Dem, tmp_path: Path) -> None:
    terrain.make_products(surface, tmp_path, {"mode": "sequential"}, terrain.Settings(tile_px=512))
    with rasterio.open(tmp_path / "slope.tif") as raster, rasterio.open(surface.path) as given:
        slope, heights = raster.read(1), given.read(1, masked=True)
    assert heights.mask.any()
    # Horn's formula looks at the eight neighbours: beside a hole there is no slope either.
    beside = heights.mask[:, 2:] | heights.mask[:, :-2]
    assert np.isnan(slope[:, 1:-1][beside]).all()
    known = slope[np.isfinite(slope)]
    assert known.size > 0.99 * slope.size
    assert known.min() >= 0
    assert 60 < known.max() < 90


def test_rows_of_the_pair_correspond(pair: Pair) -> None:
    apart_px = np.abs(pair.left_points[:, 1] - pair.right_points[:, 1])
    assert len(apart_px) > 1000
    assert np.median(apart_px) < 0.3
    assert np.percentile(apart_px, 95) < 1


@pytest.mark.parametrize("conf", CONFIGURATIONS)
def test_disparities_of_the_pair_do_not_show_its_tiles(
    pair: Pair, conf: dict[str, Any], tmp_path: Path
) -> None:
    with rasterio.open(match_in_tiles(pair, tmp_path, conf, TILE_PX)) as raster:
        assert np.array_equal(raster.read(1), matched(pair.left, pair.right))


def test_disparities_of_the_pair_are_those_of_points_found_otherwise(
    pair: Pair, tmp_path: Path
) -> None:
    with rasterio.open(match_in_tiles(pair, tmp_path, {"mode": "sequential"}, TILE_PX)) as raster:
        disparities = raster.read(1)
    cols, rows = np.rint(pair.left_points).astype(int).T
    dense = disparities[rows, cols]
    sparse = pair.left_points[:, 0] - pair.right_points[:, 0]
    there = dense > UNMATCHED
    assert np.count_nonzero(there) > 0.6 * len(there)
    apart_px = np.abs(dense - sparse)[there]
    assert np.median(apart_px) < 0.5
    assert np.mean(apart_px < 2) > 0.9
