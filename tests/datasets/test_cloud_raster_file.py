"""Cloud-optimised GeoTIFFs of blocks that were compressed elsewhere, and of other pixels."""

import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import rasterio
import rasterio.shutil
import xarray as xr
from affine import Affine

from batuta.datasets import RasterSpec, SaveOptions, Window
from batuta.datasets.block_codec import BlockCodec, EncodedPixels
from batuta.datasets.cloud_raster_file import CloudRasterFile
from batuta.datasets.durable_file import workspace_of
from batuta.datasets.raster_file import copy_options, create_raster, ignore_missing_georeferencing
from batuta.datasets.tiff_tables import block_tables

SIDE = 64
CASES = {
    "float32-zstd": ((1, 300, 250), "float32", SaveOptions(compression="zstd"), -1),
    "float64-nan": ((1, 130, 132), "float64", SaveOptions(compression="deflate"), np.nan),
    "uint8-plain": ((1, 100, 256), "uint8", SaveOptions(), None),
    "int16-bands": ((3, 130, 70), "int16", SaveOptions(compression="lzw"), 5),
    "uint16-9-bits": ((1, 200, 130), "uint16", SaveOptions(compression="zstd", nbits=9), 0),
    "float32-lerc": ((2, 66, 64), "float32", SaveOptions(compression="lerc"), 0),
    "blocks-of-16": ((1, 100, 150), "float32", SaveOptions(block_px=16), None),
    "blocks-of-96": ((2, 400, 300), "int16", SaveOptions(compression="zstd", block_px=96), 5),
    "blocks-of-112": ((1, 30, 700), "float32", SaveOptions(block_px=112), None),
    "blocks-of-192": ((1, 900, 500), "uint8", SaveOptions(block_px=192), None),
    "odd": ((1, 129, 1), "float32", SaveOptions(compression="zstd"), None),
    "one-block": ((1, 30, 64), "float32", SaveOptions(compression="zstd"), None),
}


def made(name: str) -> tuple[npt.NDArray[Any], RasterSpec, SaveOptions]:
    """Return pixels with holes, their raster and the options of its file."""
    shape, dtype, given, nodata = CASES[name]
    options = SaveOptions(
        cloud_optimized=True,
        block_px=given.block_px or SIDE,
        compression=given.compression,
        nbits=given.nbits,
        tags={"MISSION": "one"},
    )
    whole = (np.indices(shape).sum(axis=0) ** 2 % 300 % 256).astype(dtype)
    if nodata is not None:
        whole[:, 3:40, 5:99] = nodata
    count, height, width = shape
    spec = RasterSpec(
        count=count,
        height=height,
        width=width,
        dtype=dtype,
        nodata=nodata,
        crs="EPSG:32631",
        transform=Affine(10, 0, 5e5, 0, -10, 4e6),
    )
    return whole, spec, options


def windows(spec: RasterSpec, rows: int, cols: int) -> list[Window]:
    return [
        Window(row, min(row + rows, spec.height), col, min(col + cols, spec.width))
        for row in range(0, spec.height, rows)
        for col in range(0, spec.width, cols)
    ]


def write(
    file: CloudRasterFile, whole: npt.NDArray[Any], window: Window, codec: BlockCodec | None
) -> None:
    """Write a tile, encoded if there is a codec."""
    pixels: Any = whole[:, window.row_min : window.row_max, window.col_min : window.col_max]
    if codec is not None:
        pixels = pickle.loads(pickle.dumps(EncodedPixels(pixels, window, codec)))  # noqa: S301 - as workers send it
    file.write_variable(xr.Dataset({"z": (("band", "row", "col"), pixels)}), "z", window)


@pytest.mark.parametrize("name", CASES)
def test_its_bytes_are_the_same_whoever_compressed_its_blocks(name: str, tmp_path: Path) -> None:
    whole, spec, options = made(name)
    codec = BlockCodec.of(spec, options)
    found = {}
    for label, sides, encoded in (
        ("raw", (100, 90), ()),
        ("whole blocks", (128, 64), range(99)),
        ("parts of blocks", (100, 90), range(99)),
        ("some", (80, 128), range(0, 99, 2)),
    ):
        path = tmp_path / "a.tif"
        with CloudRasterFile(path, spec, options) as file:
            for rank, window in enumerate(windows(spec, *sides)[::-1]):
                write(file, whole, window, codec if rank in encoded else None)
        found[label] = path.read_bytes()
    assert {label for label, content in found.items() if content != found["raw"]} == set()


@pytest.mark.parametrize("name", sorted(CASES.keys() - {"odd"}))
def test_gdal_makes_the_same_pixels_overviews_and_metadata(name: str, tmp_path: Path) -> None:
    whole, spec, options = made(name)
    with CloudRasterFile(tmp_path / "a.tif", spec, options) as file:
        for window in windows(spec, 128, 128):
            write(file, whole, window, BlockCodec.of(spec, options))
    plain = tmp_path / "plain.tif"
    create_raster(plain, spec, options)
    with ignore_missing_georeferencing():
        with rasterio.open(plain, "r+") as raster:
            raster.write(whole)
        rasterio.shutil.copy(plain, tmp_path / "gdal.tif", **copy_options(spec, options))
        with rasterio.open(tmp_path / "gdal.tif") as raster:
            levels = [None, *range(len(raster.overviews(1)))]
        for level in levels:
            how = {} if level is None else {"overview_level": level}
            with (
                rasterio.open(tmp_path / "a.tif", **how) as ours,
                rasterio.open(tmp_path / "gdal.tif", **how) as theirs,
            ):
                np.testing.assert_array_equal(ours.read(), theirs.read())
                assert str(ours.profile) == str(theirs.profile)  # nodata may be NaN
                assert ours.overviews(1) == theirs.overviews(1)
                assert ours.tags() == theirs.tags()
                structure = ours.tags(ns="IMAGE_STRUCTURE")
                assert structure == theirs.tags(ns="IMAGE_STRUCTURE")


