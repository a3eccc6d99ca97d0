"""Products made tile by tile, in every mode."""

import json
import logging
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import rasterio
import xarray as xr
import yaml

from batuta.cluster import ClusterError
from batuta.cluster.config_keys import keys_of
from batuta.cluster.modes import cluster_class
from batuta.datasets import CarsDataset, CarsDict, fill_dataset
from batuta.errors import ConfigurationError
from batuta.orchestrator import (
    MissingVariableError,
    Orchestrator,
    TileDone,
    TileOutcome,
    TilesFailedError,
    flatten_object,
    update_saving_infos,
)
from batuta.orchestrator.documents import INDEX_FILE
from tests.cluster import functions
from tests.orchestrator.inspection import EventRecorder, manifest, one_tile, raster, two_tiles
from tests.orchestrator.map_program import COLS, ROWS, fill_maps, image, new_grid

pytestmark = pytest.mark.filterwarnings(
    "ignore::rasterio.errors.NotGeoreferencedWarning"  # these images lie nowhere
)


def test_the_map_is_the_image_s_with_overlaps_cropped(reference: Path) -> None:
    np.testing.assert_array_equal(raster(reference / "map.tif"), image() * 2)
    with rasterio.open(reference / "map.tif") as dataset:
        assert (dataset.height, dataset.width, dataset.nodata) == (ROWS, COLS, -1)
        assert dataset.dtypes == ("float32",)
    with rasterio.open(reference / "mask.tif") as dataset:
        assert (dataset.dtypes, dataset.nodata) == (("uint8",), 255)


def test_points_are_in_the_order_of_the_grid(reference: Path) -> None:
    found = pd.read_parquet(reference / "points.parquet")
    expected = [(row, col) for row in range(4) for col in range(6) for _ in range(2)]
    assert list(zip(found["row"], found["col"], strict=True)) == expected
    pd.testing.assert_frame_equal(pd.read_csv(reference / "points.csv"), found)


def test_failures_can_be_pickled() -> None:
    import pickle  # noqa: PLC0415 - the only test that needs it

    from batuta.orchestrator import TileFailure  # noqa: PLC0415

    error = TilesFailedError([TileFailure("a", 1, 2, "why", ValueError("why"))], 5)
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301 - pickled here
    assert (copy.failures, str(copy)) == (error.failures, str(error))


@pytest.mark.parametrize(
    "conf", [{"mode": "multiprocessing"}, {"mode": "sequential", "resume": True}]
)
def test_a_replaced_tile_that_failed_is_none(conf: dict[str, Any], tmp_path: Path) -> None:
    conf = conf | {"on_tile_failure": "continue"}
    with Orchestrator(conf, tmp_path) as orchestrator:
        numbers, others = two_tiles(), two_tiles()
        create = orchestrator.cluster.create_task
        numbers[0, 0], numbers[0, 1] = (
            create(functions.fail)("no light"),
            create(CarsDict)({"a": 1}),
        )
        others[0, 0], others[0, 1] = create(CarsDict)({"a": 2}), create(CarsDict)({"a": 3})
        others.final_function = refuse_two
        orchestrator.add_to_replace_lists(numbers)
        orchestrator.add_to_replace_lists(others)
        orchestrator.add_to_save_lists(tmp_path / "others.json", "", others)
        orchestrator.breakpoint()
        assert (numbers[0, 0], numbers[0, 1].data) == (None, {"a": 1})
        assert (others[0, 0], others[0, 1].data) == (None, {"a": 3})
        assert len(orchestrator.failures) == 2


def refuse_two(_: Orchestrator, tile: CarsDict) -> CarsDict:
    if tile["a"] == 2:
        raise ValueError("two is not wanted")
    return tile


def test_a_tile_that_only_its_file_refuses_is_still_replaced(tmp_path: Path) -> None:
    conf = {"mode": "multiprocessing", "on_tile_failure": "continue"}
    with Orchestrator(conf, tmp_path) as orchestrator:
        dataset = one_tile("arrays")
        dataset[0, 0] = orchestrator.cluster.create_task(three_by_three)()
        orchestrator.add_to_replace_lists(dataset)
        orchestrator.add_to_save_lists(tmp_path / "z.tif", "z", dataset)
        orchestrator.breakpoint()
        assert len(orchestrator.failures) == 1
        assert dataset[0, 0]["z"].shape == (3, 3)


def three_by_three() -> xr.Dataset:
    return xr.Dataset({"z": (("row", "col"), np.ones((3, 3)))})


