"""The part of a raster that is computed."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from rasterio.rpc import RPC

from batuta import TilePlace, map_tiles
from batuta.datasets import Window
from batuta.datasets.raster_file import ignore_missing_georeferencing
from batuta.errors import ConfigurationError
from tests.tiling.rasters import PLACE, heights, pixels_of, write_raster

LEFT, TOP = PLACE.c, PLACE.f


@pytest.fixture
def dem(tmp_path: Path) -> Path:
    return write_raster(tmp_path / "dem.tif", heights(40, 30))


def ring(*corners: tuple[float, float]) -> list[list[float]]:
    """Return a ring of a polygon from columns and rows of pixels."""
    return [[*(PLACE @ corner)] for corner in (*corners, corners[0])]


@pytest.mark.parametrize(
    "region",
    [
        Window(5, 15, 10, 30),
        (LEFT + 300, TOP - 450, LEFT + 900, TOP - 150),
        (LEFT + 301, TOP - 449, LEFT + 5000, TOP - 151),
        {"type": "Polygon", "coordinates": [ring((10, 5), (29.5, 5), (29.5, 14.5), (10, 14.5))]},
    ],
)
def test_outputs_cover_the_region_and_its_tiles_have_true_neighbours(
    tmp_path: Path, dem: Path, region: Any
) -> None:
    def shifted(z: Any, place: TilePlace) -> Any:
        assert place.overlaps.up == 2  # inside the raster, though at the edge of the region
        return np.roll(z, 2, axis=0)

    out = tmp_path / "part.tif"
    map_tiles(shifted, dem, out=out, region=region, overlap=2, tile=(10, 7), mode="sequential")
    np.testing.assert_array_equal(pixels_of(out), pixels_of(dem)[3:13, 10:30])
    with rasterio.open(out) as part:
        assert part.transform == PLACE @ PLACE.translation(10, 5)


def test_only_tiles_that_a_polygon_touches_are_computed(tmp_path: Path, dem: Path) -> None:
    seen: list[tuple[int, int]] = []

    def look(z: Any, place: TilePlace) -> Any:
        seen.append((place.window.row_min, place.window.col_min))
        return z

    triangle = {"type": "Polygon", "coordinates": [ring((0, 0), (30, 0), (0, 40))]}
    feature = {"type": "Feature", "properties": {}, "geometry": triangle}
    mapped = map_tiles(
        look, dem, region=feature, tile=10, nodata=-1, mode="sequential", out=tmp_path / "a.tif"
    )
    assert seen == [
        (row, col)
        for row in range(0, 40, 10)
        for col in range(0, 30, 10)
        if col / 30 + row / 40 < 1
    ]
    assert mapped.plan.tiles == len(seen)
    assert (pixels_of(tmp_path / "a.tif")[30:, 20:] == -1).all()


def test_rational_polynomial_coefficients_are_kept_and_moved_with_the_region(
    tmp_path: Path,
) -> None:
    rpcs = RPC(
        height_off=0.0, height_scale=500.0, lat_off=43.0, lat_scale=0.1, line_off=20.0,
        line_scale=20.0, long_off=1.0, long_scale=0.1, samp_off=15.0, samp_scale=15.0,
        line_num_coeff=[1.0] * 20, line_den_coeff=[1.0] * 20,
        samp_num_coeff=[1.0] * 20, samp_den_coeff=[1.0] * 20,
    )  # fmt: skip
    image = write_raster(tmp_path / "image.tif", heights(40, 30), transform=None, crs=None)
    with ignore_missing_georeferencing(), rasterio.open(image, "r+") as raster:
        raster.rpcs = rpcs
    window = Window(5, 25, 10, 30)
    for region, first_row, first_col in ((None, 0, 0), (window, 5, 10)):
        out = tmp_path / "out.tif"
        map_tiles(np.negative, image, out=out, region=region, tile=16, mode="sequential")
        with ignore_missing_georeferencing(), rasterio.open(out) as raster:
            kept = raster.rpcs
        assert kept.line_off == rpcs.line_off - first_row
        assert kept.samp_off == rpcs.samp_off - first_col
        assert kept.line_num_coeff == rpcs.line_num_coeff


def test_a_raster_without_georeferencing_has_regions_of_pixels_alone() -> None:
    values = heights(40, 30)
    part = map_tiles(np.negative, values, region=Window(0, 10, 0, 10), mode="sequential")
    np.testing.assert_array_equal(part.compute(), -values[:10, :10])
    with pytest.raises(ConfigurationError, match="no georeferencing: a Window of pixels expected"):
        map_tiles(np.negative, values, region=(0, 0, 1, 1))
