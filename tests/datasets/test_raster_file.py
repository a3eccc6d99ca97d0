"""GeoTIFF: its compressions, its layouts, its pixels."""

from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import rasterio
import xarray as xr
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.crs import CRS

from batuta.datasets import (
    CarsDataset,
    GridSpec,
    RasterFile,
    RasterSpec,
    SaveOptions,
    TileError,
    Window,
    fill_dataset,
)
from batuta.datasets.raster_file import raster_file

SIDE = 300
WHOLE = Window(0, SIDE, 0, SIDE)
UTM = Affine(0.5, 0, 340_000, 0, -0.5, 7_650_000)


def spec(dtype: str = "float32", count: int = 1, **changes: Any) -> RasterSpec:
    given: dict[str, Any] = {"height": SIDE, "width": SIDE, "count": count, "dtype": dtype}
    return RasterSpec(**given | {"transform": UTM, "crs": CRS.from_epsg(32740)} | changes)


def pixels(dtype: str, count: int = 1) -> npt.NDArray[Any]:
    rng = np.random.default_rng(5)
    kind = np.dtype(dtype)
    if kind.kind in "iu":
        held = np.iinfo(kind)
        return rng.integers(held.min, held.max, (count, SIDE, SIDE), kind, endpoint=True)
    values = rng.normal(size=(count, SIDE, SIDE)).astype(kind)
    values[0, 3, 4] = np.nan
    return values


def save(path: Path, values: npt.NDArray[Any], options: SaveOptions, **changes: Any) -> None:
    what = spec(str(values.dtype), values.shape[0], **changes)
    with raster_file(path, what, options) as raster:
        raster.write(values, WHOLE)


@pytest.mark.parametrize("cloud_optimized", [False, True], ids=["tiled", "cog"])
@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint32", "int32", "float32", "float64"])
@pytest.mark.parametrize("compression", ["none", "deflate", "lzw", "zstd", "lerc"])
def test_no_compression_loses_a_bit(
    compression: str, dtype: str, cloud_optimized: bool, tmp_path: Path
) -> None:
    values = pixels(dtype)
    options = SaveOptions(compression=compression, cloud_optimized=cloud_optimized)
    save(tmp_path / "a.tif", values, options)
    with rasterio.open(tmp_path / "a.tif") as raster:
        np.testing.assert_array_equal(raster.read(), values)
        assert (raster.crs, raster.transform) == (CRS.from_epsg(32740), UTM)
        asked = raster.tags(ns="IMAGE_STRUCTURE").get("COMPRESSION", "none")
        assert asked.lower() == compression


