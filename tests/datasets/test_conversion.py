"""Pixels and nodata in the data type of a file: exact, told of, or refused."""

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import xarray as xr
import zarr

from batuta.datasets import CarsDataset, TileError
from batuta.datasets.conversion import fit, nodata_in
from batuta.datasets.formats import output_problems
from batuta.errors import ConfigurationError

WHOLE = ["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"]
FLOATS = ["float32", "float64"]
NUMBERS = [*WHOLE, *FLOATS]

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")

NO_NUMBERS = {
    "dates": np.array(["2026-01-01", "NaT"], "datetime64[ns]"),
    "durations": np.array([1, 2], "timedelta64[s]"),
    "texts": np.array(["1", "2"]),
    "bytes": np.array([b"1", b"2"]),
    "objects": np.array([1, None], dtype=object),
    "records": np.array([(1, 2.0)], dtype="i4,f8"),
}


@pytest.mark.parametrize("dtype", [*NUMBERS, "complex64", "bool"])
@pytest.mark.parametrize("values", NO_NUMBERS.values(), ids=NO_NUMBERS)
def test_values_that_are_no_numbers_are_refused_by_kind(values: Any, dtype: str) -> None:
    with pytest.raises(TileError, match=f"^values of .* cannot be saved as {dtype}$"):
        fit(values, dtype, 0)


@pytest.mark.parametrize("dtype", [*NUMBERS, "bool"])
def test_complex_values_are_no_real_ones(dtype: str) -> None:
    with pytest.raises(TileError, match=f"^values of complex64 cannot be saved as {dtype}$"):
        fit(np.ones(2, np.complex64), dtype, 0)


@pytest.mark.parametrize("given", NUMBERS)
def test_numbers_are_no_truths(given: str) -> None:
    with pytest.raises(TileError, match="cannot be saved as bool"):
        fit(np.ones(2, given), "bool", 0)


@pytest.mark.parametrize("dtype", NUMBERS)
@pytest.mark.parametrize("given", ["bool", *NUMBERS])
def test_small_whole_numbers_are_exact_in_every_data_type_and_nothing_is_told(
    given: str, dtype: str
) -> None:
    values = np.array([0, 1, 1 if given == "bool" else 100], given)
    found, lost = fit(values, dtype, None)
    assert (found.dtype, lost) == (np.dtype(dtype), None)
    np.testing.assert_array_equal(found, values)


@pytest.mark.parametrize("dtype", [*NUMBERS, "complex64"])
def test_values_of_the_data_type_of_the_file_are_not_even_copied(dtype: str) -> None:
    values = np.ones(3, dtype)
    assert fit(values, dtype, None)[0] is values


@pytest.mark.parametrize(
    ("value", "given", "dtype"),
    [
        (2**24 + 1, "int32", "float32"),
        (-(2**24) - 1, "int64", "float32"),
        (2**32 - 1, "uint32", "float32"),
        (2**53 + 1, "int64", "float64"),
        (2**63 - 1, "int64", "float64"),
        (2**64 - 1, "uint64", "float64"),
        (2**64 - 1, "uint64", "float32"),
        (2**24 + 1, "int32", "complex64"),
    ],
)
def test_whole_numbers_that_a_float_rounds_are_told_of(value: int, given: str, dtype: str) -> None:
    values = np.array([1, value], given)
    found, lost = fit(values, dtype, None)
    limit = 2**53 if dtype == "float64" else 2**24
    assert lost == f"whole numbers beyond {limit} are rounded in {dtype}"
    np.testing.assert_array_equal(found, values.astype(dtype))


@pytest.mark.parametrize(
    ("value", "given", "dtype"),
    [
        (2**24, "int32", "float32"),
        (2**30, "int32", "float32"),
        (-(2**31), "int32", "float32"),
        (-(2**63), "int64", "float64"),
        (2**63, "uint64", "float32"),
    ],
)
def test_large_whole_numbers_that_a_float_holds_are_not(value: int, given: str, dtype: str) -> None:
    assert fit(np.array([value], given), dtype, None)[1] is None


@pytest.mark.parametrize("dtype", WHOLE)
def test_fractions_that_are_rounded_are_told_of(dtype: str) -> None:
    found, lost = fit(np.array([1.5, np.nan, 3]), dtype, 7)
    assert found.tolist() == [2, 7, 3]
    assert lost == f"values with fractions are rounded to {dtype}"
    assert fit(np.array([1.0, np.nan, 3]), dtype, 7)[1] is None


