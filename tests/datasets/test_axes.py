"""Where arrays go in their raster: by the names of their dimensions, in every format."""

from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pyproj
import pytest
import rasterio
import xarray as xr
from affine import Affine
from rasterio.crs import CRS

from batuta.datasets import (
    ArrayFile,
    CarsDataset,
    SaveOptions,
    TileError,
    Window,
    fill_dataset,
)
from batuta.datasets.axes import in_raster_order

ROWS, COLS, OVERLAP = 9, 7, 1
IMAGE = np.add.outer(np.arange(ROWS) * 100, np.arange(COLS)).astype(np.float32)
UTM = Affine(0.5, 0, 340_000, 0, -0.5, 7_650_000)
CUBE = np.stack([IMAGE, IMAGE + 0.25, IMAGE + 0.5])
OUTPUTS = [
    ("a.tif", SaveOptions()),
    ("a.tif", SaveOptions(compression="deflate")),
    ("a.tif", SaveOptions(cloud_optimized=True, block_px=64)),
    ("a.zarr", SaveOptions()),
]
IN_EVERY_FORMAT = pytest.mark.parametrize(
    ("name", "options"), OUTPUTS, ids=["plain", "deflate", "cog", "zarr"]
)

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")


def grid() -> CarsDataset:
    dataset = CarsDataset("arrays", name="axes")
    dataset.create_grid(COLS, ROWS, 4, 3, OVERLAP, OVERLAP)
    return dataset


def tile_of(
    dataset: CarsDataset, image: xr.DataArray, row: int, col: int, dims: tuple[str, ...]
) -> xr.Dataset:
    """Cut a tile with its overlaps, its dimensions named and ordered as `dims`."""
    window = dataset.get_window_as_dict(row, col)
    around = dataset.get_overlaps_as_dict(row, col)
    part = image.isel(
        row=slice(window["row_min"] - around["up"], window["row_max"] + around["down"]),
        col=slice(window["col_min"] - around["left"], window["col_max"] + around["right"]),
    )
    return xr.Dataset({"v": part.rename(_renamed(part, dims)).transpose(*dims)})


def _renamed(part: xr.DataArray, dims: tuple[str, ...]) -> dict[str, str]:
    bands = [dim for dim in dims if dim in {"band", "time"}]
    rows, cols = sorted(dims, key=ALL_DIMS.index)[-2:]
    wanted = [*bands, rows, cols]
    return {str(old): new for old, new in zip(part.dims, wanted, strict=True) if old != new}


BEFORE_COLS = ("band", "time", "row", "y", "Lat", "lines", "northing")
ALL_DIMS = [*BEFORE_COLS, "col", "x", "LON", "samples", "easting"]


def saved(
    folder: Path, name: str, options: SaveOptions, image: xr.DataArray, dims: tuple[str, ...]
) -> Any:
    dataset = grid()
    first = tile_of(dataset, image, 0, 0, dims)
    opened = dataset.generate_descriptor(first, folder / name, tag="v", options=options)
    assert isinstance(opened, ArrayFile)
    with closing(opened):
        for row, col in dataset.positions():
            tile = tile_of(dataset, image, row, col, dims)
            dataset.run_save(tile, "", tag="v", descriptor=opened, position=(row, col))
        return opened.read(Window(0, ROWS, 0, COLS))


@IN_EVERY_FORMAT
@pytest.mark.parametrize(
    "dims",
    [("row", "col"), ("col", "row"), ("x", "y"), ("LON", "Lat"), ("samples", "lines")],
    ids="-".join,
)
def test_rows_and_columns_are_found_by_name(
    name: str, options: SaveOptions, dims: tuple[str, ...], tmp_path: Path
) -> None:
    image = xr.DataArray(IMAGE, dims=("row", "col"))
    np.testing.assert_array_equal(saved(tmp_path, name, options, image, dims), IMAGE)


@IN_EVERY_FORMAT
@pytest.mark.parametrize(
    "dims",
    [
        ("band", "row", "col"),
        ("row", "col", "band"),
        ("x", "time", "y"),
        ("easting", "northing", "band"),
    ],
    ids="-".join,
)
def test_bands_are_found_in_any_place(
    name: str, options: SaveOptions, dims: tuple[str, ...], tmp_path: Path
) -> None:
    image = xr.DataArray(CUBE, dims=("band", "row", "col"))
    np.testing.assert_array_equal(saved(tmp_path, name, options, image, dims), CUBE)


@pytest.mark.parametrize(
    "dims",
    [("row",), ("a", "b"), ("x", "col"), ("row", "y", "col"), ("t", "band", "row", "col"), ()],
)
def test_other_dimensions_are_refused_with_their_names_and_those_expected(
    dims: tuple[str, ...],
) -> None:
    variable = xr.DataArray(np.zeros((1,) * len(dims)), dims=dims, name="v")
    with pytest.raises(TileError) as caught:
        in_raster_order(variable)
    message = str(caught.value)
    assert message.startswith(f"v: dimensions ({', '.join(dims)}) given; rows (row, y, lat")
    assert message.endswith("and at most one more, of bands, expected")


def banded(*names: str) -> xr.Dataset:
    bands = np.array([[[ord(name[0])]] for name in names], np.float32)
    return xr.Dataset({"v": (("band", "row", "col"), bands)}, coords={"band": list(names)})


