"""Points in LAS, LAZ and GeoParquet, and by pair."""

import json
from pathlib import Path
from typing import Any

import geopandas
import laspy
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from rasterio.crs import CRS

from batuta.datasets import CarsDataset, TileError, fill_dataframe
from batuta.datasets.point_file import safe_name


def cloud(count: int = 4, /, **columns: Any) -> pd.DataFrame:
    rng = np.random.default_rng(count)
    places = {
        "x": 340_000 + rng.random(count) * 100,
        "y": 7_650_000 + rng.random(count) * 100,
        "z": 2300 + rng.random(count) * 10,
    }
    return pd.DataFrame(places | columns)


def save(path: Path, *tiles: pd.DataFrame, by_pair: bool = False) -> tuple[Path, ...]:
    dataset = CarsDataset("points", name="cloud")
    dataset.create_grid(len(tiles), 1, 1, 1)
    descriptor = dataset.generate_descriptor(None, path, save_points_cloud_by_pair=by_pair)
    try:
        for col, tile in enumerate(tiles):
            dataset.run_save(tile, path, descriptor=descriptor, position=(0, col))
    except TileError:
        descriptor.abandon()
        raise
    descriptor.close()
    outputs: tuple[Path, ...] = descriptor.outputs
    return outputs


def georeferenced(tile: pd.DataFrame, **attributes: Any) -> pd.DataFrame:
    fill_dataframe(tile, attributes=attributes)
    return tile


@pytest.mark.parametrize("suffix", [".las", ".laz"])
def test_columns_of_las_go_to_its_dimensions_and_others_beside_them(
    suffix: str, tmp_path: Path
) -> None:
    tile = cloud(
        red=[0, 255, 65535, np.nan],
        Green=np.array([1, 2, 3, 4], np.uint8),
        Intensity=[0.4, 0.6, 100, 0],
        classification=[2, 2, 6, 255],
        gps_time=[0.25, 0.5, 0.75, 1],
        confidence=np.array([0.1, 0.2, np.nan, 0.4], np.float32),
        count=np.array([1, -2, 2**40, 4]),
        seen=[True, False, True, True],
    )
    save(tmp_path / f"a{suffix}", tile)
    las = laspy.read(tmp_path / f"a{suffix}")
    assert (las.header.version, las.header.point_format.id) == ("1.4", 7)
    assert las.header.are_points_compressed == (suffix == ".laz")
    for axis in "xyz":
        np.testing.assert_allclose(las[axis], tile[axis], rtol=0, atol=0.00051)
    assert las["red"].tolist() == [0, 255, 65535, 0]
    assert las["green"].tolist() == [1, 2, 3, 4]
    assert las["blue"].tolist() == [0] * 4
    assert las["intensity"].tolist() == [0, 1, 100, 0]
    assert las["classification"].tolist() == [2, 2, 6, 255]
    assert las["gps_time"].tolist() == [0.25, 0.5, 0.75, 1]
    for returns in ("return_number", "number_of_returns"):
        np.testing.assert_array_equal(las[returns], 1)
    np.testing.assert_array_equal(las["confidence"], tile["confidence"])
    np.testing.assert_array_equal(las["count"], tile["count"])
    assert las["count"].dtype == np.int64
    assert las["seen"].tolist() == [1, 0, 1, 1]


def test_points_without_colours_are_of_the_smaller_point_format(tmp_path: Path) -> None:
    save(tmp_path / "a.laz", cloud().rename(columns=str.upper))
    las = laspy.read(tmp_path / "a.laz")
    assert las.header.point_format.id == 6
    assert len(las.points) == 4


def test_whole_numbers_that_some_tiles_lack_are_nan_there(tmp_path: Path) -> None:
    save(tmp_path / "a.laz", cloud(2, n=[1, 2]), cloud(1), cloud(0))
    las = laspy.read(tmp_path / "a.laz")
    np.testing.assert_array_equal(las["n"], [1, 2, np.nan])