@pytest.mark.parametrize(
    ("conf", "sums"), [({"mode": "sequential"}, [1, 2]), ({"mode": "multiprocessing"}, [1, 1])]
)
def test_a_task_that_changes_what_it_is_given_changes_it_for_others_in_sequential_alone(
    conf: dict[str, Any], sums: list[int]
) -> None:
    with Orchestrator(conf) as orchestrator:
        totals = two_tiles()
        zeros = orchestrator.cluster.create_task(np.zeros)(1)
        for _, col in totals.positions():
            totals[0, col] = orchestrator.cluster.create_task(add_one_in_place)(zeros)
        orchestrator.add_to_replace_lists(totals)
        orchestrator.breakpoint()
        assert [totals[0, col]["sum"] for col in (0, 1)] == sums


def add_one_in_place(values: Any) -> CarsDict:
    values += 1
    return CarsDict({"sum": int(values.sum())})


def test_computed_tiles_stay_delayed_and_their_tasks_run(tmp_path: Path) -> None:
    recorder = EventRecorder()
    with Orchestrator({"mode": "multiprocessing"}, tmp_path, observers=[recorder]) as orchestrator:
        done = one_tile("dict")
        done[0, 0] = orchestrator.cluster.create_task(functions.count_call)(str(tmp_path), "ran")
        orchestrator.add_to_compute_lists(done, "side effects")
    assert (tmp_path / "ran").read_text() == "x"
    (told,) = recorder.of(TileDone)
    assert (told.dataset_name, told.row, told.col) == ("side effects", 0, 0)
    assert told.outcome is TileOutcome.COMPUTED
    assert isinstance(done[0, 0], orchestrator.cluster.delayed_type)


@pytest.mark.parametrize("mode", ["sequential", "multiprocessing"])
def test_a_tile_that_is_none_is_empty_not_failed(mode: str, tmp_path: Path) -> None:
    with Orchestrator({"mode": mode}, tmp_path) as orchestrator:
        maps = new_grid()
        fill_maps(orchestrator, maps, {})
        maps[0, 0] = None
        maps[0, 1] = orchestrator.cluster.create_task(functions.nothing)()
        orchestrator.add_to_save_lists(tmp_path / "map.tif", "disparity", maps, nodata=-1)
    account = manifest(tmp_path / "map.tif")
    assert (account["tiles"]["saved"], account["tiles"]["empty"]) == (22, 2)
    assert account["complete"]
    assert (raster(tmp_path / "map.tif")[:128, :256] == -1).all()


def layers(names: str) -> xr.Dataset:
    """Return a tile with a variable for each letter."""
    return xr.Dataset({name: (("row", "col"), np.ones((2, 2))) for name in names})


def save_layers(
    out_dir: Path,
    tiles: tuple[str, ...],
    suffix: str,
    conf: dict[str, Any],
    *,
    optional: bool = False,
) -> None:
    with Orchestrator(conf, out_dir) as orchestrator:
        dataset = CarsDataset("arrays", name="layers")
        dataset.create_grid(2 * len(tiles), 2, 2, 2)
        for col, names in enumerate(tiles):
            dataset[0, col] = orchestrator.cluster.create_task(layers)(names)
        orchestrator.add_to_save_lists(out_dir / f"v{suffix}", "v", dataset)
        orchestrator.add_to_save_lists(out_dir / f"w{suffix}", "w", dataset, optional_data=optional)


@pytest.mark.parametrize("suffix", [".tif", ".zarr"])
def test_a_variable_that_no_tile_has_is_an_error_and_no_file_is_promised(
    suffix: str, tmp_path: Path
) -> None:
    conf = {"mode": "sequential", "resume": True}
    for others in (" (they have 'u', 'v')", ""):  # the second time, tiles are not computed again
        with pytest.raises(MissingVariableError) as caught:
            save_layers(tmp_path, ("uv", "v"), suffix, conf)
        assert str(caught.value) == f"layers: no tile has 'w'{others}: no w{suffix}"
        copy = pickle.loads(pickle.dumps(caught.value))  # noqa: S301 - made here
        assert str(copy) == str(caught.value)
        assert manifest(tmp_path / f"v{suffix}")["complete"]
        account = manifest(tmp_path / f"w{suffix}")
        assert (account["complete"], account["files"]) == (False, [])
        assert not (tmp_path / f"w{suffix}").exists()
    save_layers(tmp_path, ("v", "v"), suffix, {"mode": "sequential"}, optional=True)
    assert manifest(tmp_path / f"w{suffix}")["complete"]


