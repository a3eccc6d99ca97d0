"""What a notebook displays of a map over tiles."""

import base64
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from affine import Affine
from rasterio.io import MemoryFile

from batuta import MappedTiles, map_tiles
from batuta.datasets.display import DONE_FILL, FAILED_FILL
from batuta.datasets.raster_file import ignore_missing_georeferencing
from tests.tiling.rasters import heights, write_raster

FAILING = {"mode": "multiprocessing", "nb_workers": 1, "on_tile_failure": "continue"}


def shown(mapped: MappedTiles) -> str:
    return mapped._repr_html_()


def picture_in(html: str) -> npt.NDArray[Any]:
    encoded = html.partition("data:image/png;base64,")[2].partition('"')[0]
    with (
        ignore_missing_georeferencing(),
        MemoryFile(base64.b64decode(encoded)) as memory,
        memory.open() as picture,
    ):
        pixels: npt.NDArray[Any] = picture.read()
    return pixels


def test_what_is_not_computed_shows_its_plan_alone() -> None:
    html = shown(map_tiles(np.negative, heights(40, 30), tile=16))
    assert "negative: not computed" in html
    assert html.count("<rect") == 6
    assert "img" not in html
    assert "states" not in html


def test_tiles_that_failed_are_told_from_those_that_are_done(tmp_path: Path) -> None:
    def cloudy(z: npt.NDArray[Any], place: Any) -> npt.NDArray[Any]:
        if place.window.row_min == 16:
            raise ValueError("clouds")
        return z

    mapped = map_tiles(cloudy, heights(48, 32), out=tmp_path / "out.tif", tile=16, mode=FAILING)
    html = shown(mapped)
    assert (html.count(DONE_FILL), html.count(FAILED_FILL)) == (4, 2)
    assert "4 done, 2 failed" in html
    assert picture_in(html)[3, ::80, 0].tolist() == [255, 0, 255]  # clear where nothing is


def test_tiles_outside_of_the_region_are_not_filled(tmp_path: Path) -> None:
    dem = write_raster(tmp_path / "dem.tif", heights(48, 48), transform=Affine(1, 0, 0, 0, -1, 48))
    corner = {"type": "Polygon", "coordinates": [[[1, 1], [40, 1], [1, 40], [1, 1]]]}
    out = tmp_path / "out.tif"
    mapped = map_tiles(np.negative, dem, out=out, tile=16, region=corner, mode="sequential")
    html = shown(mapped)
    assert html.count(DONE_FILL) == mapped.plan.tiles < html.count("<rect")
    assert "outside of the region" in html


@pytest.mark.parametrize("bands", [1, 3])
def test_the_picture_is_of_the_whole_raster(tmp_path: Path, bands: int) -> None:
    pixels = np.stack([heights(60, 120)] * bands) if bands > 1 else heights(60, 120)
    dem = write_raster(tmp_path / "dem.tif", pixels)
    mapped = map_tiles(np.negative, dem, out=tmp_path / "out.tif", mode="sequential")
    assert picture_in(shown(mapped)).shape == (4, 120, 240)


def test_a_file_that_was_removed_leaves_the_rest(tmp_path: Path) -> None:
    mapped = map_tiles(np.negative, heights(20, 20), out=tmp_path / "o.tif", mode="sequential")
    for path in tmp_path.iterdir():
        path.unlink()
    assert "img" not in shown(mapped)
    assert "1 done" in shown(mapped)