@pytest.mark.parametrize(
    ("value", "given", "dtype"),
    [
        (-1, "int64", "uint8"),
        (256, "int64", "uint8"),
        (2**63, "uint64", "int64"),
        (-1, "int8", "uint64"),
        (np.inf, "float32", "int32"),
        (-np.inf, "float64", "uint64"),
        (2.0**63, "float64", "int64"),
        (1e39, "float64", "float32"),
        (70_000, "int32", "float16"),
        (1e39 + 1j, "complex128", "complex64"),
    ],
)
def test_values_out_of_range_are_refused(value: Any, given: str, dtype: str) -> None:
    with pytest.raises(TileError, match=f"^values .* cannot be saved as {dtype}"):
        fit(np.array([0, value], given), dtype, 0)


LIMITS = {name: (int(np.iinfo(name).min), int(np.iinfo(name).max)) for name in WHOLE}
REFUSED: list[tuple[str, Any]] = [
    *((name, value) for name in WHOLE for value in (LIMITS[name][0] - 1, LIMITS[name][1] + 1)),
    *((name, value) for name in WHOLE for value in (0.5, float("nan"), float("inf"), 10**400)),
    ("float32", 1e39),
    ("float32", -1e39),
    ("float32", 10**400),
    ("float64", 10**400),
    ("complex64", 1e39),
]


@pytest.mark.parametrize("name", ["a.tif", "a.zarr"])
@pytest.mark.parametrize(("dtype", "nodata"), REFUSED, ids=lambda value: str(value)[:12])
def test_a_nodata_that_the_file_cannot_hold_is_refused_before_any_tile(
    dtype: str, nodata: Any, name: str
) -> None:
    (problem,) = output_problems(name, "arrays", dtype, nodata)
    assert problem.startswith(f"nodata: {str(nodata)[:15]}")
    assert f"given, {dtype} holds " in problem
    assert len(problem) < 200


@pytest.mark.parametrize("name", ["a.tif", "a.zarr"])
@pytest.mark.parametrize(("dtype", "nodata"), REFUSED, ids=lambda value: str(value)[:12])
def test_without_a_dtype_it_is_refused_at_the_first_tile_and_leaves_nothing(
    dtype: str, nodata: Any, name: str, tmp_path: Path
) -> None:
    dataset = CarsDataset("arrays")
    dataset.create_grid(2, 1, 1, 1)
    tile = xr.Dataset({"v": (("row", "col"), np.ones((1, 1), dtype))})
    with pytest.raises(ConfigurationError, match=f"given, {dtype} holds "):
        dataset.generate_descriptor(tile, tmp_path / name, tag="v", nodata=nodata)
    assert list(tmp_path.iterdir()) == []


def unfilled(path: Path, dtype: str, nodata: float) -> tuple[Any, Any]:
    """Save half of a raster; return the pixel and the nodata of the other half."""
    dataset = CarsDataset("arrays")
    dataset.create_grid(2, 1, 1, 1)
    tile = xr.Dataset({"v": (("row", "col"), np.ones((1, 1), dtype))})
    opened = dataset.generate_descriptor(tile, path, tag="v", dtype=dtype, nodata=nodata)
    dataset.run_save(tile, path, tag="v", descriptor=opened, position=(0, 0))
    opened.suspend()
    # The same request is accepted again.
    opened = dataset.generate_descriptor(
        tile, path, tag="v", dtype=dtype, nodata=nodata, resume=True
    )
    opened.close()
    if path.suffix == ".zarr":
        array: Any = zarr.open_array(path / "v", mode="r")
        return array[0, 1], array.fill_value
    with rasterio.open(path) as raster:
        assert raster.read_masks(1).tolist() == [[255, 0]]
        return raster.read(1)[0, 1], raster.nodata


@pytest.mark.parametrize("suffix", [".tif", ".zarr"])
@pytest.mark.parametrize(
    ("dtype", "nodata"),
    [
        *((name, LIMITS[name][side]) for name in WHOLE[:6] for side in (0, 1)),
        ("int64", -(2**53)),
        ("uint64", 2**53),
        ("float32", -9999.1),
        ("float32", -3.4028235e38),
        ("float32", float("inf")),
        ("float32", 2**24 + 1),
        ("float64", -9999.1),
    ],
)
def test_pixels_without_a_tile_are_nodata_as_the_data_type_holds_it(
    dtype: str, nodata: float, suffix: str, tmp_path: Path
) -> None:
    pixel, told = unfilled(tmp_path / f"a{suffix}", dtype, nodata)
    assert pixel == told == np.dtype(dtype).type(nodata) == nodata_in(dtype, nodata)


