"""The orchestrator behaves in the same way in every mode."""

import json
import pickle
import signal
import traceback
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from batuta.cluster import ClusterError
from batuta.cluster.dask.engine import worker_loss
from batuta.datasets import CarsDataset, CarsDict
from batuta.orchestrator import (
    Orchestrator,
    Progress,
    RunEnded,
    RunStarted,
    TileFailed,
    TileFailure,
    TileKept,
    TileRetried,
    TilesFailedError,
)
from tests.cluster import functions
from tests.orchestrator import resumable_program
from tests.orchestrator.inspection import PRODUCTS, EventRecorder, manifest, one_tile, raster
from tests.orchestrator.map_program import TILE, fill_maps, image, new_grid, run_program
from tests.orchestrator.resumable_program import TILES
from tests.orchestrator.resume_runs import (
    contents,
    journaled_tiles,
    read_and_remove,
    run_in_subprocess,
)
from tests.support.dask_clusters import DASK_MODES, light_configuration

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


pytestmark = pytest.mark.filterwarnings(
    "ignore::rasterio.errors.NotGeoreferencedWarning"  # these images lie nowhere
)


@pytest.fixture(params=["multiprocessing", *DASK_MODES])
def conf(request: pytest.FixtureRequest) -> dict[str, Any]:
    """The configuration of each mode that computes elsewhere."""
    if request.param == "multiprocessing":
        return {"mode": "multiprocessing", "max_tasks_per_worker": 100}
    return light_configuration(request.param, request)


