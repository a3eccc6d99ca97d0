"""CarsDatasets: their tiles, and how they go to disk and come back."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import rasterio
import xarray as xr
from affine import Affine
from rasterio.crs import CRS

from batuta.datasets import (
    CarsDataset,
    CarsDict,
    RasterFile,
    TileError,
    Window,
    fill_dataframe,
    fill_dataset,
    fill_dict,
)
from batuta.errors import ConfigurationError


def arrays_tile() -> xr.Dataset:
    tile = xr.Dataset(
        {
            "z": (("row", "col"), np.array([[1.5, np.nan], [3, 4]], dtype=np.float32)),
            "colour": (("band", "row", "col"), np.arange(12, dtype=np.uint8).reshape(3, 2, 2)),
        },
        coords={"band": ["R", "G", "B"]},
    )
    fill_dataset(
        tile,
        saving_info={"cars_ds_id": 1},
        window={"row_min": 0, "row_max": 2, "col_min": 0, "col_max": 2},
        profile={"height": 2, "width": 2, "crs": CRS.from_epsg(32740), "transform": UTM},
        attributes={"mean": np.float32(2), "none": float("nan")},
        overlaps={"up": 0, "down": 0, "left": 0, "right": 0},
    )
    return tile


UTM = Affine(0.5, 0, 340_000, 0, -0.5, 7_650_000)


def points_tile() -> pd.DataFrame:
    frame = pd.DataFrame({"x": [1.0, 2.0], "name": ["a", "é"], "n": np.array([1, 2], np.int16)})
    fill_dataframe(frame, saving_info={"cars_ds_id": 2}, attributes={"crs": CRS.from_epsg(4326)})
    return frame


def dict_tile() -> CarsDict:
    tile = CarsDict({"grid": np.arange(6.0).reshape(2, 3), "text": "a", "list": [1, {"b": None}]})
    fill_dict(tile, saving_info={"cars_ds_id": 3}, attributes={"k": 1})
    return tile


def grid_of(dataset_type: str, tile: Any) -> CarsDataset:
    dataset = CarsDataset(dataset_type, name="some")
    dataset.create_grid(4, 2, 2, 2, 1, 1)
    dataset[0, 1] = tile
    dataset.attributes = {"epsg": 32740}
    return dataset


def assert_same(found: Any, tile: Any) -> None:
    if isinstance(tile, xr.Dataset):
        xr.testing.assert_equal(found, tile)
    elif isinstance(tile, pd.DataFrame):
        pd.testing.assert_frame_equal(found, tile)
    else:
        np.testing.assert_equal(dict(found), dict(tile))
        assert list(found) == list(tile)
    np.testing.assert_equal(found.attrs, tile.attrs)


@pytest.mark.parametrize(
    ("dataset_type", "tile"),
    [("arrays", arrays_tile()), ("points", points_tile()), ("dict", dict_tile())],
    ids=["arrays", "points", "dict"],
)
def test_a_dataset_comes_back_from_disk_whole(dataset_type: str, tile: Any, tmp_path: Path) -> None:
    saved = grid_of(dataset_type, tile)
    saved.save_cars_dataset(tmp_path / "saved")
    found = CarsDataset(dataset_type, load_from_disk=tmp_path / "saved")
    assert (found.name, found.shape, found.attributes) == ("some", (1, 2), {"epsg": 32740})
    np.testing.assert_array_equal(found.tiling_grid, saved.tiling_grid)
    np.testing.assert_array_equal(found.overlaps, saved.overlaps)
    assert found[0, 0] is None
    assert_same(found[0, 1], tile)


def test_a_folder_that_holds_no_whole_dataset_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="is not a complete CarsDataset"):
        CarsDataset("arrays", load_from_disk=tmp_path)
    grid_of("dict", dict_tile()).save_cars_dataset(tmp_path)
    with pytest.raises(ConfigurationError, match="holds dict, arrays expected"):
        CarsDataset("arrays", load_from_disk=tmp_path)


def test_arrays_of_objects_are_refused_rather_than_pickled(tmp_path: Path) -> None:
    tile = xr.Dataset({"z": ("x", np.array([{}, []], dtype=object))})
    with pytest.raises(TileError, match="z: an array of objects cannot be saved"):
        CarsDataset("arrays").save_single_tile(tile, tmp_path)


def test_an_unknown_type_names_those_that_exist() -> None:
    with pytest.raises(ConfigurationError, match="'array' given, one of arrays, points, dict"):
        CarsDataset("array")


def test_tiles_are_indexed_by_row_and_column() -> None:
    dataset = grid_of("dict", dict_tile())
    assert dataset[0, 1] is dataset[0][1] is dataset.tiles[0][1]
    assert list(dataset.positions()) == [(0, 0), (0, 1)]
    wrong: Any = (0, 1, 2)
    with pytest.raises(IndexError):
        dataset[wrong]
    with pytest.raises(IndexError):
        dataset[wrong] = None


def test_an_empty_copy_has_the_grid_and_no_tile() -> None:
    dataset = grid_of("dict", dict_tile())
    copy = CarsDataset("points")
    copy.create_empty_copy(dataset)
    np.testing.assert_array_equal(copy.tiling_grid, dataset.tiling_grid)
    np.testing.assert_array_equal(copy.overlaps, dataset.overlaps)
    assert copy.tiles == [[None, None]]
    copy.tiling_grid[:] = 0
    assert dataset.tiling_grid.any()


def test_a_new_grid_empties_the_tiles_and_must_have_its_shape() -> None:
    dataset = grid_of("dict", dict_tile())
    dataset.tiling_grid = dataset.tiling_grid
    assert dataset.tiles == [[None, None]]
    assert not dataset.overlaps.any()
    with pytest.raises(ConfigurationError, match=r"shape \(2, 2\) given"):
        dataset.tiling_grid = np.zeros((2, 2))


def test_a_raster_has_the_bands_and_the_place_of_its_tiles(tmp_path: Path) -> None:
    dataset = CarsDataset("arrays")
    dataset.create_grid(2, 2, 2, 2)
    dataset.run_save(arrays_tile(), tmp_path / "colour.tif", tag="colour")
    with rasterio.open(tmp_path / "colour.tif") as raster:
        assert raster.descriptions == ("R", "G", "B")
        assert raster.crs == CRS.from_epsg(32740)
        assert raster.transform == UTM
        assert raster.dtypes == ("uint8",) * 3
        np.testing.assert_array_equal(raster.read(), np.arange(12).reshape(3, 2, 2))


def save_as(tile: xr.Dataset, path: Path, dtype: str, nodata: float | None) -> Any:
    dataset = CarsDataset("arrays")
    dataset.create_grid(2, 2, 2, 2)
    descriptor = dataset.generate_descriptor(tile, path, tag="z", dtype=dtype, nodata=nodata)
    assert isinstance(descriptor, RasterFile)
    try:
        dataset.run_save(tile, path, tag="z", descriptor=descriptor)
        return descriptor.read(Window(0, 2, 0, 2))
    finally:
        descriptor.close()


def test_whole_numbers_are_rounded_and_nan_becomes_nodata(tmp_path: Path) -> None:
    found = save_as(arrays_tile(), tmp_path / "z.tif", "int16", -5)
    np.testing.assert_array_equal(found, [[2, -5], [3, 4]])


@pytest.mark.parametrize("dtype", ["uint8", "int16", "int32", "uint32"])
def test_nan_becomes_the_greatest_and_the_least_nodata_that_the_file_holds(
    dtype: str, tmp_path: Path
) -> None:
    for nodata in (int(np.iinfo(dtype).max), int(np.iinfo(dtype).min)):
        tile = arrays_tile()
        tile["z"] = xr.full_like(tile["z"], np.nan, dtype=np.float32)
        saved = save_as(tile, tmp_path / "z.tif", dtype=dtype, nodata=nodata)
        assert saved.min() == saved.max() == nodata


@pytest.mark.parametrize(
    ("value", "dtype", "nodata", "reason"),
    [
        (300.0, "uint8", 0, "values from .* cannot be saved as uint8"),
        (float("nan"), "int16", None, "NaN cannot be saved as int16 without nodata"),
        (1e39, "float32", None, r"values up to 1e\+39 cannot be saved as float32"),
        (1j, "float32", None, "values of complex128 cannot be saved as float32"),
    ],
)
def test_a_value_that_the_file_cannot_hold_is_refused(
    value: complex, dtype: str, nodata: float | None, reason: str, tmp_path: Path
) -> None:
    tile = arrays_tile()
    tile["z"] = tile["z"].astype(np.result_type(np.float64, type(value)))
    tile["z"][0, 0] = value
    with pytest.raises(TileError, match=reason):
        save_as(tile, tmp_path / "z.tif", dtype, nodata)


@pytest.mark.parametrize(("value", "dtype"), [(2.0**31, "int32"), (2.0**32, "uint32")])
def test_a_float_just_above_what_the_file_holds_is_refused(
    value: float, dtype: str, tmp_path: Path
) -> None:
    tile = arrays_tile()
    tile["z"] = xr.full_like(tile["z"], value, dtype=np.float32)
    with pytest.raises(TileError, match=f"values from .* cannot be saved as {dtype}"):
        save_as(tile, tmp_path / "z.tif", dtype, 0)


def test_a_window_outside_the_raster_is_refused(tmp_path: Path) -> None:
    tile = arrays_tile()
    tile.attrs["window"] = {"row_min": 1, "row_max": 3, "col_min": 0, "col_max": 2}
    with pytest.raises(TileError, match="is not inside the raster of 2 rows and 2 columns"):
        save_as(tile, tmp_path / "z.tif", "float32", None)


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_points_are_gathered_under_one_set_of_columns(suffix: str, tmp_path: Path) -> None:
    dataset = CarsDataset("points", name="cloud")
    dataset.create_grid(3, 1, 1, 1)
    path = tmp_path / f"cloud{suffix}"
    descriptor = dataset.generate_descriptor(None, path)
    parts = [
        pd.DataFrame({"x": [1, 2]}),
        pd.DataFrame({"x": [0.5], "tag": ["b"]}),
        pd.DataFrame({"x": pd.Series([], dtype=float)}),
    ]
    for col in (2, 1, 0):
        dataset.run_save(parts[col], path, descriptor=descriptor, position=(0, col))
    descriptor.close()
    found = pd.read_csv(path) if suffix == ".csv" else pd.read_parquet(path)
    assert found["x"].tolist() == [1, 2, 0.5]
    assert found["tag"].isna().tolist() == [True, True, False]
    assert [each.name for each in tmp_path.iterdir()] == [path.name]


def test_dicts_are_gathered_in_json_without_nan(tmp_path: Path) -> None:
    dataset = CarsDataset("dict")
    dataset.create_grid(2, 1, 1, 1)
    path = tmp_path / "d.json"
    descriptor = dataset.generate_descriptor(None, path)
    for col in (1, 0):
        tile = CarsDict({"v": np.array([col, np.nan])}, {"k": col})
        dataset.run_save(tile, path, descriptor=descriptor, position=(0, col))
    descriptor.close()
    assert json.loads(path.read_text()) == [
        {"row": 0, "col": col, "data": {"v": [col, None]}, "attributes": {"k": col}}
        for col in (0, 1)
    ]


def test_a_name_of_another_format_is_refused() -> None:
    dataset = grid_of("points", points_tile())
    with pytest.raises(ConfigurationError, match=r"'a.tif' given, .* \.csv or \.parquet"):
        dataset.generate_descriptor(points_tile(), "a.tif")
