"""The profile of a run, in every mode."""

import json
import logging
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from batuta.errors import ConfigurationError
from batuta.orchestrator import Orchestrator, TilesFailedError
from batuta.profiling.capture.layout import PROFILE_FOLDER, SUMMARY_HTML, SUMMARY_TEXT
from batuta.profiling.files.reader import read_profile
from batuta.profiling.files.run_info import GridInfo, RunInfo, RunState
from tests.cluster import functions
from tests.orchestrator import profiled_program
from tests.orchestrator.profiled_program import LARGE, LARGE_BYTES, SLOW, SLOW_S, run_program
from tests.support.dask_clusters import DASK_MODES, light_configuration
from tests.support.waiting import eventually_sync

TILES = {(row, col) for row in range(profiled_program.ROWS) for col in range(profiled_program.COLS)}
ALONE: dict[str, dict[str, Any]] = {
    "sequential": {"mode": "sequential"},
    "resumable": {"mode": "sequential", "resume": True},
    "multiprocessing": {"mode": "multiprocessing"},
    "unfused": {"mode": "multiprocessing", "factorize_tasks": False, "max_tasks_per_worker": 1},
}


@pytest.fixture(params=[*ALONE, *DASK_MODES])
def any_conf(request: pytest.FixtureRequest) -> dict[str, Any]:
    """The configuration of each mode."""
    return ALONE.get(request.param) or light_configuration(request.param, request)


@pytest.fixture(params=[*ALONE, "local_dask"])
def conf(request: pytest.FixtureRequest) -> dict[str, Any]:
    """The configuration of modes that measure each in a way of its own."""
    return ALONE.get(request.param) or {"mode": request.param}


def rows_of(out_dir: Path) -> Any:
    return read_profile(out_dir).tasks.to_pandas()


def tiles_of(rows: Any, name: str) -> set[tuple[int, int]]:
    of_name = rows[rows.name == name]
    assert len(of_name) == len(TILES)
    return set(zip(of_name.row, of_name.col, strict=True))


def test_every_task_is_measured_with_its_tile_its_time_and_what_it_comes_after(
    any_conf: dict[str, Any], tmp_path: Path
) -> None:
    run_program({**any_conf, "profiling": {}}, tmp_path)
    rows = rows_of(tmp_path)
    assert len(rows) == 2 * len(TILES) + 1
    assert set(rows.outcome) == {"done"}
    assert set(rows.attempt) == {1}
    assert set(rows.dataset) == {"heights"}
    assert tiles_of(rows, "read") == tiles_of(rows, "measure") == TILES
    assert (rows.pid > 0).all()
    assert (rows.host != "").all()
    assert not (tmp_path / PROFILE_FOLDER / "tasks-000001.parquet").exists()
    assert_what_comes_before_is_known(rows)
    assert_time_and_memory_are_where_they_were_spent(rows, any_conf["mode"])
    assert_the_run_is_described(read_profile(tmp_path).run, any_conf["mode"])


def assert_what_comes_before_is_known(rows: Any) -> None:
    by_task = rows.set_index("task")
    for _, row in rows[rows.name == "measure"].iterrows():
        before = by_task.loc[list(row.after)]
        assert sorted(before.name) == ["mask", "read"]
        own = before[before.name == "read"].iloc[0]
        assert (own.row, own.col) == (row.row, row.col)
        assert own.start_s <= row.start_s


def assert_time_and_memory_are_where_they_were_spent(rows: Any, mode: str) -> None:
    measured = rows[rows.name == "measure"].set_index(["row", "col"])
    slow, large = measured.loc[SLOW], measured.loc[LARGE]
    assert slow.wall_s >= SLOW_S > slow.cpu_s
    # A little less than was allocated: what the worker freed meanwhile counts against it.
    assert large.peak_bytes > 0.99 * LARGE_BYTES
    assert slow.peak_bytes < large.peak_bytes - LARGE_BYTES / 2
    assert large.growth_bytes < LARGE_BYTES / 2  # it was freed
    if mode != "sequential":
        assert (rows.bytes_in > 0).all()
        assert (rows.waiting_s >= 0).all()


def assert_the_run_is_described(info: RunInfo, mode: str) -> None:
    assert info.state is RunState.DONE
    assert info.mode == mode
    assert (info.tiles_done, info.tiles_total) == (len(TILES), len(TILES))
    (grid,) = info.grids
    assert grid == GridInfo(dataset="heights", rows=2, cols=3, tile_rows_px=10, tile_cols_px=10)
    assert info.ended_s is not None
    assert info.ended_s > info.started_s


def test_each_attempt_at_a_task_that_fails_is_there(conf: dict[str, Any], tmp_path: Path) -> None:
    if conf["mode"] == "sequential" and not conf.get("resume"):
        pytest.skip("what a task raises is raised where it is created: there is no second attempt")
    with Orchestrator({**conf, "profiling": {}}, tmp_path, progress_bar=False) as orchestrator:
        grid = profiled_program.new_grid("cloudy", 1, 1)
        grid[0, 0] = orchestrator.cluster.create_task(profiled_program.fail_once)(str(tmp_path))
        orchestrator.add_to_compute_lists(grid)
    rows = rows_of(tmp_path).sort_values("attempt")
    assert list(rows.attempt) == [1, 2]
    assert list(rows.outcome) == ["failed", "done"]
    assert "clouds" in rows.error.iloc[0]
    info = read_profile(tmp_path).run
    assert [(each.dataset, each.row, each.col) for each in info.retried] == [("cloudy", 0, 0)]
    assert not info.failed