def test_the_nodata_of_complex_values_is_a_real_number(tmp_path: Path) -> None:
    pixel, told = unfilled(tmp_path / "a.tif", "complex64", -9999.1)
    assert pixel == told == np.float32(-9999.1)


@pytest.mark.parametrize(
    ("dtype", "nodata"), [("int64", -(2**63)), ("int64", 2**63 - 1), ("uint64", 2**64 - 1)]
)
def test_nodata_of_64_bits_is_exact_in_zarr_and_refused_in_geotiff(
    dtype: str, nodata: int, tmp_path: Path
) -> None:
    pixel, told = unfilled(tmp_path / "a.zarr", dtype, nodata)
    assert pixel.item() == told.item() == nodata
    (problem,) = output_problems("a.tif", "arrays", dtype, nodata)
    assert problem.startswith(f"nodata: {nodata} given, GeoTIFF of {dtype} holds ")


@pytest.mark.parametrize("name", ["a.tif", "a.zarr"])
@pytest.mark.parametrize("values", NO_NUMBERS.values(), ids=NO_NUMBERS)
@pytest.mark.parametrize("dtype", [None, "float32"])
def test_a_first_tile_without_numbers_leaves_no_file(
    values: Any, dtype: str | None, name: str, tmp_path: Path
) -> None:
    dataset = CarsDataset("arrays")
    dataset.create_grid(2, 1, 1, 2)
    tile = xr.Dataset({"v": (("row", "col"), values[np.newaxis])})
    with pytest.raises((TileError, ConfigurationError)):
        dataset.generate_descriptor(tile, tmp_path / name, tag="v", dtype=dtype)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "dtype"), [("a.tif", "bool"), ("a.tif", "float128"), ("a.zarr", "float128")]
)
def test_a_data_type_that_the_format_lacks_is_named(name: str, dtype: str) -> None:
    try:
        np.dtype(dtype)
    except TypeError:
        pytest.skip(f"no {dtype} on this machine")
    (problem,) = output_problems(name, "arrays", dtype)
    assert problem.startswith(f"dtype: {dtype} given, which ")


def test_the_byte_order_of_a_tile_does_not_matter(tmp_path: Path) -> None:
    dataset = CarsDataset("arrays")
    dataset.create_grid(1, 1, 1, 1)
    tile = xr.Dataset({"v": (("row", "col"), np.full((1, 1), 258, ">i2"))})
    dataset.run_save(tile, tmp_path / "a.tif", tag="v", position=(0, 0))
    with rasterio.open(tmp_path / "a.tif") as raster:
        assert (raster.dtypes, raster.read(1).tolist()) == (("int16",), [[258]])


@pytest.mark.parametrize("resume", [False, True], ids=["", "resume"])
@pytest.mark.parametrize(
    ("first", "second", "is_held"),
    [
        ("int16", "uint8", True),
        ("float64", "float32", True),
        ("float64", "int32", True),
        ("uint8", "int16", False),
        ("int32", "float64", False),
        ("float32", "float64", False),
    ],
)
def test_without_a_dtype_tiles_that_the_type_of_the_first_does_not_hold_are_refused(
    first: str, second: str, is_held: bool, resume: bool, tmp_path: Path
) -> None:
    dataset = CarsDataset("arrays")
    dataset.create_grid(2, 1, 1, 1)
    one, other = (
        xr.Dataset({"v": (("row", "col"), np.ones((1, 1), dtype))}) for dtype in (first, second)
    )
    opened = dataset.generate_descriptor(one, tmp_path / "a.tif", tag="v")
    if resume:
        opened.suspend()
        opened = dataset.generate_descriptor(None, tmp_path / "a.tif", tag="v", resume=True)
    refusal = rf"^a\.tif: values of {second} given, the first tile was of {first};"
    with nullcontext() if is_held else pytest.raises(TileError, match=refusal):
        dataset.run_save(other, "", tag="v", descriptor=opened, position=(0, 1))
    opened.close()
