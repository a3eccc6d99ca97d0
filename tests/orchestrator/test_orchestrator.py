"""Products made tile by tile, in every mode."""

import json
import logging
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
from batuta.datasets import CarsDataset, CarsDict, fill_dataset
from batuta.errors import ConfigurationError
from batuta.orchestrator import (
    Event,
    Orchestrator,
    Progress,
    RunEnded,
    RunStarted,
    TileDone,
    TileFailed,
    TileOutcome,
    TileRetried,
    TilesFailedError,
    flatten_object,
    update_saving_infos,
)
from tests.cluster import functions
from tests.orchestrator.program import COLS, ROWS, fill_maps, image, new_grid, play

CONFIGURATIONS: dict[str, dict[str, Any]] = {
    "sequential": {"mode": "sequential"},
    "multiprocessing": {"mode": "multiprocessing"},
    "unfused-in-memory": {
        "mode": "multiprocessing",
        "factorize_tasks": False,
        "dump_to_disk": False,
        "max_tasks_per_worker": 100,
    },
    "spawn": {"mode": "multiprocessing", "mp_mode": "spawn", "max_tasks_per_worker": 100},
    "auto": {"mode": "auto"},
}
PRODUCTS = ("map.tif", "mask.tif", "points.parquet", "points.csv")

pytestmark = pytest.mark.filterwarnings(
    "ignore::rasterio.errors.NotGeoreferencedWarning"  # these images lie nowhere
)


class Listener:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def on_event(self, event: Event) -> None:
        self.events.append(event)

    def of(self, kind: type[Any]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]

    @property
    def progress(self) -> Progress:
        progress = Progress()
        for event in self.events:
            progress = progress.after(event)
        return progress


def raster(path: Path, band: int = 1) -> Any:
    with rasterio.open(path) as dataset:
        return dataset.read(band)


