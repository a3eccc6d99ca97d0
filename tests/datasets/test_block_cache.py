"""How much of files GDAL keeps in memory."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import rasterio
from rasterio.env import get_gdal_config
from rasterio.vrt import WarpedVRT

from batuta.datasets import Window
from batuta.datasets.block_cache import LEAST_BYTES, SETTING, block_bytes, limited_block_cache
from tests.support.checkout import PYTHON_PATH

SIDE_PX = 5120
WHOLE_BYTES = SIDE_PX * SIDE_PX * 4


def write(path: Path, side_px: int, **options: object) -> Path:
    """Write a raster of zeros, which takes no room."""
    profile = {"driver": "GTiff", "height": side_px, "width": side_px, "count": 1}
    with rasterio.open(
        path,
        "w",
        **profile,
        dtype="float32",
        SPARSE_OK=True,
        crs="EPSG:32631",
        transform=rasterio.Affine(30, 0, 0, 0, -30, 0),
        **options,
    ):
        pass
    return path


def test_it_is_limited_within_and_as_before_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(SETTING, raising=False)
    before = get_gdal_config(SETTING)
    with limited_block_cache(LEAST_BYTES * 2):
        assert get_gdal_config(SETTING) == LEAST_BYTES * 2
        with limited_block_cache(0):
            assert get_gdal_config(SETTING) == LEAST_BYTES
    assert get_gdal_config(SETTING) == before


def test_what_a_user_has_set_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    before = get_gdal_config(SETTING)
    monkeypatch.setenv(SETTING, "100")
    with limited_block_cache(0):
        assert get_gdal_config(SETTING) == before


def test_blocks_of_a_window_are_whole(tmp_path: Path) -> None:
    blocks: dict[str, Any] = {"tiled": True, "blockxsize": 128, "blockysize": 64}
    with rasterio.open(write(tmp_path / "a.tif", 512, compress="deflate", **blocks)) as raster:
        assert block_bytes(raster, Window(0, 64, 0, 128)) == 64 * 128 * 5
        assert block_bytes(raster, Window(63, 65, 127, 129)) == 4 * 64 * 128 * 5
    with rasterio.open(write(tmp_path / "strips.tif", 512, blockysize=1)) as raster:
        assert block_bytes(raster, Window(3, 5, 0, 1)) == 2 * 512 * 5


def test_blocks_that_cost_nothing_to_read_again_are_not_kept(tmp_path: Path) -> None:
    plain = write(tmp_path / "plain.tif", 512, tiled=True, blockxsize=128, blockysize=128)
    with rasterio.open(plain) as raster:
        assert block_bytes(raster, Window(0, 512, 0, 512)) == 0


def test_nothing_is_known_of_files_that_are_made_of_others(tmp_path: Path) -> None:
    with (
        rasterio.open(write(tmp_path / "a.tif", 64)) as raster,
        WarpedVRT(raster, crs="EPSG:4326") as warped,
    ):
        assert block_bytes(warped, Window(0, 8, 0, 8)) is None


PROGRAM = """
import resource
import sys

import numpy as np

import batuta
from batuta.datasets import Window
from batuta.datasets.array_file import RasterSpec
from batuta.datasets.raster_file import RasterFile


def peak_bytes():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def count(pixels):
    return pixels.size


def mapped():
    return batuta.reduce_tiles(count, "in.tif", tile=512, overlap=1, mode="sequential")


def written():
    side = {side}
    spec = RasterSpec(height=side, width=side, count=1, dtype="float32")
    with RasterFile("out.tif", spec) as file:
        for row in range(0, side, 640):  # not whole blocks, which GDAL writes at once
            for col in range(0, side, 640):
                file.write(np.ones((640, 640), np.float32), Window(row, row + 640, col, col + 640))


act = {{"read": mapped, "write": written}}[sys.argv[1]]
batuta.reduce_tiles(count, np.zeros((512, 512)), mode="sequential")
before = peak_bytes()
act()
print(peak_bytes() - before)
"""


@pytest.mark.parametrize("act", ["read", "write"])
def test_a_raster_that_is_read_or_written_tile_by_tile_does_not_stay_in_memory(
    tmp_path: Path, act: str
) -> None:
    blocks: dict[str, Any] = {"tiled": True, "blockxsize": 256, "blockysize": 256}
    write(tmp_path / "in.tif", SIDE_PX, compress="deflate", **blocks)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PROGRAM.format(side=SIDE_PX), act],
        cwd=tmp_path,
        env={"PYTHONPATH": PYTHON_PATH},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < WHOLE_BYTES / 2