@pytest.mark.parametrize("resume", [False, True], ids=["", "resume"])
@pytest.mark.parametrize("name", ["a.tif", "a.zarr"])
def test_bands_of_the_same_names_are_saved_by_their_names(
    name: str, resume: bool, tmp_path: Path
) -> None:
    dataset = CarsDataset("arrays")
    dataset.create_grid(3, 1, 1, 1)
    opened: Any = dataset.generate_descriptor(banded("r", "g"), tmp_path / name, tag="v")
    dataset.run_save(banded("r", "g"), "", tag="v", descriptor=opened, position=(0, 0))
    if resume:
        opened.suspend()
        opened = dataset.generate_descriptor(None, tmp_path / name, tag="v", resume=True)
    dataset.run_save(banded("g", "r"), "", tag="v", descriptor=opened, position=(0, 1))
    with pytest.raises(TileError, match=r"^a\.\w+: bands r, b given, .* other tiles are r, g$"):
        dataset.run_save(banded("r", "b"), "", tag="v", descriptor=opened, position=(0, 2))
    found = opened.read(Window(0, 1, 0, 2))
    opened.close()
    np.testing.assert_array_equal(found[:, 0], [[ord("r")] * 2, [ord("g")] * 2])


@pytest.mark.parametrize("name", ["a.tif", "a.zarr"])
@pytest.mark.parametrize(
    "changes",
    [
        {"transform": Affine(1, 0, 5, 0, -1, 9)},
        {"crs": CRS.from_epsg(4326)},
        {"height": 2},
        {"width": 2},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_tiles_of_another_raster_are_refused(
    changes: dict[str, Any], name: str, tmp_path: Path
) -> None:
    profile = {"height": 1, "width": 3, "transform": Affine(1, 0, 4, 0, -1, 9), "crs": "EPSG:32740"}
    dataset = CarsDataset("arrays")
    dataset.create_grid(3, 1, 1, 1)

    def tile(**given: Any) -> xr.Dataset:
        made = xr.Dataset({"v": (("row", "col"), np.ones((1, 1), np.float32))})
        fill_dataset(made, profile=given)
        return made

    opened: Any = dataset.generate_descriptor(tile(**profile), tmp_path / name, tag="v")
    nearly = Affine(1, 0, 4 + 1e-15, 0, -1, 9)
    for same in (profile, {}, {"crs": CRS.from_epsg(32740)}, {"transform": nearly}):
        dataset.run_save(tile(**same), "", tag="v", descriptor=opened, position=(0, 0))
    with pytest.raises(TileError, match=rf"^a\.\w+: profile: {next(iter(changes))} .* given, that"):
        dataset.run_save(tile(**profile | changes), "", tag="v", descriptor=opened, position=(0, 1))
    opened.close()


SPELLINGS: dict[str, list[Any]] = {
    "crs": [
        CRS.from_epsg(32740),
        "EPSG:32740",
        "epsg:32740",
        32740,
        CRS.from_epsg(32740).to_wkt(),
        CRS.from_epsg(32740).to_wkt(version="WKT2_2019"),
        pyproj.CRS(32740),
    ],
    "transform": [UTM, tuple(UTM), list(UTM)[:6], np.array(UTM[:6])],
    "height": [4, 4.0, np.int64(4), "4"],
}
"""The same in the types that programs have it in."""


@pytest.mark.parametrize("key", SPELLINGS)
@pytest.mark.parametrize("name", ["a.tif", "a.zarr"])
def test_a_profile_may_be_spelled_differently_in_each_tile(
    name: str, key: str, tmp_path: Path
) -> None:
    values = SPELLINGS[key]
    for first in values:
        dataset = CarsDataset("arrays")
        dataset.create_grid(len(values), 4, 4, 1)
        opened: Any = None
        for col, value in enumerate([first, *values[1:]]):
            tile = xr.Dataset({"v": (("row", "col"), np.ones((4, 1), np.float32))})
            fill_dataset(tile, profile={"width": len(values), "transform": UTM, key: value})
            opened = opened or dataset.generate_descriptor(tile, tmp_path / name, tag="v")
            dataset.run_save(tile, "", tag="v", descriptor=opened, position=(0, col))
        opened.close()
        if name == "a.tif":
            with rasterio.open(tmp_path / name) as raster:
                assert raster.transform == UTM
                assert raster.crs == (CRS.from_epsg(32740) if key == "crs" else None)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("crs", "nowhere"),
        ("transform", "north"),
        ("transform", [1, 2]),
        ("transform", UTM.to_gdal()),
        ("height", 0),
        ("height", 4.5),
        ("width", "wide"),
    ],
)
@pytest.mark.parametrize("name", ["a.tif", "a.zarr"])
def test_a_profile_that_tells_of_no_raster_is_refused_by_key(
    name: str, key: str, value: Any, tmp_path: Path
) -> None:
    tile = xr.Dataset({"v": (("row", "col"), np.ones((4, 4), np.float32))})
    fill_dataset(tile, profile={key: value})
    dataset = CarsDataset("arrays")
    dataset.create_grid(4, 4, 4, 4)
    with pytest.raises(TileError, match=rf"^a\.\w+: profile: {key} .* given, .* expected$"):
        dataset.generate_descriptor(tile, tmp_path / name, tag="v")
