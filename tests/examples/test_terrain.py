"""The terrain example: what is computed tile by tile is what is computed whole."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import rasterio

from batuta.datasets import Overlaps, Window
from examples.terrain import terrain
from examples.terrain.dem import Dem, write_sample
from examples.terrain.relief import Heights, gradient, hillshade, slope_deg

STEEP_DEG = 25.0
PRODUCTS = ("slope.tif", "hillshade.tif", "statistics.json", "steep.parquet")


@pytest.fixture(scope="module")
def dem(tmp_path_factory: pytest.TempPathFactory) -> Dem:
    path = tmp_path_factory.mktemp("dem") / "elevation.tif"
    write_sample(path)
    return Dem.opened(path)


@pytest.fixture(scope="module", params=["sequential", "multiprocessing"])
def made(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, dem: Dem
) -> Path:
    """Folder with the products of one mode."""
    output = tmp_path_factory.mktemp(request.param)
    arguments = ["--output", str(output), "--dem", dem.path, "--mode", request.param]
    terrain.main([*arguments, "--tile", "100", "--steep", str(STEEP_DEG)])
    return output


@pytest.fixture(scope="module")
def whole(dem: Dem) -> tuple[Heights, Heights, Heights]:
    """Heights, slope and shade of the model, in one piece."""
    heights = dem.read(Window(0, dem.rows, 0, dem.cols), Overlaps())
    north, east = gradient(heights, *dem.pixel_size_m(0, dem.rows))
    return heights, slope_deg(north, east), hillshade(north, east)


def test_tiles_have_the_slope_of_the_whole_model(made: Path, whole: tuple[Heights, ...]) -> None:
    with rasterio.open(made / "slope.tif") as raster:
        assert np.array_equal(raster.read(1), whole[1].astype(np.float32))


def test_tiles_have_the_shade_of_the_whole_model(made: Path, whole: tuple[Heights, ...]) -> None:
    with rasterio.open(made / "hillshade.tif") as raster:
        assert np.array_equal(raster.read(1), np.rint(1 + 254 * whole[2]).astype(np.uint8))


def test_rasters_lie_where_the_model_lies(made: Path, dem: Dem) -> None:
    for name in ("slope.tif", "hillshade.tif"):
        with rasterio.open(made / name) as raster:
            assert raster.crs == dem.crs == "EPSG:4326"
            assert raster.transform == dem.transform


def test_steep_points_are_the_steep_pixels(
    made: Path, dem: Dem, whole: tuple[Heights, ...]
) -> None:
    points = pd.read_parquet(made / "steep.parquet")
    heights, slope, _ = whole
    steep = slope > STEEP_DEG
    assert len(points) == np.count_nonzero(steep) > 100
    found = _pixels_at(dem, points["x"].to_numpy(), points["y"].to_numpy())
    assert len(set(zip(*found, strict=True))) == len(points)
    assert np.array_equal(points["slope_deg"], slope[found])
    assert np.array_equal(points["z"], heights[found])


def _pixels_at(dem: Dem, x: Heights, y: Heights) -> tuple[Any, Any]:
    """Return rows and columns, of a model whose rows go from north to south."""
    rows = (y - dem.transform.f) / dem.transform.e
    cols = (x - dem.transform.c) / dem.transform.a
    return np.floor(rows).astype(int), np.floor(cols).astype(int)


def test_statistics_are_those_of_each_window(made: Path, whole: tuple[Heights, ...]) -> None:
    heights, slope, _ = whole
    records = [each["data"] for each in json.loads((made / "statistics.json").read_text())]
    assert sum(record["pixels"] for record in records) == slope.size
    for record in records:
        inside = np.s_[record["row_min"] : record["row_max"], record["col_min"] : record["col_max"]]
        assert record["slope_mean_deg"] == pytest.approx(slope[inside].mean(), rel=1e-12)
        assert record["slope_max_deg"] == slope[inside].max()
        assert record["height_min_m"] == heights[inside].min()
        assert record["height_max_m"] == heights[inside].max()


def test_every_manifest_says_complete(made: Path) -> None:
    for name in PRODUCTS:
        assert json.loads((made / f"{name}.manifest.json").read_text())["complete"] is True


def test_size_of_tiles_does_not_show(tmp_path: Path, dem: Dem) -> None:
    for tile_px in (37, 512):
        settings = terrain.Settings(tile_px=tile_px)
        terrain.make_products(dem, tmp_path / str(tile_px), {"mode": "sequential"}, settings)
    for name in ("slope.tif", "hillshade.tif"):
        with (
            rasterio.open(tmp_path / "37" / name) as small,
            rasterio.open(tmp_path / "512" / name) as large,
        ):
            assert np.array_equal(small.read(1), large.read(1))


def test_slope_of_a_tilted_plane_is_its_tilt() -> None:
    rows, cols = np.mgrid[0:9, 0:9].astype(float)
    size_m = np.full(9, 30.0)
    north, east = gradient(30 * (3 * cols - 4 * rows), size_m, size_m)
    inside = np.s_[1:-1, 1:-1]
    assert np.allclose(north[inside], 4)
    assert np.allclose(east[inside], 3)
    assert np.allclose(slope_deg(north, east)[inside], np.degrees(np.arctan(5)))


@pytest.mark.parametrize(
    ("azimuth_deg", "north", "east"), [(0, -1, 0), (90, 0, -1), (180, 1, 0), (270, 0, 1)]
)
def test_ground_that_faces_the_light_is_lit_whole(
    azimuth_deg: float, north: float, east: float
) -> None:
    facing = hillshade(np.array([[north]]), np.array([[east]]), azimuth_deg, 45)
    averted = hillshade(np.array([[-north]]), np.array([[-east]]), azimuth_deg, 45)
    assert facing == pytest.approx(1)
    assert averted == pytest.approx(0, abs=1e-12)


def test_pixel_without_height_leaves_its_neighbours_without_slope() -> None:
    heights = np.zeros((7, 7))
    heights[3, 3] = np.nan
    size_m = np.ones(7)
    missing = np.isnan(slope_deg(*gradient(heights, size_m, size_m)))
    expected = np.zeros((7, 7), dtype=bool)
    expected[2:5, 2:5] = True
    expected[3, 3] = False  # Horn's formula does not look at the pixel itself
    assert np.array_equal(missing, expected)


def test_model_that_lies_nowhere_is_refused(tmp_path: Path) -> None:
    profile: dict[str, Any] = {"driver": "GTiff", "height": 4, "width": 4, "count": 1}
    placed = rasterio.Affine.scale(2)
    with rasterio.open(
        tmp_path / "bare.tif", "w", dtype="float32", transform=placed, **profile
    ) as raster:
        raster.write(np.zeros((1, 4, 4), dtype=np.float32))
    with pytest.raises(ValueError, match="no coordinate reference system"):
        Dem.opened(tmp_path / "bare.tif")