def test_what_was_durable_when_it_was_killed_is_kept(tmp_path: Path) -> None:
    whole, spec, options = made("float32-zstd")
    codec = BlockCodec.of(spec, options)
    at_once, killed = tmp_path / "at_once.tif", tmp_path / "killed.tif"
    tiles = windows(spec, 100, 128)
    with CloudRasterFile(at_once, spec, options) as file:
        for window in tiles:
            write(file, whole, window, codec)
    first = CloudRasterFile(killed, spec, options)
    for window in tiles[:3]:
        write(first, whole, window, codec)
    first.checkpoint()
    durable = (workspace_of(killed) / "blocks.bin").stat().st_size
    write(first, whole, tiles[3], codec)
    blocks = workspace_of(killed) / "blocks.bin"
    assert blocks.stat().st_size > durable + 100
    os.truncate(blocks, blocks.stat().st_size - 100)  # cut in a record
    resumed = CloudRasterFile(killed, spec, options, resume=True)
    np.testing.assert_array_equal(resumed.read(tiles[1]), whole[0, :100, 128:250])
    for window in tiles[3:]:
        write(resumed, whole, window, codec)
    resumed.close()
    assert killed.read_bytes() == at_once.read_bytes()
    assert not workspace_of(killed).exists()
    first.abandon()


def test_a_block_that_was_damaged_on_the_disk_is_not_taken(tmp_path: Path) -> None:
    whole, spec, options = made("float32-zstd")
    path = tmp_path / "a.tif"
    first = CloudRasterFile(path, spec, options)
    window = Window(0, 64, 0, 64)
    write(first, whole, window, BlockCodec.of(spec, options))
    first.suspend()
    blocks = workspace_of(path) / "blocks.bin"
    content = bytearray(blocks.read_bytes())
    content[60] ^= 1
    blocks.write_bytes(content)
    with CloudRasterFile(path, spec, options, resume=True) as resumed:
        assert np.unique(resumed.read(window)).tolist() == [spec.nodata]


def test_tiles_are_added_to_a_file_that_was_made_already(tmp_path: Path) -> None:
    whole, spec, options = made("int16-bands")
    codec = BlockCodec.of(spec, options)
    path = tmp_path / "a.tif"
    file = CloudRasterFile(path, spec, options)
    write(file, whole, Window(0, 64, 0, 70), codec)
    file.close(keep=True)
    with rasterio.open(path) as raster:
        np.testing.assert_array_equal(raster.read()[:, :64], whole[:, :64])
        assert np.unique(raster.read()[:, 64:]).tolist() == [spec.nodata]
    with CloudRasterFile(path, spec, options, resume=True) as file:
        write(file, whole, Window(64, 130, 0, 70), codec)
        write(file, whole + 1, Window(0, 10, 0, 10), None)  # of what is compressed already
    with rasterio.open(path) as raster:
        expected = whole.copy()
        expected[:, :10, :10] += 1
        np.testing.assert_array_equal(raster.read(), expected)


def test_encoded_pixels_are_an_array_for_numpy_and_xarray() -> None:
    whole, spec, options = made("float32-zstd")
    window = Window(30, 200, 0, 250)
    pixels = whole[0, 30:200]
    encoded = EncodedPixels(pixels, window, BlockCodec.of(spec, options))
    assert min(encoded.blocks) == (1, 0)
    assert max(encoded.blocks) == (2, 3)
    variable = xr.DataArray(encoded, dims=("row", "col"))
    assert (variable.shape, variable.dtype) == (pixels.shape, pixels.dtype)
    np.testing.assert_array_equal(variable.values, pixels)
    np.testing.assert_array_equal(variable + 1, pixels + 1)
    np.testing.assert_array_equal(variable.transpose().values, pixels.T)
    assert float(np.max(encoded)) == pixels.max()


def test_pixels_of_another_data_type_than_the_file_are_converted(tmp_path: Path) -> None:
    _, spec, options = made("float32-zstd")
    _, other, _ = made("uint8-plain")
    path = tmp_path / "a.tif"
    with CloudRasterFile(path, spec, options) as file:
        window = Window(0, 100, 0, 250)
        codec = BlockCodec.of(other, options)
        small = np.full((1, 100, 250), 9, "uint8")
        write(file, small, window, codec)
    with rasterio.open(path) as raster:
        assert np.unique(raster.read(1)[:100]).tolist() == [9]


@pytest.mark.parametrize("big", ["NO", "YES"])
def test_tables_of_blocks_are_those_of_gdal(big: str, tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    profile = {"driver": "GTiff", "width": 100, "height": 70, "count": 1, "dtype": "uint8"}
    blocks = {"tiled": True, "blockxsize": 32, "blockysize": 32, "BIGTIFF": big}
    with ignore_missing_georeferencing(), rasterio.open(path, "w", **profile, **blocks) as raster:
        raster.write(np.arange(7000, dtype="uint8").reshape(1, 70, 100))
    table = block_tables(path.read_bytes())[0]
    with ignore_missing_georeferencing(), rasterio.open(path) as raster:
        expected = [
            int(raster.get_tag_item(f"BLOCK_OFFSET_{col}_{row}", "TIFF", bidx=1))
            for row in range(3)
            for col in range(4)
        ]
    assert table.offsets.tolist() == expected
    assert table.sizes.tolist() == [32 * 32] * 12