def manifest(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Path(f"{path}.manifest.json").read_text())
    return found


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the sequential mode makes."""
    folder = tmp_path_factory.mktemp("reference")
    play({"mode": "sequential"}, folder)
    return folder


@pytest.mark.parametrize("mode", CONFIGURATIONS)
def test_every_mode_gives_the_same_bytes(mode: str, reference: Path, tmp_path: Path) -> None:
    listener = Listener()
    play(CONFIGURATIONS[mode], tmp_path, observers=[listener])
    for name in PRODUCTS:
        assert (tmp_path / name).read_bytes() == (reference / name).read_bytes(), name
        assert manifest(tmp_path / name)["complete"]
    assert listener.events[0] == RunStarted(48)
    assert listener.events[-1] == RunEnded(48, 0, 48)
    assert listener.progress == Progress(48, 48)
    assert not list(tmp_path.glob("tmp_save_disk*"))
    assert not list(tmp_path.glob(".*"))


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


@pytest.mark.parametrize("how", ["raise", "die", "hang"])
def test_a_failing_tile_is_retried_then_named_and_the_rest_is_saved(
    how: str, tmp_path: Path
) -> None:
    listener = Listener()
    conf: dict[str, Any] = {"mode": "multiprocessing", "max_tasks_per_worker": 100}
    if how == "hang":
        conf["per_job_timeout"] = 4  # more than a loaded machine needs for the other tiles
    with pytest.raises(TilesFailedError) as caught:
        play(conf, tmp_path, {(1, 2): how}, [listener])
    root_cause = {"raise": "no light", "die": "signal 9", "hang": "more than 4 s"}[how]
    places = [(each.dataset_name, each.row, each.col) for each in caught.value.failures]
    assert places == [("disparity", 1, 2), ("points", 1, 2)]
    assert all(root_cause in each.cause for each in caught.value.failures)
    assert "2 of 48 tiles failed" in str(caught.value)
    assert [(event.row, event.col) for event in listener.of(TileRetried)] == [(1, 2), (1, 2)]
    assert len(listener.of(TileFailed)) == 2
    assert listener.progress == Progress(46, 48)
    expected = image() * 2
    expected[128:256, 256:384] = -1
    np.testing.assert_array_equal(raster(tmp_path / "map.tif"), expected)
    account = manifest(tmp_path / "points.csv")
    assert account["tiles"] == {
        "expected": 24,
        "saved": 23,
        "kept": 0,
        "empty": 0,
        "without_tag": 0,
        "failed": 1,
    }
    assert not account["complete"]
    assert (account["failed"][0]["row"], account["failed"][0]["col"]) == (1, 2)
    assert root_cause in account["failed"][0]["cause"]


def test_a_tile_that_fails_once_is_there_in_the_end(tmp_path: Path) -> None:
    listener = Listener()
    with Orchestrator({"mode": "multiprocessing"}, tmp_path, observers=[listener]) as orchestrator:
        numbers = one_tile("dict")
        task = orchestrator.cluster.create_task(_fragile)
        numbers[0, 0] = task(str(tmp_path / "marker"))
        orchestrator.add_to_save_lists(tmp_path / "numbers.json", "", numbers)
    assert json.loads((tmp_path / "numbers.json").read_text())[0]["data"] == {"value": 7}
    assert listener.progress == Progress(1, 1)
    assert len(listener.of(TileRetried)) == 1


def _fragile(marker: str) -> CarsDict:
    return CarsDict({"value": functions.fail_first(marker, 7)})


def one_tile(dataset_type: str) -> CarsDataset:
    dataset = CarsDataset(dataset_type, name="one")
    dataset.create_grid(4, 4, 4, 4)
    return dataset


def test_failures_cross_process_borders_whole() -> None:
    import pickle  # noqa: PLC0415 - the only test that needs it

    from batuta.orchestrator import TileFailure  # noqa: PLC0415

    error = TilesFailedError([TileFailure("a", 1, 2, "why")], 5)
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301 - pickled here
    assert (copy.failures, str(copy)) == (error.failures, str(error))


def declare_and_divide_by_zero(out_dir: Path) -> None:
    with Orchestrator({"mode": "multiprocessing"}, out_dir) as orchestrator:
        maps = new_grid()
        fill_maps(orchestrator, maps, {})
        orchestrator.add_to_save_lists(out_dir / "map.tif", "disparity", maps)
        raise ZeroDivisionError


def test_an_exception_in_the_block_computes_nothing_and_goes_on_up(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        declare_and_divide_by_zero(tmp_path)
    assert not (tmp_path / "map.tif").exists()
    assert not list(tmp_path.glob("tmp_save_disk*"))


def test_replaced_tiles_are_data_that_later_tasks_take(tmp_path: Path) -> None:
    with Orchestrator({"mode": "multiprocessing"}, tmp_path) as orchestrator:
        maps = new_grid()
        fill_maps(orchestrator, maps, {})
        orchestrator.add_to_replace_lists(maps, "maps")
        orchestrator.breakpoint()
        assert isinstance(maps[0, 0], xr.Dataset)
        assert maps[0, 0]["disparity"].to_numpy().flags.owndata
        orchestrator.add_to_save_lists(tmp_path / "map.tif", "disparity", maps)
        totals = one_tile("dict")
        totals[0, 0] = orchestrator.cluster.create_task(_total)(maps)
        orchestrator.add_to_replace_lists(totals)
    assert totals[0, 0]["pixels"] == sum(maps[each]["disparity"].size for each in maps.positions())
    np.testing.assert_array_equal(raster(tmp_path / "map.tif"), image() * 2)


def _total(maps: CarsDataset) -> CarsDict:
    return CarsDict({"pixels": sum(maps[each]["disparity"].size for each in maps.positions())})


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


def two_tiles() -> CarsDataset:
    dataset = CarsDataset("dict", name="two")
    dataset.create_grid(2, 1, 1, 1)
    return dataset


def refuse_two(_: Orchestrator, tile: CarsDict) -> CarsDict:
    if tile["a"] == 2:
        raise ValueError("two is not wanted")
    return tile


def test_a_replaced_tile_that_a_file_alone_refuses_is_there(tmp_path: Path) -> None:
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
    listener = Listener()
    with Orchestrator({"mode": "multiprocessing"}, tmp_path, observers=[listener]) as orchestrator:
        done = one_tile("dict")
        done[0, 0] = orchestrator.cluster.create_task(functions.count_call)(str(tmp_path), "ran")
        orchestrator.add_to_compute_lists(done, "side effects")
    assert (tmp_path / "ran").read_text() == "x"
    assert listener.of(TileDone) == [TileDone("side effects", 0, 0, TileOutcome.COMPUTED)]
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


def test_a_missing_tag_is_warned_of_once_unless_it_is_optional(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with (
        caplog.at_level(logging.WARNING),
        Orchestrator({"mode": "sequential"}, tmp_path) as orchestrator,
    ):
        maps = new_grid()
        fill_maps(orchestrator, maps, {})
        orchestrator.add_to_save_lists(tmp_path / "colour.tif", "colour", maps)
        orchestrator.add_to_save_lists(tmp_path / "nir.tif", "nir", maps, optional_data=True)
    messages = [record.message for record in caplog.records]
    assert messages == ["disparity: no 'colour' in some tiles, colour.tif will lack them"]


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


def test_a_final_function_has_the_last_word_and_reads_what_is_saved(tmp_path: Path) -> None:
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


def test_not_launched_it_checks_declares_and_computes_nothing(tmp_path: Path) -> None:
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


def hang_twice(out_dir: Path) -> None:
    conf = {"mode": "multiprocessing", "task_timeout": 2, "nb_workers": 1}
    with Orchestrator(conf, out_dir) as orchestrator:
        done = CarsDataset("dict", name="hung")
        done.create_grid(2, 1, 1, 1)
        done[0, 0] = orchestrator.cluster.create_task(_hang_once)(str(out_dir / "marker"))
        done[0, 1] = orchestrator.cluster.create_task(functions.hang)()
        orchestrator.add_to_compute_lists(done)


def test_a_hung_cluster_is_restarted_and_the_remaining_tiles_run_again(tmp_path: Path) -> None:
    with pytest.raises(TilesFailedError) as caught:
        hang_twice(tmp_path)
    assert [str(each) for each in caught.value.failures] == [
        "hung[0, 1]: ClusterStalledError: no task has ended for 2 s (task_timeout)"
    ]


def _hang_once(marker: str) -> None:
    if not Path(marker).exists():
        Path(marker).touch()
        functions.hang()


def test_importing_it_loads_no_dask_messaging_web_framework_or_plots() -> None:
    script = """
import sys, batuta.orchestrator
heavy = {"dask", "distributed", "nats", "fastapi", "starlette", "matplotlib", "sqlalchemy"}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)