@pytest.mark.parametrize("suffix", [".tif", ".zarr"])
@pytest.mark.parametrize("optional", [False, True])
def test_tiles_without_a_variable_that_others_have_are_in_the_manifest(
    suffix: str, optional: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    conf = {"mode": "sequential"}
    save_layers(tmp_path, ("vw", "v", "vu"), suffix, conf, optional=optional)
    assert [each.message for each in caplog.records if each.levelname == "WARNING"] == (
        []
        if optional
        else [f"layers[0, 1]: no variable 'w' (it has 'v'); w{suffix} will lack such tiles"]
    )
    account = manifest(tmp_path / f"w{suffix}")
    assert account["without_tag"] == [{"row": 0, "col": 1}, {"row": 0, "col": 2}]
    assert (account["tiles"]["without_tag"], account["complete"]) == (2, True)


def save_one_tile(tile: xr.Dataset, path: Path) -> None:
    with Orchestrator({"mode": "sequential"}) as orchestrator:
        dataset = one_tile("arrays")
        dataset[0, 0] = tile
        orchestrator.add_to_save_lists(path, "z", dataset)


def test_a_tile_that_does_not_fit_is_a_failure_that_says_why(tmp_path: Path) -> None:
    tile = xr.Dataset({"z": (("row", "col"), np.ones((3, 3)))})
    with pytest.raises(TilesFailedError, match="a tile of 3 x 3 pixels given, its window is of 4"):
        save_one_tile(tile, tmp_path / "z.tif")
    assert manifest(tmp_path / "z.tif")["tiles"]["failed"] == 1


def test_a_final_function_decides_what_is_saved_and_reads_what_was(tmp_path: Path) -> None:
    seen: list[Any] = []

    def final(orchestrator: Orchestrator, tile: xr.Dataset) -> xr.Dataset:
        seen.append(orchestrator.get_data("z", tile))
        return tile + 1 if seen[-1] is None else (tile + seen[-1]).assign_attrs(tile.attrs)

    with Orchestrator({"mode": "sequential"}, tmp_path) as orchestrator:
        dataset = CarsDataset("arrays", name="twice")
        dataset.create_grid(4, 4, 4, 2)
        (info,) = orchestrator.get_saving_infos([dataset])
        for col in range(2):
            tile = xr.Dataset({"z": (("row", "col"), np.full((4, 2), 5.0))})
            window = {"row_min": 0, "row_max": 4, "col_min": 0, "col_max": 2}  # the same one
            fill_dataset(tile, saving_info=update_saving_infos(info, 0, col), window=window)
            dataset[0, col] = tile
        dataset.final_function = final
        orchestrator.add_to_save_lists(tmp_path / "z.tif", "z", dataset)
    assert seen[0] is None
    np.testing.assert_array_equal(seen[1], np.full((4, 2), 6))
    np.testing.assert_array_equal(raster(tmp_path / "z.tif")[:, :2], np.full((4, 2), 11))


def test_saving_infos_are_the_same_before_and_after_registering(tmp_path: Path) -> None:
    with Orchestrator({"mode": "sequential"}, tmp_path) as orchestrator:
        first, second = one_tile("dict"), one_tile("dict")
        before = orchestrator.get_saving_infos([first, second])
        orchestrator.add_to_compute_lists(second)
        orchestrator.breakpoint()
        assert orchestrator.get_saving_infos([first, second]) == before
        assert before[0] != before[1]
    assert update_saving_infos(before[0], row=1, col=2) == {
        **before[0],
        "cars_ds_row": 1,
        "cars_ds_col": 2,
    }
    assert len(before[0]) == 1


def test_delayed_objects_are_listed_row_by_row_without_holes() -> None:
    grid = CarsDataset("dict")
    grid.create_grid(2, 2, 1, 1)
    grid[0, 1], grid[1, 0] = 5, 6
    assert flatten_object([grid, grid], int) == [5, 6, 5, 6]


def test_out_info_is_merged_deeply_and_saved(tmp_path: Path) -> None:
    for name, read in (("out.json", json.loads), ("out.yaml", yaml.safe_load)):
        with Orchestrator(
            {"mode": "sequential"}, tmp_path, out_json_path=tmp_path / name
        ) as orchestrator:
            orchestrator.update_out_info({"a": {"b": 1}, "c": np.float32(2)})
            orchestrator.update_out_info({"a": {"d": (1, 2)}, "c": 3})
        assert read((tmp_path / name).read_text()) == {"a": {"b": 1, "d": [1, 2]}, "c": 3}


def test_folders_to_clean_are_removed_in_the_end(tmp_path: Path) -> None:
    folder = tmp_path / "tmp"
    folder.mkdir()
    with Orchestrator({"mode": "sequential"}, tmp_path / "out") as orchestrator:
        orchestrator.add_to_clean(folder)
        assert folder.exists()
    assert not folder.exists()


@pytest.mark.parametrize("mode", ["sequential", "multiprocessing"])
def test_paths_are_those_of_the_folder_in_which_they_were_given(
    mode: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "scratch").mkdir()
    monkeypatch.chdir(tmp_path)
    with Orchestrator({"mode": mode}, "out", out_json_path="out/info.json") as orchestrator:
        orchestrator.add_to_clean("scratch")
        orchestrator.update_index({"maps": {"map": "map.tif"}})
        maps = new_grid()
        fill_maps(orchestrator, maps, {})
        orchestrator.add_to_save_lists("out/map.tif", "disparity", maps)
        os.chdir(tmp_path / "elsewhere")
    made = {path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*")}
    assert {"map.tif", "map.tif.manifest.json", "info.json", f"maps/{INDEX_FILE}"} <= made
    assert list((tmp_path / "elsewhere").iterdir()) == []
    assert not (tmp_path / "scratch").exists()


@pytest.mark.parametrize("mode", ["sequential", "multiprocessing", "local_dask", "slurm_dask"])
def test_the_configuration_in_force_has_every_key_of_its_mode_and_is_accepted_again(
    mode: str,
) -> None:
    given = {"mode": mode, "account": "observatory"} if mode == "slurm_dask" else {"mode": mode}
    with Orchestrator(given, launch_worker=False) as orchestrator:
        found = orchestrator.get_conf()
    assert found.keys() == keys_of(cluster_class(mode).config_model).keys()
    with Orchestrator(found, launch_worker=False) as orchestrator:
        assert orchestrator.get_conf() == found


def test_without_launch_worker_tasks_are_checked_and_not_computed(tmp_path: Path) -> None:
    out_dir = tmp_path / "out"
    with Orchestrator({"mode": "multiprocessing"}, out_dir, launch_worker=False) as orchestrator:
        assert orchestrator.get_conf()["nb_workers"] == 2
        maps = new_grid()
        fill_maps(orchestrator, maps, {})
        orchestrator.add_to_save_lists(out_dir / "map.tif", "disparity", maps)
        with pytest.raises(ClusterError, match="launch_worker=False"):
            orchestrator.cluster.start_tasks([maps[0, 0]])
    assert not out_dir.exists()


def test_every_wrong_argument_of_an_output_is_named(tmp_path: Path) -> None:
    with Orchestrator({"mode": "sequential"}) as orchestrator:
        with pytest.raises(ConfigurationError) as caught:
            orchestrator.add_to_save_lists(
                "map.png", "z", one_tile("arrays"), dtype="text", save_points_cloud_by_pair=True
            )
        assert caught.value.problems == (
            "file_name: 'map.png' given, a name ending in .tif or .tiff or .zarr expected",
            "dtype: 'text' given, a data type of numbers expected",
            "save_points_cloud_by_pair: True is for points, not for arrays",
        )
        with pytest.raises(ConfigurationError, match="cars_ds: a list given"):
            orchestrator.add_to_save_lists("map.tif", "z", [])  # type: ignore[arg-type]
        orchestrator.add_to_save_lists(tmp_path / "z.tif", "z", one_tile("arrays"))
        with pytest.raises(ConfigurationError, match="already the output of another call"):
            orchestrator.add_to_save_lists(str(tmp_path / "z.tif"), "z", one_tile("arrays"))


def test_a_wrong_configuration_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="did you mean nb_workers"):
        Orchestrator({"mode": "multiprocessing", "nb_worker": 2}, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_logs_of_workers_are_kept_with_process_and_thread(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="batuta")
    with Orchestrator({"mode": "multiprocessing"}, tmp_path) as orchestrator:
        done = one_tile("dict")
        done[0, 0] = orchestrator.cluster.create_task(functions.warn)()
        orchestrator.add_to_compute_lists(done)
        logging.getLogger("batuta.test").info("from the main process")
    (log,) = (tmp_path / "workers_log").iterdir()
    process = log.stem.removeprefix("worker_")
    assert f"[process {process}, thread " in log.read_text()
    assert "look at this" in log.read_text()
    assert "from the main process" in (tmp_path / "batuta.log").read_text()


def test_importing_it_loads_no_dask_messaging_web_framework_or_plots() -> None:
    script = """
import sys, batuta.orchestrator
heavy = {"dask", "distributed", "nats", "fastapi", "matplotlib", "pydantic", "sqlalchemy"}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)
