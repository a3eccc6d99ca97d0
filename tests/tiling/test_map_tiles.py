"""`map_tiles` gives what the function gives on the whole rasters, whatever the tiles."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
import rasterio
import xarray as xr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rasterio.enums import ColorInterp

import batuta
from batuta import TiledOutput, TilePlace, map_tiles
from batuta.datasets import SaveOptions
from batuta.errors import ConfigurationError
from batuta.orchestrator import TilesFailedError
from batuta.tiling.edges import EDGES
from tests.orchestrator.inspection import EventRecorder
from tests.tiling.rasters import PLACE, heights, pixels_of, write_raster

Array = npt.NDArray[Any]
ONCE = {"mode": "sequential"}


def slope(heights_m: Array) -> Array:
    """Need one pixel around each; at the edge, fewer."""
    north, east = np.gradient(heights_m, 30.0)
    steepness: Array = np.hypot(north, east)
    return steepness


def neighbours(values: Array) -> Array:
    """Sum 3 x 3 pixels, beyond the edge of the array zeros."""
    around = np.pad(values, 1)
    rows, cols = values.shape
    parts = [around[row : row + rows, col : col + cols] for row in range(3) for col in range(3)]
    total: Array = np.sum(parts, axis=0, dtype=values.dtype)
    return total


@pytest.mark.parametrize("mode", ["sequential", "multiprocessing", "auto", "local_dask"])
def test_every_mode_gives_the_result_of_the_whole_raster(tmp_path: Path, mode: str) -> None:
    dem = write_raster(tmp_path / "dem.tif", heights(130, 90), block_px=32, nodata=77)
    mapped = map_tiles(
        slope, dem, out=tmp_path / "slope.tif", overlap=1, tile=64, nodata=-9999, mode=mode
    )
    whole = pixels_of(dem)
    expected = slope(np.where(whole == 77, np.nan, whole))
    np.testing.assert_array_equal(
        pixels_of(mapped.paths[0]), np.where(np.isnan(expected), np.float32(-9999), expected)
    )


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    rows=st.integers(4, 40),
    cols=st.integers(4, 40),
    tile=st.tuples(st.integers(3, 45), st.integers(3, 45)),
    overlap=st.integers(0, 3),
    edge=st.sampled_from(EDGES),
)
def test_tiles_give_the_same_whatever_their_size_overlap_and_edge(
    rows: int, cols: int, tile: tuple[int, int], overlap: int, edge: str
) -> None:
    whole = heights(rows, cols)
    found = map_tiles(neighbours, whole, tile=tile, overlap=overlap, edge=edge, mode="sequential")
    if overlap == 0:
        return  # the function sees no neighbours: only that it runs matters
    modes = {"reflect": "reflect", "symmetric": "symmetric", "nearest": "edge"}
    if edge == "nothing":
        expected = neighbours(whole)
    elif edge == "nodata":
        padded = np.pad(whole, overlap, constant_values=np.nan)
        expected = neighbours(padded)[overlap:-overlap, overlap:-overlap]
    else:
        padded = np.pad(whole, overlap, mode=modes[edge])  # type: ignore[call-overload]  # a name
        expected = neighbours(padded)[overlap:-overlap, overlap:-overlap]
    np.testing.assert_array_equal(found.compute().to_numpy(), expected)


def test_georeferencing_tags_and_names_of_bands_are_kept(tmp_path: Path) -> None:
    pixels = np.stack([heights(40, 30, "uint16"), heights(40, 30, "uint16")[::-1]])
    source = write_raster(tmp_path / "s2.tif", pixels, names=("red", "nir"), tags={"MISSION": "S2"})
    map_tiles(lambda bands: bands + 1, source, out=tmp_path / "out.tif", tile=16, mode=ONCE)
    with rasterio.open(source) as before, rasterio.open(tmp_path / "out.tif") as after:
        assert (after.transform, after.crs, after.shape) == (
            before.transform,
            before.crs,
            before.shape,
        )
        assert after.descriptions == ("red", "nir")
        assert after.tags()["MISSION"] == "S2"
        assert after.dtypes == ("uint16", "uint16")
        np.testing.assert_array_equal(after.read(), pixels + 1)


def test_several_results_go_to_rasters_tables_and_documents(tmp_path: Path) -> None:
    dem = write_raster(tmp_path / "dem.tif", heights(40, 30))

    def products(z: Array, place: TilePlace) -> Any:
        rows, cols = np.nonzero(z > 1190)
        x, y = place.coordinates(rows, cols)
        table = pd.DataFrame({"x": x, "y": y, "z": z[rows, cols]})
        return z * 2, table, (z > 600).astype("uint8"), {"highest": float(z.max())}

    out: list[Path | TiledOutput] = [
        tmp_path / "double.tif",
        tmp_path / "peaks.csv",
        TiledOutput(path=tmp_path / "high.tif", options=SaveOptions(compression="deflate")),
        tmp_path / "tiles.json",
    ]
    mapped = map_tiles(products, dem, out=out, tile=20, mode=ONCE)
    whole = pixels_of(dem)
    np.testing.assert_array_equal(pixels_of(tmp_path / "double.tif"), whole * 2)
    np.testing.assert_array_equal(pixels_of(tmp_path / "high.tif"), whole > 600)
    table = pd.read_csv(tmp_path / "peaks.csv")
    assert sorted(table["z"]) == [*range(1191, 1200)]
    row, col = np.argwhere(whole == 1199)[0]
    highest = table[table["z"] == 1199].iloc[0]
    assert (highest["x"], highest["y"]) == PLACE @ (col + 0.5, row + 0.5)
    assert [Path(each).name for each in mapped.paths] == [
        "double.tif",
        "peaks.csv",
        "high.tif",
        "tiles.json",
    ]


def test_calls_are_chained_without_a_file_between_them(tmp_path: Path) -> None:
    dem = write_raster(tmp_path / "dem.tif", heights(60, 50))
    first = map_tiles(neighbours, dem, overlap=1)
    second = map_tiles(lambda a, b: neighbours(a) - b, first, dem, overlap=1, tile=17, mode=ONCE)
    whole = pixels_of(dem)
    np.testing.assert_array_equal(
        second.compute().to_numpy(), neighbours(neighbours(whole)) - whole
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dem.tif"]


def test_a_saved_result_is_an_input_and_a_path(tmp_path: Path) -> None:
    dem = write_raster(tmp_path / "dem.tif", heights(60, 50))
    saved = map_tiles(neighbours, dem, out=tmp_path / "sum.tif", overlap=1, mode=ONCE)
    with rasterio.open(saved) as raster:
        assert raster.shape == (60, 50)
    again = map_tiles(np.negative, saved, mode=ONCE).compute()
    np.testing.assert_array_equal(again.to_numpy(), -neighbours(pixels_of(dem)))


@pytest.mark.parametrize(
    ("missing", "expected"),
    [("nan", [np.nan, 2.0]), ("raw", [255, 2]), ("masked", [np.ma.masked, 2])],
)
def test_pixels_without_a_value_are_given_as_asked(
    tmp_path: Path, missing: str, expected: list[Any]
) -> None:
    source = write_raster(tmp_path / "a.tif", np.array([[255, 2]], dtype="uint8"), nodata=255)
    seen: list[Any] = []

    def look(a: Array) -> Array:
        seen.append(a)
        return a

    map_tiles(
        look,
        source,
        missing=missing,
        mode="sequential",
        nodata=0,
        out=tmp_path / "b.tif",
    )
    assert seen[0].tolist() == [[None if each is np.ma.masked else each for each in expected]] or (
        missing == "nan" and np.array_equal(seen[0], [expected], equal_nan=True)
    )


def test_masked_results_hold_nodata_in_the_file(tmp_path: Path) -> None:
    values = heights(10, 10, "int32")
    map_tiles(
        lambda a: np.ma.masked_less(a, 50), values, out=tmp_path / "a.tif", nodata=-1, mode=ONCE
    )
    np.testing.assert_array_equal(pixels_of(tmp_path / "a.tif"), np.where(values < 50, -1, values))


def test_data_arrays_have_coordinates_and_names(tmp_path: Path) -> None:
    source = write_raster(
        tmp_path / "s2.tif", np.stack([heights(40, 30), heights(40, 30)]), names=("red", "nir")
    )
    whole = map_tiles(
        lambda s2: s2.sel(band="nir") + s2.x * 0 + s2.y,
        source,
        arrays="xarray",
        tile=16,
        mode="sequential",
    ).compute()
    rows = PLACE.f + PLACE.e * (np.arange(40) + 0.5)
    np.testing.assert_allclose(whole.to_numpy(), heights(40, 30) + rows[:, np.newaxis])


def test_xarray_and_numpy_arrays_are_inputs_too() -> None:
    values = heights(40, 30, "float64")
    y, x = 100.0 - np.arange(40), np.arange(30) * 2.0
    array = xr.DataArray(values, dims=("y", "x"), coords={"y": y, "x": x}, name="z")
    whole = map_tiles(np.add, array, values, tile=16, mode="multiprocessing").compute()
    np.testing.assert_array_equal(whole.to_numpy(), values * 2)
    np.testing.assert_allclose(whole.x, x)
    np.testing.assert_allclose(whole.y, y)


def test_a_zarr_array_is_an_input_and_an_output(tmp_path: Path) -> None:
    dem = write_raster(tmp_path / "dem.tif", heights(60, 50))
    map_tiles(np.negative, dem, out=tmp_path / "minus.zarr", tile=16, mode=ONCE)
    for source in (tmp_path / "minus.zarr", tmp_path / "minus.zarr" / "minus"):
        mapped = map_tiles(np.negative, source, out=tmp_path / "plus.tif", mode=ONCE)
        np.testing.assert_array_equal(pixels_of(mapped.paths[0]), pixels_of(dem))
        with rasterio.open(mapped) as raster:
            assert raster.transform == PLACE
            assert raster.crs.to_epsg() == 32631


def test_an_input_on_another_grid_is_warped_to_that_of_the_first(tmp_path: Path) -> None:
    fine = write_raster(tmp_path / "fine.tif", heights(40, 40))
    coarse = write_raster(
        tmp_path / "coarse.tif",
        heights(20, 20),
        transform=PLACE @ PLACE.scale(2),
    )
    found = map_tiles(
        lambda a, b: b + 0 * a, fine, coarse, resampling="nearest", tile=16, mode="sequential"
    ).compute()
    np.testing.assert_array_equal(found, np.kron(heights(20, 20), np.ones((2, 2))))


def test_a_function_is_told_where_its_tile_lies(tmp_path: Path) -> None:
    dem = write_raster(tmp_path / "dem.tif", heights(40, 30))

    def rows(z: Array, *, place: TilePlace) -> Array:
        assert place.shape == z.shape
        first = place.window.row_min - place.overlaps.up
        return np.broadcast_to(np.arange(first, first + len(z))[:, np.newaxis], z.shape)

    found = map_tiles(rows, dem, tile=16, overlap=2, mode="sequential").compute()
    np.testing.assert_array_equal(found, np.broadcast_to(np.arange(40)[:, np.newaxis], (40, 30)))


def test_a_function_that_returns_none_leaves_its_tile_empty(tmp_path: Path) -> None:
    dem = write_raster(tmp_path / "dem.tif", heights(32, 32))
    map_tiles(
        lambda z, place: None if place.window.row_min else z,
        dem,
        out=tmp_path / "half.tif",
        tile=16,
        nodata=-1,
        mode=ONCE,
    )
    assert (pixels_of(tmp_path / "half.tif")[16:] == -1).all()
    np.testing.assert_array_equal(pixels_of(tmp_path / "half.tif")[:16], heights(32, 32)[:16])


def test_a_resumed_run_computes_what_an_interrupted_one_lacks(tmp_path: Path) -> None:
    dem = write_raster(tmp_path / "dem.tif", heights(64, 32))
    marker = tmp_path / "second"

    def twice(z: Array, place: TilePlace, marker: Path) -> Array:
        if place.window.row_min == 48 and not marker.exists():
            raise RuntimeError("not yet")
        return z * 2

    def run(recorder: EventRecorder) -> None:
        map_tiles(
            twice,
            dem,
            out=tmp_path / "twice.tif",
            tile=(16, 32),
            kwargs={"marker": marker},
            mode=ONCE,
            resume=True,
            observers=[recorder],
        )

    first, second, third = EventRecorder(), EventRecorder(), EventRecorder()
    with pytest.raises(TilesFailedError, match="not yet"):
        run(first)
    marker.touch()
    run(second)
    kept = [type(each).__name__ for each in second.events].count("TileKept")
    assert kept == 3
    np.testing.assert_array_equal(pixels_of(tmp_path / "twice.tif"), heights(64, 32) * 2)
    # A new input is another one, though its name is the same.
    write_raster(dem, heights(64, 32) + 1)
    run(third)
    assert "TileKept" not in [type(each).__name__ for each in third.events]


def test_a_function_may_change_what_it_is_given(tmp_path: Path) -> None:
    def halved(z: Array) -> Array:
        z /= 2
        return z

    whole = heights(40, 30)
    dem = write_raster(tmp_path / "dem.tif", whole)
    for source in (whole, xr.DataArray(whole, dims=("y", "x")), dem):
        found = map_tiles(halved, source, overlap=2, tile=8, mode="sequential").compute()
        np.testing.assert_array_equal(found, heights(40, 30) / 2)
    np.testing.assert_array_equal(whole, heights(40, 30))


def test_tiles_of_whole_numbers_that_are_empty_are_nan_in_memory() -> None:
    found = map_tiles(
        lambda z, place: None if place.window.row_min else z,
        np.ones((32, 8), "uint8"),
        tile=16,
        mode="sequential",
    ).compute()
    assert (found[:16] == 1).all()
    assert np.isnan(found[16:]).all()


def test_an_image_with_transparency_is_warped_with_it(tmp_path: Path) -> None:
    coarse = write_raster(tmp_path / "c.tif", heights(20, 20), transform=PLACE @ PLACE.scale(2))
    pixels = np.stack([heights(40, 40, "uint8")] * 3 + [np.full((40, 40), 255, "uint8")])
    pixels[3, :20] = 0
    image = write_raster(tmp_path / "rgba.tif", pixels)
    with rasterio.open(image, "r+") as raster:
        raster.colorinterp = [
            ColorInterp.red,
            ColorInterp.green,
            ColorInterp.blue,
            ColorInterp.alpha,
        ]
    found = map_tiles(
        lambda _, rgba: rgba[0], coarse, image, resampling="nearest", mode="sequential"
    ).compute()
    assert np.isnan(found[:10]).all()
    assert not np.isnan(found[10:]).any()


def test_a_zarr_array_that_changed_is_another_input(tmp_path: Path) -> None:
    recorders = [EventRecorder() for _ in range(3)]
    for rank, recorder in enumerate(recorders):
        if rank != 1:
            source = heights(32, 32) + rank
            map_tiles(np.negative, source, out=tmp_path / "a.zarr", tile=16, mode=ONCE)
        map_tiles(
            np.negative,
            tmp_path / "a.zarr",
            out=tmp_path / "b.tif",
            tile=16,
            mode=ONCE,
            resume=True,
            observers=[recorder],
        )
    kept = [
        [type(each).__name__ for each in recorder.events].count("TileKept")
        for recorder in recorders
    ]
    assert kept == [0, 4, 0]
    np.testing.assert_array_equal(pixels_of(tmp_path / "b.tif"), heights(32, 32) + 2)


def test_arrays_that_xarray_has_decoded_keep_their_values(tmp_path: Path) -> None:
    values = heights(20, 10, "float64") / 10
    packing = {"z": {"dtype": "int16", "scale_factor": 0.1, "_FillValue": 5}}
    xr.Dataset({"z": (("y", "x"), values)}).to_zarr(
        tmp_path / "z.zarr", encoding=packing, zarr_format=2
    )
    with pytest.raises(ConfigurationError, match="z is stored with scale_factor: open it with"):
        map_tiles(np.negative, tmp_path / "z.zarr")
    decoded = xr.open_zarr(tmp_path / "z.zarr", chunks=None)["z"]
    found = map_tiles(np.negative, decoded, tile=8, mode="sequential").compute()
    np.testing.assert_array_equal(found, -decoded.to_numpy())


def test_it_is_found_in_the_package_itself() -> None:
    assert batuta.map_tiles is map_tiles
    assert "map_tiles" in dir(batuta)
    with pytest.raises(AttributeError, match="no attribute 'no_such'"):
        _ = batuta.no_such
