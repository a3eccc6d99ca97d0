"""Tiles of every kind go to disk and come back the same."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis.extra.numpy import (
    array_shapes,
    arrays,
    boolean_dtypes,
    complex_number_dtypes,
    floating_dtypes,
    integer_dtypes,
    scalar_dtypes,
)

from batuta.datasets import CarsDataset, CarsDict, TileError

ODD_DTYPES = [
    "bool",
    "int8",
    "uint64",
    "float16",
    "complex64",
    "complex128",
    "<U5",
    "datetime64[ns]",
    "timedelta64[s]",
    ">f4",
]


def back(tile: Any, dataset_type: str) -> Any:
    dataset = CarsDataset(dataset_type)
    with TemporaryDirectory() as folder:
        dataset.save_single_tile(tile, Path(folder) / "tile")
        return dataset.load_single_tile(Path(folder) / "tile")


@pytest.mark.parametrize("dtype", ODD_DTYPES)
@pytest.mark.parametrize("shape", [(), (0,), (2, 0, 3), (2, 3)], ids=str)
def test_arrays_of_any_data_type_come_back(dtype: str, shape: tuple[int, ...]) -> None:
    values = np.ones(shape, "u1").astype(dtype)
    dims = tuple("abc"[: len(shape)])
    tile = xr.Dataset({"v": (dims, values)}, coords={"c": (dims, values)}, attrs={"k": [1, None]})
    found = back(tile, "arrays")
    xr.testing.assert_identical(found, tile)
    assert found["v"].dtype == tile["v"].dtype


@settings(max_examples=40, deadline=None)
@given(arrays(scalar_dtypes(), array_shapes(min_side=0, max_side=4)))
def test_any_array_of_a_dict_comes_back_bit_by_bit(values: npt.NDArray[Any]) -> None:
    found = back(CarsDict({"v": values}), "dict")["v"]
    assert (found.dtype, found.shape, found.tobytes()) == (
        values.dtype,
        values.shape,
        values.tobytes(),
    )


@settings(max_examples=40, deadline=None)
@given(
    arrays(
        integer_dtypes() | floating_dtypes() | complex_number_dtypes() | boolean_dtypes(),
        array_shapes(min_side=0, max_side=4),
    )
)
def test_any_array_of_numbers_comes_back_bit_by_bit(values: npt.NDArray[Any]) -> None:
    found = back(xr.Dataset({"v": (tuple("abcd"[: values.ndim]), values)}), "arrays")["v"]
    assert (found.dtype, found.shape) == (values.dtype, values.shape)
    assert found.to_numpy().tobytes() == values.tobytes()


@pytest.mark.parametrize(
    "frame",
    [
        pd.DataFrame(),
        pd.DataFrame({"x": pd.Series([], dtype="float32")}),
        pd.DataFrame({"flag": [True, False], "half": np.array([1, 2], "float16")}),
        pd.DataFrame({"when": np.array(["2026-01-01", "NaT"], "datetime64[ns]"), "n": [1, 2]}),
        pd.DataFrame({"n": pd.array([1, None], dtype="Int16"), "text": ["é", None]}),
        pd.DataFrame({"kind": pd.Categorical(["a", "b", "a"])}),
        pd.DataFrame({"x": [1.0, 2.0]}, index=pd.Index([7, 3], name="point")),
    ],
    ids=["nothing", "no-points", "bool-half", "dates", "nullable", "categories", "index"],
)
def test_points_of_any_kind_come_back(frame: pd.DataFrame) -> None:
    frame.attrs = {"attributes": {"epsg": 4326, "none": None}}
    found = back(frame, "points")
    pd.testing.assert_frame_equal(found, frame)
    assert found.attrs == frame.attrs


def test_an_empty_dict_comes_back() -> None:
    found = back(CarsDict({}, {"k": 1}), "dict")
    assert dict(found) == {}
    assert found.attrs == {"attributes": {"k": 1}}


@pytest.mark.parametrize("dataset_type", ["arrays", "points", "dict"])
def test_datasets_without_tiles_or_without_grid_come_back(
    dataset_type: str, tmp_path: Path
) -> None:
    dataset = CarsDataset(dataset_type, name="empty")
    dataset.save_cars_dataset(tmp_path / "no_grid")
    found = CarsDataset(dataset_type, load_from_disk=tmp_path / "no_grid")
    assert (found.shape, found.tiles) == ((0, 0), [])
    dataset.create_grid(5, 4, 2, 2, 1, 0)
    dataset.save_cars_dataset(tmp_path / "no_tiles")
    found = CarsDataset(dataset_type, load_from_disk=tmp_path / "no_tiles")
    assert found.tiles == [[None] * 3] * 2
    np.testing.assert_array_equal(found.tiling_grid, dataset.tiling_grid)
    np.testing.assert_array_equal(found.overlaps, dataset.overlaps)


@pytest.mark.parametrize(
    ("dataset_type", "tile", "reason"),
    [
        ("points", pd.DataFrame({"c": [1 + 2j]}), "c: a column of complex128 cannot be saved"),
        ("points", pd.DataFrame({"mixed": ["a", 1]}), "mixed: a column of object cannot be saved"),
        ("dict", CarsDict({"v": np.array([{}])}), "v: an array of objects cannot be saved"),
        ("dict", CarsDict({"v": object()}), "object cannot be represented in JSON"),
        ("dict", CarsDict({"a": {"b": [1j]}}), "a: b: complex cannot be represented in JSON"),
        ("dict", CarsDict({"a": {1: 2, "1": 3}}), "a: 1: two keys of this name"),
        ("arrays", [1, 2], "list is not a tile"),
    ],
)
def test_what_has_no_form_on_disk_is_refused(dataset_type: str, tile: Any, reason: str) -> None:
    with pytest.raises(TileError, match=reason):
        back(tile, dataset_type)