def test_coordinates_in_degrees_keep_a_millimetre(tmp_path: Path) -> None:
    tile = georeferenced(cloud(), epsg=4326)
    tile["x"], tile["y"] = [55.123456789, 55.2, 55.3, 55.4], [-21.123456789, -21.2, -21.3, -21.4]
    save(tmp_path / "a.laz", tile)
    las = laspy.read(tmp_path / "a.laz")
    np.testing.assert_allclose(las["x"], tile["x"], rtol=0, atol=0.51e-8)
    np.testing.assert_allclose(las["y"], tile["y"], rtol=0, atol=0.51e-8)
    assert las.header.scales.tolist() == [1e-8, 1e-8, 1e-3]


def test_a_large_extent_takes_coarser_steps_rather_than_overflow(tmp_path: Path) -> None:
    tile = cloud(2)
    tile["x"], tile["y"] = [-4e7, 4e7], [-180.0, 180.0]
    save(tmp_path / "a.laz", tile)
    las = laspy.read(tmp_path / "a.laz")
    np.testing.assert_allclose(las["x"], tile["x"], rtol=0, atol=0.05)
    degrees = georeferenced(cloud(2), crs="EPSG:4326")
    degrees["x"], degrees["y"] = [-180.0, 180.0], [-90.0, 90.0]
    save(tmp_path / "b.laz", degrees)
    las = laspy.read(tmp_path / "b.laz")
    np.testing.assert_allclose(las["x"], [-180, 180], rtol=0, atol=1e-6)


def test_the_header_has_the_extent_the_crs_and_no_date(tmp_path: Path) -> None:
    tiles = [georeferenced(cloud(each), epsg=np.int64(32740)) for each in (3, 5)]
    save(tmp_path / "a.laz", *tiles)
    with laspy.open(tmp_path / "a.laz") as las:
        whole = pd.concat(tiles)[["x", "y", "z"]]
        np.testing.assert_allclose(las.header.mins, whole.min(), rtol=0, atol=0.00051)
        np.testing.assert_allclose(las.header.maxs, whole.max(), rtol=0, atol=0.00051)
        crs: Any = las.header.parse_crs()
        assert crs.to_epsg() == 32740
        assert las.header.point_count == las.header.number_of_points_by_return[0] == 8
        assert str(las.header.creation_date) == "1970-01-01"


@pytest.mark.parametrize("epsg", [4979, 5972, 9989])
def test_three_dimensional_coordinate_systems_are_written_too(epsg: int, tmp_path: Path) -> None:
    save(tmp_path / "a.laz", georeferenced(cloud(), epsg=epsg))
    with laspy.open(tmp_path / "a.laz") as las:
        assert las.header.parse_crs() is not None
    save(tmp_path / "a.geoparquet", georeferenced(cloud(), epsg=epsg))
    assert geopandas.read_parquet(tmp_path / "a.geoparquet").crs is not None
    geo = json.loads(pq.read_schema(tmp_path / "a.geoparquet").metadata[b"geo"])
    assert geo["columns"]["geometry"]["crs"]["id"] == {"authority": "EPSG", "code": epsg}


def test_a_cloud_of_no_point_is_a_file_of_no_point(tmp_path: Path) -> None:
    for name in ("a.laz", "a.geoparquet", "a.parquet"):
        save(tmp_path / name, cloud(0), pd.DataFrame())
    assert len(laspy.read(tmp_path / "a.laz").points) == 0
    assert len(geopandas.read_parquet(tmp_path / "a.geoparquet")) == 0
    assert len(pd.read_parquet(tmp_path / "a.parquet")) == 0
    save(tmp_path / "b.laz", pd.DataFrame())
    save(tmp_path / "b.geoparquet", pd.DataFrame())
    assert len(laspy.read(tmp_path / "b.laz").points) == 0
    assert len(geopandas.read_parquet(tmp_path / "b.geoparquet")) == 0


