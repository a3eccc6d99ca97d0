"""Arrays in Zarr, as xarray reads them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
import zarr
from affine import Affine
from rasterio.crs import CRS

from batuta.datasets import CarsDataset, SaveOptions, fill_dataset
from batuta.errors import ConfigurationError

ROWS, COLS = 5, 7


def save(
    path: Path,
    tile: xr.Dataset,
    tag: str = "z",
    options: SaveOptions | None = None,
    nodata: float | None = -9999,
    dtype: str = "float32",
) -> xr.Dataset:
    dataset = CarsDataset("arrays")
    dataset.create_grid(COLS, ROWS, 2, 3)
    descriptor = dataset.generate_descriptor(
        tile, path, tag=tag, dtype=dtype, nodata=nodata, options=options
    )
    first = tile.isel({tile[tag].dims[-2]: slice(0, 2), tile[tag].dims[-1]: slice(0, 3)})
    dataset.run_save(first, path, tag=tag, descriptor=descriptor, position=(0, 0))
    descriptor.close()
    found: xr.Dataset = xr.open_zarr(path, chunks=None)
    return found


def image(**profile: Any) -> xr.Dataset:
    values = np.arange(ROWS * COLS, dtype=np.float64).reshape(ROWS, COLS)
    tile = xr.Dataset({"z": (("row", "col"), values)})
    fill_dataset(tile, profile=profile)
    return tile


def test_pixels_of_no_tile_are_nan_and_names_of_dimensions_are_those_of_the_tile(
    tmp_path: Path,
) -> None:
    found = save(tmp_path / "a.zarr", image())
    assert found["z"].dims == ("row", "col")
    assert found["z"].dtype == np.float32
    np.testing.assert_array_equal(found["z"][:2, :3], [[0, 1, 2], [7, 8, 9]])
    assert np.isnan(found["z"][2:]).all()
    assert found["z"].encoding["_FillValue"] == -9999
    assert set(found.variables) == {"z"}


def test_whole_numbers_are_masked_by_nodata(tmp_path: Path) -> None:
    tile = image()
    tile["z"][0, 0] = np.nan
    found = save(tmp_path / "a.zarr", tile, nodata=-1, dtype="int16")
    assert found["z"].encoding["dtype"] == np.int16
    np.testing.assert_array_equal(found["z"][0, :4], [np.nan, 1, 2, np.nan])


def test_without_nodata_pixels_of_no_tile_are_zero(tmp_path: Path) -> None:
    found = save(tmp_path / "a.zarr", image(), nodata=None, dtype="uint8")
    assert found["z"].dtype == np.uint8
    np.testing.assert_array_equal(found["z"][2:], 0)


@pytest.mark.parametrize(
    ("epsg", "names"),
    [
        (32740, ("projection_x_coordinate", "projection_y_coordinate")),
        (4326, ("longitude", "latitude")),
    ],
)
def test_coordinates_are_the_centres_of_pixels(
    epsg: int, names: tuple[str, str], tmp_path: Path
) -> None:
    transform = Affine(0.5, 0, 10, 0, -0.25, 40)
    found = save(tmp_path / "a.zarr", image(transform=transform, crs=CRS.from_epsg(epsg)))
    assert found["z"].dims == ("y", "x")
    np.testing.assert_array_equal(found["x"], 10.25 + 0.5 * np.arange(COLS))
    np.testing.assert_array_equal(found["y"], 39.875 - 0.25 * np.arange(ROWS))
    assert (found["x"].attrs["standard_name"], found["y"].attrs["standard_name"]) == names
    assert found["z"].attrs["grid_mapping"] == "spatial_ref"
    place = found.coords["spatial_ref"].attrs
    assert CRS.from_wkt(place["crs_wkt"]) == CRS.from_epsg(epsg)
    assert place["GeoTransform"] == "10.0 0.5 0.0 40.0 0.0 -0.25"


def test_a_rotated_raster_has_its_transform_and_no_coordinates(tmp_path: Path) -> None:
    found = save(tmp_path / "a.zarr", image(transform=Affine.rotation(30)))
    assert "x" not in found.variables
    assert len(found.coords["spatial_ref"].attrs["GeoTransform"].split()) == 6
    assert "crs_wkt" not in found.coords["spatial_ref"].attrs


def test_bands_come_by_their_names(tmp_path: Path) -> None:
    values = np.arange(3 * ROWS * COLS, dtype=np.uint8).reshape(3, ROWS, COLS)
    tile = xr.Dataset(
        {"colour": (("band", "row", "col"), values)}, coords={"band": ["R", "G", "été"]}
    )
    found = save(tmp_path / "a.zarr", tile, "colour", dtype="uint8", nodata=None)
    assert found["band"].values.tolist() == ["R", "G", "été"]
    np.testing.assert_array_equal(found["colour"].sel(band="été")[:2, :3], values[2, :2, :3])
    named = SaveOptions(band_descriptions=["a", "b", "c"])
    found = save(tmp_path / "b.zarr", tile, "colour", named, nodata=None, dtype="uint8")
    assert found["band"].values.tolist() == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("options", "chunks", "codec"),
    [
        (SaveOptions(), (2, 3), "zstd"),
        (SaveOptions(block_px=4, compression="deflate"), (4, 4), "zlib"),
        (SaveOptions(block_px=100, compression="none"), (ROWS, COLS), None),
    ],
)
def test_chunks_are_tiles_or_what_was_asked(
    options: SaveOptions, chunks: tuple[int, int], codec: str | None, tmp_path: Path
) -> None:
    save(tmp_path / "a.zarr", image(), options=options)
    layout = json.loads((tmp_path / "a.zarr/z/.zarray").read_text())
    assert tuple(layout["chunks"]) == chunks
    assert (layout["compressor"] or {}).get("id") == codec


def test_tags_are_attributes_of_the_group(tmp_path: Path) -> None:
    found = save(tmp_path / "a.zarr", image(), options=SaveOptions(tags={"mission": "one"}))
    assert found.attrs == {"mission": "one"}


def test_consolidated_metadata_match_those_of_each_array(tmp_path: Path) -> None:
    transform = Affine(0.5, 0, 10, 0, -0.25, 40)
    save(tmp_path / "a.zarr", image(transform=transform, crs=CRS.from_epsg(4326)))
    gathered = zarr.open_consolidated(tmp_path / "a.zarr")
    each = zarr.open_group(tmp_path / "a.zarr", mode="r", use_consolidated=False)
    names = {name for name, _ in each.arrays()}
    assert names == {"x", "y", "z", "spatial_ref"}
    assert {name: array.metadata for name, array in gathered.arrays()} == {
        name: array.metadata for name, array in each.arrays()
    }


@pytest.mark.parametrize("tag", ["a/b", "../z", ".z", "spatial_ref", "row", "a\\b"])
def test_a_name_that_would_be_a_path_or_another_variable_is_refused(
    tag: str, tmp_path: Path
) -> None:
    tile = xr.Dataset({tag: (("row", "col"), np.zeros((ROWS, COLS)))})
    with pytest.raises(ConfigurationError, match="Zarr needs a name without /"):
        save(tmp_path / "a.zarr", tile, tag)
    assert list(tmp_path.iterdir()) == []