def test_a_compressed_file_is_smaller(tmp_path: Path) -> None:
    flat = np.tile(np.arange(SIDE, dtype=np.uint16) // 50, (1, SIDE, 1))
    for compression in ("none", "deflate", "lzw", "zstd", "lerc"):
        save(tmp_path / f"{compression}.tif", flat, SaveOptions(compression=compression))
    sizes = {each.stem: each.stat().st_size for each in tmp_path.iterdir()}
    assert all(size < sizes["none"] / 2 for name, size in sizes.items() if name != "none")


def test_a_cloud_optimised_file_is_one_for_gdal_with_overviews_for_each_band(
    tmp_path: Path,
) -> None:
    options = SaveOptions(
        cloud_optimized=True, block_px=64, tags={"MISSION": "one"}, band_descriptions=["a", "b"]
    )
    save(tmp_path / "a.tif", pixels("int16", 2), options, nodata=-5, bands=("a", "b"))
    with rasterio.open(tmp_path / "a.tif") as raster:
        assert raster.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert raster.block_shapes == [(64, 64)] * 2
        assert [raster.overviews(band) for band in (1, 2)] == [[2, 4, 8]] * 2
        assert raster.descriptions == ("a", "b")
        assert raster.tags()["MISSION"] == "one"
        assert raster.nodata == -5


@pytest.mark.parametrize(("dtype", "nbits"), [("uint8", 1), ("uint16", 12), ("uint32", 31)])
def test_values_of_a_few_bits_come_back(dtype: str, nbits: int, tmp_path: Path) -> None:
    values = pixels(dtype) % (2**nbits)
    save(tmp_path / "a.tif", values, SaveOptions(nbits=nbits, compression="lzw"))
    with rasterio.open(tmp_path / "a.tif") as raster:
        assert raster.tags(1, ns="IMAGE_STRUCTURE")["NBITS"] == str(nbits)
        np.testing.assert_array_equal(raster.read(), values)


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_a_value_of_more_bits_is_refused(dtype: str, tmp_path: Path) -> None:
    raster = raster_file(tmp_path / "a.tif", spec("uint8"), SaveOptions(nbits=1))
    with pytest.raises(TileError, match=r"values from 2.* cannot be saved as uint8 of 1 bits"):
        raster.write(np.full((SIDE, SIDE), 2, dtype), WHOLE)
    raster.abandon()


@pytest.mark.parametrize("nodata", [None, 0, -9999])
def test_the_disk_space_of_a_raster_is_allocated_before_its_first_tile(
    nodata: float | None, tmp_path: Path
) -> None:
    with RasterFile(tmp_path / "a.tif", spec(nodata=nodata, height=2000, width=2000)):
        status = (tmp_path / "a.tif").stat()
        assert status.st_blocks * 512 >= 2000 * 2000 * 4


def test_pixels_of_no_tile_are_nodata(tmp_path: Path) -> None:
    for options in (SaveOptions(), SaveOptions(compression="deflate")):
        with raster_file(tmp_path / "a.tif", spec(nodata=-9999), options) as raster:
            raster.write(np.ones((10, SIDE), np.float32), Window(0, 10, 0, SIDE))
        with rasterio.open(tmp_path / "a.tif") as found:
            np.testing.assert_array_equal(found.read(1)[10:], -9999)


def test_a_raster_is_not_created_without_a_tile(tmp_path: Path) -> None:
    with pytest.raises(TileError, match="a tile is needed"):
        RasterFile(tmp_path / "a.tif", None)


def test_a_file_that_is_not_a_raster_is_not_resumed(tmp_path: Path) -> None:
    (tmp_path / "a.tif").write_text("half")
    with pytest.raises(TileError, match=r"a\.tif: nothing to resume: not a readable raster"):
        RasterFile(tmp_path / "a.tif", spec(), resume=True)


SIZES = st.integers(1, 40)
OVERLAPS = st.integers(0, 9)


@settings(max_examples=30, deadline=None)
@given(
    grid=st.builds(
        GridSpec,
        rows=SIZES,
        cols=SIZES,
        row_split=SIZES,
        col_split=SIZES,
        row_overlap=OVERLAPS,
        col_overlap=OVERLAPS,
    ),
    order=st.randoms(use_true_random=False),
)
def test_tiles_with_overlaps_make_the_image_again_to_the_pixel(grid: GridSpec, order: Any) -> None:
    image = np.arange(grid.rows * grid.cols, dtype=np.float32).reshape(grid.rows, grid.cols)
    dataset = CarsDataset("arrays")
    dataset.create_grid(
        grid.cols, grid.rows, grid.row_split, grid.col_split, grid.row_overlap, grid.col_overlap
    )
    positions = list(dataset.positions())
    order.shuffle(positions)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "image.tif"
        first = tile_of(dataset, image, positions[0])
        with closing(dataset.generate_descriptor(first, path, tag="z", nodata=-1)) as raster:
            for position in positions:
                tile = tile_of(dataset, image, position)
                dataset.run_save(tile, path, tag="z", descriptor=raster, position=position)
        with rasterio.open(path) as found:
            np.testing.assert_array_equal(found.read(1), image)


def tile_of(
    dataset: CarsDataset, image: npt.NDArray[np.float32], position: tuple[int, int]
) -> xr.Dataset:
    window = dataset.get_window_as_dict(*position)
    around = dataset.get_overlaps_as_dict(*position)
    part = image[
        window["row_min"] - around["up"] : window["row_max"] + around["down"],
        window["col_min"] - around["left"] : window["col_max"] + around["right"],
    ]
    tile = xr.Dataset({"z": (("row", "col"), part)})
    fill_dataset(tile, profile={"transform": UTM})
    return tile