@pytest.mark.parametrize(
    ("tile", "reason"),
    [
        (cloud().drop(columns="z"), "a tile has no column z, which LAS needs"),
        (cloud(X=1.0), "x and X: both are x in LAS"),
        (cloud(name="text"), "name: a column of .*string cannot be saved in LAS"),
        (cloud(red=70_000), "red: values from 70000 to 70000 given, LAS holds 0 to 65535"),
        (cloud(classification=-1), "classification: values from -1 to -1 given"),
        (cloud().assign(y=np.nan), "y: a coordinate is not finite; LAS needs finite coordinates"),
        (cloud(**{"n" * 33: 1}), "'n{33}': a name in LAS has 1 to 32 bytes, and no NUL"),
        (cloud(**{"": 1}), "'': a name in LAS has 1 to 32 bytes"),
        (cloud(**{"a\0b": 1}), r"'a\\x00b': a name in LAS has 1 to 32 bytes"),
        (cloud(c=[1 + 2j] * 4), "c: a column of complex128 cannot be saved"),
    ],
)
def test_what_las_cannot_hold_is_refused_with_the_tile(
    tile: pd.DataFrame, reason: str, tmp_path: Path
) -> None:
    with pytest.raises(TileError, match=reason):
        save(tmp_path / "a.laz", tile)
    assert list(tmp_path.iterdir()) == []


def test_geopandas_reads_points_with_their_crs_and_columns(tmp_path: Path) -> None:
    tiles = [
        georeferenced(cloud(3, n=[1, 2, 3]), epsg=32740),
        georeferenced(cloud(2), crs=CRS.from_epsg(32740)),
    ]
    save(tmp_path / "a.geoparquet", *tiles)
    found = geopandas.read_parquet(tmp_path / "a.geoparquet")
    whole = pd.concat(tiles, ignore_index=True)
    assert found.crs.to_epsg() == 32740
    assert found.geometry.name == "geometry"
    for axis in "xyz":
        np.testing.assert_array_equal(getattr(found.geometry, axis), whole[axis])
    expected = whole.astype({"n": "Int64"})  # missing in the second tile
    pd.testing.assert_frame_equal(pd.DataFrame(found.drop(columns="geometry")), expected)


def test_the_metadata_of_geoparquet_are_those_of_version_1_1(tmp_path: Path) -> None:
    flat = cloud(3).drop(columns="z")
    save(tmp_path / "a.geoparquet", flat)
    geo = json.loads(pq.read_schema(tmp_path / "a.geoparquet").metadata[b"geo"])
    assert geo["version"] == "1.1.0"
    assert geo["primary_column"] == "geometry"
    column = geo["columns"]["geometry"]
    assert column["encoding"] == "WKB"
    assert column["geometry_types"] == ["Point"]
    assert column["crs"] is None
    np.testing.assert_array_equal(column["bbox"], [*flat.min().tolist(), *flat.max().tolist()])
    save(tmp_path / "b.geoparquet", cloud())
    geo = json.loads(pq.read_schema(tmp_path / "b.geoparquet").metadata[b"geo"])
    assert geo["columns"]["geometry"]["geometry_types"] == ["Point Z"]
    assert len(geo["columns"]["geometry"]["bbox"]) == 6


def test_points_without_coordinates_are_refused_by_geoparquet(tmp_path: Path) -> None:
    with pytest.raises(TileError, match="a tile has no column x nor y, which GeoParquet needs"):
        save(tmp_path / "a.geoparquet", cloud().drop(columns=["x", "y"]))
    with pytest.raises(TileError, match="a tile has a column 'geometry'"):
        save(tmp_path / "a.geoparquet", cloud(geometry=1))


@pytest.mark.parametrize("name", ["a.laz", "a.geoparquet", "a.csv"])
def test_tiles_in_two_coordinate_systems_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(TileError, match="a tile in EPSG:4326 given, the others are in EPSG:32740"):
        save(
            tmp_path / name,
            georeferenced(cloud(), epsg=32740),
            cloud(),
            georeferenced(cloud(), epsg=4326),
        )