def test_without_profiling_time_and_peak_memory_are_summed_up_all_the_same(
    conf: dict[str, Any], tmp_path: Path
) -> None:
    run_program(conf, tmp_path)
    text = (tmp_path / SUMMARY_TEXT).read_text(encoding="utf-8")
    assert text.startswith("13 tasks in ")
    measured, read = (next(line for line in text.splitlines() if name in line)
                      for name in (" measure ", " read "))  # fmt: skip
    assert " 6 " in measured
    assert " 6 " in read
    assert re.search(r" \d+(\.\d+)? [MG]B$", measured)  # of the whole process, in sequential
    assert not (tmp_path / PROFILE_FOLDER).exists()
    assert not (tmp_path / SUMMARY_HTML).exists()


@pytest.mark.parametrize("mode", ["multiprocessing", "local_dask"])
def test_a_run_that_is_killed_has_its_profile(mode: str, tmp_path: Path) -> None:
    out_dir, gate = tmp_path / "out", tmp_path / "gate"
    command = [sys.executable, "-m", "tests.orchestrator.profiled_program", str(out_dir)]
    conf = json.dumps({"mode": mode, "profiling": {}})
    with subprocess.Popen([*command, conf, str(gate)], start_new_session=True) as program:
        parts = out_dir / PROFILE_FOLDER
        eventually_sync(Path(f"{gate}.begun").exists, 60)
        eventually_sync(lambda: len(_rows_so_far(parts, out_dir)) == 2 * len(TILES) + 1, 30)
        program.send_signal(signal.SIGKILL)
    gate.touch()
    profile = read_profile(out_dir)
    assert profile.run.state is RunState.RUNNING
    assert tiles_of(profile.tasks.to_pandas(), "measure") == TILES


def _rows_so_far(parts: Path, out_dir: Path) -> Any:
    return rows_of(out_dir) if list(parts.glob("tasks-*.parquet")) else pd.DataFrame()


def test_a_worker_that_dies_leaves_a_row_for_what_it_ran(tmp_path: Path) -> None:
    conf = {"mode": "multiprocessing", "profiling": {}}
    orchestrator = Orchestrator(conf, tmp_path, progress_bar=False)
    grid = profiled_program.new_grid("deadly", 1, 1)
    grid[0, 0] = orchestrator.cluster.create_task(functions.die)()
    orchestrator.add_to_compute_lists(grid)
    with pytest.raises(TilesFailedError), orchestrator:
        pass
    rows = rows_of(tmp_path)
    assert list(rows.outcome) == ["lost", "lost"]
    assert sorted(rows.attempt) == [1, 2]
    assert all("signal 9" in error for error in rows.error)
    info = read_profile(tmp_path).run
    assert info.state is RunState.FAILED
    assert [each.dataset for each in info.failed] == ["deadly"]


def test_a_profile_without_out_dir_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"^profiling: given without out_dir"):
        Orchestrator({"mode": "sequential", "profiling": {}})


def test_without_launch_worker_a_profile_needs_no_folder() -> None:
    conf = {"mode": "local_dask", "profiling": {}, "use_memory_logger": True}
    orchestrator = Orchestrator(conf, launch_worker=False)
    assert orchestrator.get_conf()["profiling"]["mode"] == "cars_profiling"


def test_a_resumed_run_keeps_the_previous_profile(tmp_path: Path) -> None:
    conf = {"mode": "multiprocessing", "profiling": {}, "resume": True}
    for _ in range(2):
        run_program(conf, tmp_path)
    assert len(rows_of(tmp_path / f"{PROFILE_FOLDER}-1")) == 2 * len(TILES) + 1
    info = read_profile(tmp_path).run
    assert info.tiles_kept == info.tiles_done == len(TILES)


def test_a_run_without_profiling_leaves_no_page_of_an_earlier_one(tmp_path: Path) -> None:
    (tmp_path / SUMMARY_HTML).write_text("earlier")
    run_program({"mode": "sequential"}, tmp_path)
    assert not (tmp_path / SUMMARY_HTML).exists()


def test_a_profile_without_its_summary_says_why(tmp_path: Path) -> None:
    with Orchestrator({"mode": "sequential", "profiling": {}}, tmp_path, progress_bar=False):
        (tmp_path / SUMMARY_TEXT).mkdir()
    (note,) = read_profile(tmp_path).run.notes
    assert note.startswith("could not write the summary: IsADirectoryError")


def test_an_error_in_the_summary_is_logged_and_the_product_is_complete(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / SUMMARY_TEXT).mkdir()
    with caplog.at_level(logging.ERROR, logger="batuta"):
        run_program({"mode": "sequential"}, tmp_path)
    assert "could not write the summary of the profile: IsADirectoryError" in caplog.text
    assert (tmp_path / "heights.json").exists()