@pytest.mark.parametrize("mode", [*CONFIGURATIONS, *DASK_MODES])
def test_every_mode_gives_the_same_bytes(
    mode: str, reference: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    recorder = EventRecorder()
    conf = CONFIGURATIONS.get(mode) or light_configuration(mode, request)
    run_program(conf, tmp_path, observers=[recorder])
    for name in PRODUCTS:
        assert (tmp_path / name).read_bytes() == (reference / name).read_bytes(), name
        assert manifest(tmp_path / name)["complete"]
    started = recorder.events[0]
    assert isinstance(started, RunStarted)
    assert started.total == 48
    assert [(each.dataset_name, each.rows, each.cols) for each in started.layouts] == [
        ("disparity", 4, 6),
        ("points", 4, 6),
    ]
    assert recorder.events[-1] == RunEnded(48, 0, 48)
    assert recorder.progress == Progress(48, 48)
    assert not list(tmp_path.glob("tmp_save_disk*"))
    assert not list(tmp_path.glob(".*"))


ROOT_CAUSES = {
    "raise": ("no light", "no light"),
    "die": ("signal 9", "workers died while running it"),
    "hang": ("more than 8 s", "no task has ended for 8 s"),
}
"""With multiprocessing, and on dask."""


FAILING = {
    "raises": {(0, 1): "raise"},
    "raises or dies": {(0, 1): "raise", (1, 2): "die"},
    "hangs": {(1, 2): "hang"},
}
WHERE_FAILING = [
    ("multiprocessing", "raises or dies"),
    ("multiprocessing", "hangs"),
    ("local_dask", "raises or dies"),
    ("local_dask", "hangs"),
    ("dask", "raises or dies"),
    ("slurm_dask", "raises or dies"),
    ("pbs_dask", "raises"),
]
"""All of it where it differs. Batch jobs are alike but for the commands that submit them; where one
hangs, its cluster is restarted: see below. Workers of an existing cluster are not killed: one that
hangs continues."""


@pytest.mark.parametrize(("conf", "kind"), WHERE_FAILING, indirect=["conf"])
def test_failing_tiles_are_retried_then_named_and_the_rest_is_saved(
    kind: str, conf: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_loss, "MAX_DEATHS", 1)  # fewer workers to start
    recorder = EventRecorder()
    on_dask = conf["mode"] in DASK_MODES
    failing = FAILING[kind]
    if kind == "hangs":  # more than a loaded machine needs for the other tiles
        conf = {**conf, ("task_timeout" if on_dask else "per_job_timeout"): 8}
    with pytest.raises(TilesFailedError) as caught:
        run_program(conf, tmp_path, failing, [recorder])
    found = {(each.dataset_name, each.row, each.col): each for each in caught.value.failures}
    assert set(found) == {(name, *place) for name in ("disparity", "points") for place in failing}
    assert f"{len(found)} of 48 tiles failed" in str(caught.value)
    for (_, row, col), failure in found.items():
        assert ROOT_CAUSES[failing[row, col]][on_dask] in failure.reason
    first = caught.value.failures[0]
    assert caught.value.__cause__ is first.cause
    shown = "".join(traceback.format_exception(caught.value))
    assert not first.traceback or f"In its worker:\n{first.traceback}" in shown
    for place, how in failing.items():
        check_cause(caught.value, found["disparity", *place], raised=how == "raise")
    retried = Counter((event.row, event.col) for event in recorder.of(TileRetried))
    assert retried == dict.fromkeys(failing, 2)
    assert len(recorder.of(TileFailed)) == len(found)
    assert recorder.progress == Progress(48 - len(found), 48)
    expected = image() * 2
    for row, col in failing:
        expected[row * TILE : (row + 1) * TILE, col * TILE : (col + 1) * TILE] = -1
    np.testing.assert_array_equal(raster(tmp_path / "map.tif"), expected)
    account = manifest(tmp_path / "points.csv")
    assert account["tiles"] == {
        "expected": 24,
        "saved": 24 - len(failing),
        "kept": 0,
        "empty": 0,
        "without_tag": 0,
        "failed": len(failing),
    }
    assert not account["complete"]
    assert {(each["row"], each["col"]) for each in account["failed"]} == set(failing)
    for each in account["failed"]:
        failure = found["points", each["row"], each["col"]]
        assert ROOT_CAUSES[failing[each["row"], each["col"]]][on_dask] in each["cause"]
        assert account["tracebacks"].get(each["cause"], "") == failure.traceback


def check_cause(error: TilesFailedError, failure: TileFailure, *, raised: bool) -> None:
    """Check that a failure has the exception of the task, with the line of its function."""
    assert ("map_program.py" in failure.traceback) is raised
    assert isinstance(failure.cause, ValueError if raised else ClusterError)
    copies = {(each.dataset_name, each.row, each.col): each for each in _copied(error).failures}
    copy = copies[failure.dataset_name, failure.row, failure.col]
    assert (type(copy.cause), copy) == (type(failure.cause), failure)


def _copied(error: TilesFailedError) -> TilesFailedError:
    copy: TilesFailedError = pickle.loads(pickle.dumps(error))  # noqa: S301 - made here
    return copy


def declare_and_divide_by_zero(conf: dict[str, Any], out_dir: Path) -> None:
    with Orchestrator(conf, out_dir) as orchestrator:
        maps = new_grid()
        fill_maps(orchestrator, maps, {})
        orchestrator.add_to_save_lists(out_dir / "map.tif", "disparity", maps)
        raise ZeroDivisionError


def test_an_exception_in_the_block_computes_nothing_and_propagates(
    conf: dict[str, Any], tmp_path: Path
) -> None:
    with pytest.raises(ZeroDivisionError):
        declare_and_divide_by_zero(conf, tmp_path)
    assert not (tmp_path / "map.tif").exists()
    assert not list(tmp_path.glob("tmp_save_disk*"))


def test_one_run_retries_replaces_logs_and_shares_values_as_any_mode_does(
    conf: dict[str, Any], tmp_path: Path
) -> None:
    recorder = EventRecorder()
    with Orchestrator(conf, tmp_path, observers=[recorder]) as orchestrator:
        maps, sums = new_grid(), sums_of_one_array(orchestrator)
        fill_maps(orchestrator, maps, {})
        orchestrator.add_to_replace_lists(maps, "maps")
        orchestrator.add_to_replace_lists(sums)
        orchestrator.breakpoint()
        # Each changed the same value in place, for no other to see.
        assert [sums[0, col]["sum"] for col in range(4)] == [1_000_000] * 4
        assert isinstance(maps[0, 0], xr.Dataset)
        assert maps[0, 0]["disparity"].to_numpy().flags.owndata
        # What was replaced is data that later tasks take.
        orchestrator.add_to_save_lists(tmp_path / "map.tif", "disparity", maps)
        totals = one_tile("dict")
        totals[0, 0] = orchestrator.cluster.create_task(_total)(maps)
        orchestrator.add_to_replace_lists(totals)
        numbers, warned = one_tile("dict"), one_tile("dict")
        numbers[0, 0] = orchestrator.cluster.create_task(_fragile)(str(tmp_path / "marker"))
        orchestrator.add_to_save_lists(tmp_path / "numbers.json", "", numbers)
        warned[0, 0] = orchestrator.cluster.create_task(functions.warn)()
        orchestrator.add_to_compute_lists(warned, "warned")
    assert totals[0, 0]["pixels"] == sum(maps[each]["disparity"].size for each in maps.positions())
    np.testing.assert_array_equal(raster(tmp_path / "map.tif"), image() * 2)
    # A tile whose worker dies once is there in the end.
    assert json.loads((tmp_path / "numbers.json").read_text())[0]["data"] == {"value": 7}
    assert recorder.progress.done == recorder.progress.total
    # dask runs again by itself what a worker was running that died.
    assert len(recorder.of(TileRetried)) == (conf["mode"] not in DASK_MODES)
    # What a task logs is in the output folder, with the tile that it is about.
    logs = "".join(path.read_text() for path in (tmp_path / "workers_log").glob("worker_*.log"))
    assert "warned[0, 0]: " in logs
    assert "look at this" in logs


def sums_of_one_array(orchestrator: Orchestrator) -> CarsDataset:
    """Declare tasks that each change the value of the same task in place, and sum it."""
    sums = CarsDataset("dict", name="sums")
    sums.create_grid(4, 1, 1, 1)
    zeros = orchestrator.cluster.create_task(np.zeros)(1_000_000)
    for _, col in sums.positions():
        sums[0, col] = orchestrator.cluster.create_task(_add_one_in_place)(zeros)
    return sums


def _add_one_in_place(values: Any) -> CarsDict:
    values += 1
    return CarsDict({"sum": int(values.sum())})


def _fragile(marker: str) -> CarsDict:
    return CarsDict({"value": functions.fail_first(marker, 7)})


def _total(maps: CarsDataset) -> CarsDict:
    return CarsDict({"pixels": sum(maps[each]["disparity"].size for each in maps.positions())})


def hang_twice(conf: dict[str, Any], out_dir: Path) -> None:
    conf = {**conf, "task_timeout": 12, "nb_workers": 1}
    with Orchestrator(conf, out_dir) as orchestrator:
        done = CarsDataset("dict", name="hung")
        done.create_grid(3, 1, 1, 1)
        # The first ends once the worker has imported what all need: the timeout counts from there.
        done[0, 0] = orchestrator.cluster.create_task(functions.nothing)()
        done[0, 1] = orchestrator.cluster.create_task(functions.hang_once)(str(out_dir / "marker"))
        done[0, 2] = orchestrator.cluster.create_task(functions.hang)()
        orchestrator.add_to_compute_lists(done)


def test_a_hung_cluster_is_restarted_and_the_remaining_tiles_run_again(
    conf: dict[str, Any], tmp_path: Path
) -> None:
    if conf["mode"] == "dask":
        pytest.skip("the workers of an existing cluster are not killed: one that hangs continues")
    with pytest.raises(TilesFailedError) as caught:
        hang_twice(conf, tmp_path)
    assert [str(each) for each in caught.value.failures] == [
        "hung[0, 2]: ClusterStalledError: no task has ended for 12 s (task_timeout)"
    ]


@pytest.mark.parametrize(
    "conf", ["multiprocessing", "local_dask", "dask", "slurm_dask"], indirect=True
)
def test_after_a_kill_only_tiles_that_were_not_saved_are_computed(
    conf: dict[str, Any], tmp_path: Path
) -> None:
    resumable_program.run_program(tmp_path, {"mode": "sequential"})
    whole = contents(tmp_path)
    out_dir = tmp_path / "out"
    out_dir.mkdir()
    conf = {**conf, "resume": True}
    assert run_in_subprocess(out_dir, conf, kill_after=30) == -signal.SIGKILL
    read_and_remove(out_dir / "delivered")
    there = journaled_tiles(out_dir)
    recorder = EventRecorder()
    resumable_program.run_program(out_dir, conf, observers=[recorder])
    assert len(read_and_remove(out_dir / "delivered")) == 3 * TILES - len(there)
    assert recorder.count(TileKept) == len(there)
    assert contents(out_dir) == whole