def test_an_unknown_coordinate_system_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TileError, match="epsg: 1 is not a coordinate reference system"):
        save(tmp_path / "a.laz", georeferenced(cloud(), epsg=1))


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".geoparquet", ".las", ".laz"])
def test_points_by_pair_go_in_a_file_for_each(suffix: str, tmp_path: Path) -> None:
    names = ["left_right", "../../etc/passwd"]
    first = georeferenced(cloud(4, global_id=[0, 1, 0, 1]), source_pc_names=names)
    second = georeferenced(cloud(2, global_id=[0, 0]), source_pc_names=names)
    paths = save(tmp_path / f"cloud{suffix}", first, second, cloud(0), by_pair=True)
    odd = safe_name(names[1])
    assert sorted(tmp_path.iterdir()) == sorted(paths)
    assert {each.name for each in paths} == {
        f"cloud_{each}{suffix}" for each in ("left_right", odd)
    }
    counts = {each.name: len(read(each)) for each in paths}
    assert counts == {f"cloud_left_right{suffix}": 4, f"cloud_{odd}{suffix}": 2}


def read(path: Path) -> Any:
    if path.suffix == ".csv":
        return pd.read_csv(path)
    return pd.read_parquet(path) if "parquet" in path.suffix else laspy.read(path).points


@pytest.mark.parametrize(
    ("values", "names"),
    [([3, 12], ["3", "12"]), ([3.0, 12.0], ["3", "12"]), (["a_b", "c"], ["a_b", "c"])],
)
def test_a_pair_without_a_name_is_called_by_its_value(
    values: list[Any], names: list[str], tmp_path: Path
) -> None:
    paths = save(tmp_path / "cloud.csv", cloud(2, global_id=values), by_pair=True)
    assert {each.name for each in paths} == {f"cloud_{name}.csv" for name in names}


@pytest.mark.parametrize(
    ("tile", "reason"),
    [
        (cloud(), "a tile has no column 'global_id'"),
        (cloud(global_id=[0, 1, np.nan, 1]), "some points have no value in 'global_id'"),
        (
            georeferenced(cloud(global_id=[0, 1, 2, 1]), source_pc_names=["a", "b"]),
            "global_id 2 given, source_pc_names has 2 names",
        ),
        (
            georeferenced(cloud(global_id=[-1, 1, 0, 1]), source_pc_names=["a", "b"]),
            "global_id -1 given, source_pc_names has 2 names",
        ),
    ],
)
def test_points_of_no_pair_are_refused(tile: pd.DataFrame, reason: str, tmp_path: Path) -> None:
    with pytest.raises(TileError, match=reason):
        save(tmp_path / "cloud.csv", tile, by_pair=True)


def test_parts_that_are_not_by_pair_are_not_resumed_by_pair(tmp_path: Path) -> None:
    dataset = CarsDataset("points")
    dataset.create_grid(1, 1, 1, 1)
    path = tmp_path / "cloud.csv"
    descriptor = dataset.generate_descriptor(None, path)
    dataset.run_save(cloud(global_id=1), path, descriptor=descriptor, position=(0, 0))
    descriptor.suspend()
    with pytest.raises(TileError, match="cannot resume: save_points_cloud_by_pair has changed"):
        dataset.generate_descriptor(None, path, save_points_cloud_by_pair=True, resume=True)


def test_different_names_stay_different_when_made_safe() -> None:
    names = ["a/b", "a_b", "a\\b", "..", "", "é", "x" * 300, ".hidden", "a b", "a-b.c"]
    safe = [safe_name(name) for name in names]
    assert len(set(safe)) == len(names)
    assert all(Path(each).name == each and len(each) < 100 for each in safe)
    assert (safe[1], safe[-1]) == ("a_b", "a-b.c")
