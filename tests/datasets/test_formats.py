"""What may be asked of each format."""

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import xarray as xr

from batuta.datasets import CarsDataset, SaveOptions
from batuta.datasets.formats import FORMATS, output_problems
from batuta.datasets.options import COMPRESSIONS
from batuta.errors import ConfigurationError

NBITS = "1 to 7 for uint8, 9 to 15 for uint16, 17 to 31 for uint32"


def test_every_wrong_value_is_named_at_once() -> None:
    wrong: dict[str, Any] = {
        "compression": "jpeg",
        "block_px": 0,
        "cloud_optimized": 1,
        "tags": {"a": 1},
        "band_descriptions": "red",
        "nbits": True,
    }
    with pytest.raises(ConfigurationError) as caught:
        SaveOptions(**wrong)
    assert caught.value.problems == (
        f"options.compression: 'jpeg' given, one of {', '.join(COMPRESSIONS)} expected",
        "options.block_px: 0 given, a whole number of at least 1 expected",
        "options.cloud_optimized: 1 given, true or false expected",
        "options.tags: {'a': 1} given, a mapping of texts to texts expected",
        "options.band_descriptions: 'red' given, a list of texts expected",
        "options.nbits: True given, a whole number from 1 to 31 expected",
    )


def test_options_keep_a_copy_of_what_they_were_given() -> None:
    tags, names = {"a": "b"}, ["red"]
    options = SaveOptions(tags=tags, band_descriptions=names)
    tags["c"] = "d"
    names.append("green")
    assert options == SaveOptions(tags={"a": "b"}, band_descriptions=("red",))
    assert options.given() == {"tags": {"a": "b"}, "band_descriptions": ("red",)}
    assert SaveOptions().given() == {}


@pytest.mark.parametrize(
    ("file_name", "options", "problem"),
    [
        (
            "a.csv",
            {"cloud_optimized": True},
            "options.cloud_optimized: True is not for CSV, only for GeoTIFF",
        ),
        (
            "a.csv",
            {"nbits": 1},
            "options.nbits: 1 is not for CSV, only for GeoTIFF",
        ),
        (
            "a.laz",
            {"tags": {"a": "b"}},
            "options.tags: {'a': 'b'} is not for LAS, only for GeoTIFF, Zarr",
        ),
        (
            "a.parquet",
            {"compression": "lzw"},
            "options.compression: 'lzw' given, Parquet takes none, snappy, zstd, gzip",
        ),
        (
            "a.tif",
            {"compression": "gzip"},
            "options.compression: 'gzip' given, GeoTIFF takes none, deflate, lzw, zstd, lerc",
        ),
        (
            "a.tif",
            {"block_px": 100},
            "options.block_px: 100 given, GeoTIFF takes multiples of 16",
        ),
        (
            "a.tif",
            {"nbits": 9},
            f"options.nbits: 9 given with dtype uint8; {NBITS} are accepted",
        ),
        ("a.zarr", {"nbits": 1}, "options.nbits: 1 is not for Zarr, only for GeoTIFF"),
    ],
)
def test_what_a_format_does_not_take_is_refused_in_one_line(
    file_name: str, options: dict[str, Any], problem: str
) -> None:
    dataset_type = "arrays" if file_name.endswith((".tif", ".zarr")) else "points"
    found = output_problems(file_name, dataset_type, "uint8", 0, SaveOptions(**options))
    assert found == [problem]


@pytest.mark.parametrize(
    ("dtype", "nodata", "options", "problem"),
    [
        ("uint8", -1, {}, "nodata: -1 given, uint8 holds 0 to 255"),
        ("uint8", 0.5, {}, "nodata: 0.5 given, uint8 holds 0 to 255"),
        ("uint8", 2, {"nbits": 1}, "nodata: 2 given, uint8 holds 0 to 1"),
        ("int16", float("nan"), {}, "nodata: nan given, int16 holds -32768 to 32767"),
        (
            "float16",
            None,
            {},
            "dtype: float16 given, which GeoTIFF does not hold; float32 is accepted",
        ),
        ("bool", None, {}, "dtype: bool given, which GeoTIFF does not hold; uint8 is accepted"),
        ("int64", 0, {"compression": "lerc"}, "options.compression: 'lerc' does not take int64"),
        ("text", 0, {}, "dtype: 'text' given, a data type of numbers expected"),
    ],
)
def test_a_data_type_that_does_not_go_with_the_rest_is_refused(
    dtype: str, nodata: float | None, options: dict[str, Any], problem: str
) -> None:
    assert output_problems("a.tif", "arrays", dtype, nodata, SaveOptions(**options)) == [problem]


def test_all_mistakes_of_an_output_come_at_once() -> None:
    problems = output_problems("a.tif", "dict", None, None, {"nbits": 1}, by_pair=True)
    assert problems == [
        "file_name: 'a.tif' given, a name ending in .json expected",
        "save_points_cloud_by_pair: True is for points, not for dict",
        "options: a dict given, a SaveOptions expected",
    ]


def test_a_package_that_is_missing_is_named_with_the_extra_that_brings_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def find_nothing(name: str) -> None:
        return None

    monkeypatch.setattr(importlib.util, "find_spec", find_nothing)
    assert output_problems("a.zarr", "arrays") == [
        "file_name: 'a.zarr' needs zarr, which batuta[formats] installs"
    ]
    assert output_problems("a.laz", "points") == [
        "file_name: 'a.laz' needs laspy and lazrs, which batuta[formats] installs"
    ]
    assert output_problems("a.tif", "arrays") == output_problems("a.geoparquet", "points") == []


def test_every_suffix_is_of_one_format() -> None:
    suffixes = [suffix for each in FORMATS for suffix in each.suffixes]
    assert len(set(suffixes)) == len(suffixes)


def test_as_many_band_descriptions_as_bands_are_needed(tmp_path: Path) -> None:

    dataset = CarsDataset("arrays")
    dataset.create_grid(2, 2, 2, 2)
    tile = xr.Dataset({"z": (("band", "row", "col"), [[[1.0, 2], [3, 4]]] * 3)})
    options = SaveOptions(band_descriptions=["only"])
    with pytest.raises(ConfigurationError, match="1 given, z has 3 bands"):
        dataset.generate_descriptor(tile, tmp_path / "a.tif", tag="z", options=options)
