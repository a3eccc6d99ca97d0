"""A tile may fail in any way, at any stage: the others are saved, and it is named."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from batuta.cluster.local.scheduler import LocalScheduler
from batuta.datasets import CarsDataset
from batuta.orchestrator import (
    Orchestrator,
    TileFailed,
    TileFailure,
    TileRetried,
    TilesFailedError,
)
from tests.cluster.functions import add, fail, hold
from tests.orchestrator.failing_program import CAUSES, COLS, GOOD, STAGES, WAYS, run_program
from tests.orchestrator.inspection import EventRecorder

MULTIPROCESSING: dict[str, Any] = {
    "mode": "multiprocessing",
    "per_job_timeout": 1,
    "max_tasks_per_worker": 1000,
}
SEQUENTIAL: dict[str, Any] = {"mode": "sequential", "resume": True}

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """What is saved when nothing fails."""
    folder = tmp_path_factory.mktemp("whole")
    run_program(folder, {"mode": "sequential"}, "first task")
    return (folder / "tiles.tif").read_bytes()


def manifest(out_dir: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out_dir / "tiles.tif.manifest.json").read_text())
    return found


def expected_places(stage: str) -> set[tuple[int, int]]:
    """Return which tiles fail: a wrong type that a task returns fails the task that takes it."""
    rows = (0, 1) if stage in {"shared input", "final function"} else (0,)
    return {(row, col) for row in rows for col in range(len(WAYS))}


def check_causes(stage: str, failures: tuple[TileFailure, ...]) -> None:
    for failure in failures:
        if stage == "saving":
            assert "a tile of 3 x 3 pixels given, its window is of 4 x 4" in failure.reason
        elif stage == "final function":
            assert failure.reason == f"TileError: column {failure.col} is not wanted"
        else:
            assert CAUSES[COLS[failure.col]] in failure.reason


@pytest.mark.parametrize("resume", [False, True], ids=["", "resume"])
@pytest.mark.parametrize("stage", STAGES)
def test_failing_tiles_are_named_and_the_others_are_saved(
    stage: str, resume: bool, whole: bytes, tmp_path: Path
) -> None:
    conf = MULTIPROCESSING | {"resume": resume}
    trouble = tmp_path / "trouble"
    trouble.touch()
    with pytest.raises(TilesFailedError) as caught:
        run_program(tmp_path, conf, stage)
    places = {(each.row, each.col) for each in caught.value.failures}
    assert places == expected_places(stage)
    check_causes(stage, caught.value.failures)
    account = manifest(tmp_path)
    assert account["tiles"]["failed"] == len(places)
    assert account["tiles"]["saved"] == 2 * len(COLS) - len(places)
    assert not account["complete"]
    assert not list(tmp_path.glob("tmp_save_disk*"))
    trouble.unlink()
    run_program(tmp_path, conf, stage)
    account = manifest(tmp_path)
    assert account["complete"]
    assert account["tiles"]["kept"] == (2 * len(COLS) - len(places) if resume else 0)
    assert (tmp_path / "tiles.tif").read_bytes() == whole


@pytest.mark.parametrize("stage", STAGES)
def test_in_sequential_with_resume_a_task_that_raises_fails_its_own_tiles_alone(
    stage: str, whole: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for way in ("exit", "kill", "hang"):  # they would end or stop the tests themselves
        monkeypatch.setitem(WAYS, way, WAYS["raise"])
        monkeypatch.setitem(CAUSES, way, CAUSES["raise"])
    trouble = tmp_path / "trouble"
    trouble.touch()
    with pytest.raises(TilesFailedError) as caught:
        run_program(tmp_path, SEQUENTIAL, stage)
    assert {(each.row, each.col) for each in caught.value.failures} == expected_places(stage)
    check_causes(stage, caught.value.failures)
    trouble.unlink()
    run_program(tmp_path, SEQUENTIAL, stage)
    assert (tmp_path / "tiles.tif").read_bytes() == whole


@pytest.mark.parametrize("conf", [MULTIPROCESSING, SEQUENTIAL], ids=lambda conf: conf["mode"])
def test_missing_tiles_may_be_a_warning_with_the_same_list(
    conf: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "trouble").touch()
    orchestrator = run_program(tmp_path, conf | {"on_tile_failure": "continue"}, "saving")
    assert {(each.row, each.col) for each in orchestrator.failures} == expected_places("saving")
    check_causes("saving", tuple(orchestrator.failures))
    (told,) = [each for each in caplog.records if "tiles failed" in each.getMessage()]
    assert told.levelno == logging.WARNING
    assert told.getMessage() == str(TilesFailedError(orchestrator.failures, 2 * len(COLS)))
    assert manifest(tmp_path)["tiles"]["failed"] == len(WAYS)


def test_every_way_to_fail_has_its_column() -> None:
    assert set(COLS) == {*WAYS, GOOD}
    assert set(CAUSES) == set(WAYS)


def test_a_tile_that_exceeds_all_memory_is_computed_twice_and_no_more(tmp_path: Path) -> None:
    conf = {
        "mode": "multiprocessing",
        "max_ram_per_worker": 200,
        "on_tile_failure": "continue",
    }
    grid = CarsDataset("dict", name="numbers")
    grid.create_grid(2, 1, 1, 1)
    with Orchestrator(conf, tmp_path / "out") as orchestrator:
        create_task = orchestrator.cluster.create_task
        grid[0, 0] = create_task(add)(1)
        grid[0, 1] = create_task(hold)(str(tmp_path), 2000)
        orchestrator.add_to_compute_lists(grid)
    (failure,) = orchestrator.failures
    assert "alone on 2 x 200 MB" in failure.reason
    assert (failure.row, failure.col) == (0, 1)
    assert (tmp_path / "held").read_text() == "xx"


def test_a_broken_cluster_is_reported_once_and_nothing_is_retried(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    recorder = EventRecorder()
    with pytest.raises(TilesFailedError) as caught:
        compute_on_a_scheduler_that_fails(tmp_path, recorder)
    lines = [record.getMessage().partition("\n")[0] for record in caplog.records]
    told = [line for line in lines if "no idea" in line]
    reason = "ClusterBrokenError: the scheduler failed: ValueError: no idea"
    assert [line for line in told if "many[" in line] == [
        f"many[0, 0] and 63 more failed: {reason}"
    ]
    assert recorder.count(TileRetried) == 0
    assert recorder.count(TileFailed) == 64
    lines = str(caught.value).split("\n")
    assert lines[0] == "64 of 64 tiles failed:"
    assert lines[1] == f"  many[0, 0]: {reason}"
    assert lines[11:] == ["  and 54 more for the same reason"]
    assert len(caught.value.failures) == 64


def compute_on_a_scheduler_that_fails(out_dir: Path, recorder: EventRecorder) -> None:
    with (
        pytest.MonkeyPatch.context() as patch,
        Orchestrator(MULTIPROCESSING, out_dir, observers=[recorder]) as orchestrator,
    ):
        many = CarsDataset("dict", name="many")
        many.create_grid(8, 8, 1, 1)
        for place in many.positions():
            many[place] = orchestrator.cluster.create_task(add)(1)
        orchestrator.add_to_compute_lists(many)
        patch.setattr(LocalScheduler, "_dispatch", lambda _: fail("no idea"))
        orchestrator.breakpoint()
