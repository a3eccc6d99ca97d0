"""A disk that fills: always an error, never a file that lacks something."""

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from batuta.datasets import CarsDataset, RasterFile, RasterSpec, SaveOptions, Window, fill_dataset
from batuta.datasets.array_file import ArrayFile
from tests.support.disks import mounted_disk


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 8 MB."""
    with mounted_disk(tmp_path, 8) as disk:
        yield disk


@pytest.mark.parametrize("nodata", [None, 0, -9999])
def test_a_raster_too_large_is_found_before_its_first_tile(
    nodata: float | None, small_disk: Path
) -> None:
    spec = RasterSpec(height=2000, width=2000, count=1, dtype="float32", nodata=nodata)
    with pytest.raises(OSError, match=r"No space left|bytes written") as caught:
        RasterFile(small_disk / "a.tif", spec)
    assert caught.value.errno == errno.ENOSPC


@pytest.mark.parametrize(
    "options",
    [
        SaveOptions(compression="deflate"),
        SaveOptions(cloud_optimized=True),
        SaveOptions(cloud_optimized=True, compression="zstd"),
    ],
    ids=["deflate", "cog", "cog-zstd"],
)
def test_a_final_copy_without_room_is_an_error_and_the_pixels_are_kept(
    options: SaveOptions, small_disk: Path
) -> None:
    dataset = CarsDataset("arrays")
    dataset.create_grid(1280, 1024, 1024, 1280)
    noise = np.random.default_rng(1).random((1024, 1280), dtype=np.float32)
    tile = xr.Dataset({"z": (("row", "col"), noise)})
    fill_dataset(tile, window=Window(0, 1024, 0, 1280).as_dict())
    path = small_disk / "a.tif"
    descriptor = dataset.generate_descriptor(tile, path, tag="z", options=options)
    dataset.run_save(tile, path, tag="z", descriptor=descriptor)
    with pytest.raises(OSError, match="the final copy failed") as caught:
        descriptor.close(keep=True)
    assert caught.value.errno == errno.ENOSPC
    assert not path.exists()
    resumed = dataset.generate_descriptor(tile, path, tag="z", options=options, resume=True)
    assert isinstance(resumed, ArrayFile)
    np.testing.assert_array_equal(resumed.read(Window(0, 1024, 0, 1280)), noise)
    resumed.abandon()
    assert os.listdir(small_disk) == []  # noqa: PTH208 - hidden files too


@pytest.mark.parametrize("suffix", [".las", ".laz", ".parquet", ".geoparquet", ".csv"])
def test_points_without_room_are_an_error_and_make_no_file(suffix: str, small_disk: Path) -> None:
    dataset = CarsDataset("points")
    dataset.create_grid(8, 1, 1, 1)
    path = small_disk / f"cloud{suffix}"
    descriptor = dataset.generate_descriptor(None, path)
    rng = np.random.default_rng(2)

    def fill() -> None:
        for col in range(8):
            cloud = pd.DataFrame(rng.random((50_000, 3)), columns=["x", "y", "z"])
            dataset.run_save(cloud, path, descriptor=descriptor, position=(0, col))
        descriptor.close()

    with pytest.raises(OSError, match="No space left") as caught:
        fill()
    assert caught.value.errno == errno.ENOSPC
    assert not path.exists()
    descriptor.abandon()
    assert os.listdir(small_disk) == []  # noqa: PTH208 - hidden files too


def test_a_zarr_without_room_is_an_error_and_makes_no_file(small_disk: Path) -> None:
    dataset = CarsDataset("arrays")
    dataset.create_grid(512, 8192, 512, 512)
    rng = np.random.default_rng(3)
    path = small_disk / "a.zarr"
    first = xr.Dataset({"z": (("row", "col"), rng.random((512, 512)))})
    descriptor = dataset.generate_descriptor(first, path, tag="z")

    def fill() -> None:
        for row in range(16):
            tile = xr.Dataset({"z": (("row", "col"), rng.random((512, 512)))})
            dataset.run_save(tile, path, tag="z", descriptor=descriptor, position=(row, 0))

    with pytest.raises(OSError, match="No space left") as caught:
        fill()
    assert caught.value.errno == errno.ENOSPC
    descriptor.abandon()
    assert os.listdir(small_disk) == []  # noqa: PTH208 - hidden files too
