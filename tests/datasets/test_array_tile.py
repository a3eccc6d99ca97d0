"""Tiles of arrays without xarray: files take them as they take Datasets."""

from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import rasterio
import xarray as xr

from batuta.datasets import CarsDataset, SaveOptions, TileError
from batuta.datasets.array_tile import ArrayTile, ArrayVariable, is_array_tile, variable_of

CUBE = np.arange(2 * 8 * 6, dtype=np.float32).reshape(2, 8, 6)

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")


def tile() -> ArrayTile:
    variable = ArrayVariable(dims=("band", "row", "col"), data=CUBE, bands=("red", "nir"))
    return ArrayTile(data_vars={"z": variable}, attrs={"attributes": {"made": "today"}})


def dataset() -> CarsDataset:
    one = CarsDataset("arrays")
    one.create_grid(6, 8, 8, 6)
    return one


@pytest.mark.parametrize("name", ["z.tif", "z.zarr"])
def test_files_are_the_same_as_of_a_dataset_of_xarray(tmp_path: Path, name: str) -> None:
    found = {}
    for kind, each in (("own", tile()), ("xarray", tile().to_dataset())):
        path = tmp_path / kind / name
        with closing(dataset().generate_descriptor(each, path, tag="z", nodata=-1)) as file:
            dataset().run_save(each, path, "z", file, position=(0, 0))
        files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
        found[kind] = {p.relative_to(tmp_path / kind): p.read_bytes() for p in files}
    assert found["own"] == found["xarray"]


def test_its_bands_are_found_by_their_names(tmp_path: Path) -> None:
    turned = ArrayVariable(dims=("band", "row", "col"), data=CUBE[::-1], bands=("nir", "red"))
    path, grid = tmp_path / "z.tif", CarsDataset("arrays")
    grid.create_grid(6, 16, 8, 6)
    with closing(grid.generate_descriptor(tile(), path, tag="z")) as file:
        grid.run_save(tile(), path, "z", file, position=(0, 0))
        grid.run_save(ArrayTile(data_vars={"z": turned}), path, "z", file, position=(1, 0))
    with rasterio.open(path) as raster:
        np.testing.assert_array_equal(raster.read(), np.concatenate([CUBE, CUBE], axis=1))


def test_a_variable_that_it_lacks_is_named_with_those_that_it_has(tmp_path: Path) -> None:
    with pytest.raises(TileError, match="no 'y' in a tile; it holds z"):
        dataset().generate_descriptor(tile(), tmp_path / "z.tif", tag="y", options=SaveOptions())


def test_it_is_saved_and_loaded_as_a_dataset_of_xarray(tmp_path: Path) -> None:
    dataset().save_single_tile(tile(), tmp_path / "tile")
    loaded = dataset().load_single_tile(tmp_path / "tile")
    xr.testing.assert_identical(loaded, tile().to_dataset())
    assert loaded["z"].coords["band"].to_numpy().tolist() == ["red", "nir"]


def test_arrays_of_both_are_read_alike() -> None:
    turned = xr.Dataset({"z": (("col", "row"), CUBE[0].T)})
    assert variable_of(turned, "z").dims == ("row", "col")
    np.testing.assert_array_equal(variable_of(turned, "z").values, CUBE[0])
    np.testing.assert_array_equal(variable_of(tile(), "z").values, CUBE)
    assert [*map(is_array_tile, (turned, tile(), turned["z"], CUBE, None))] == [
        True,
        True,
        False,
        False,
        False,
    ]
