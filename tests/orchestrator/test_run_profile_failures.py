"""Errors in measuring and profiling never cost a product."""

import errno
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from batuta.cluster import check_configuration, create_cluster
from batuta.datasets import CarsDataset
from batuta.errors import ConfigurationError
from batuta.orchestrator import Orchestrator, TilesFailedError
from batuta.profiling.capture import memory
from batuta.profiling.capture.layout import PROFILE_FOLDER, SUMMARY_TEXT
from batuta.profiling.files.reader import read_profile
from batuta.profiling.files.run_info import RunState
from tests.cluster.conftest import compute
from tests.cluster.functions import add
from tests.orchestrator import profiled_program
from tests.orchestrator.profiled_program import run_program

PROFILED: dict[str, Any] = {"mode": "sequential", "profiling": {}}


def miss_a_file() -> None:
    raise FileNotFoundError("no /data/caf\udce9.tif")  # a name that is not UTF-8


@pytest.mark.parametrize("mode", ["multiprocessing", "local_dask"])
def test_an_error_with_a_name_that_is_not_utf_8_is_logged_and_profiled(
    mode: str, tmp_path: Path
) -> None:
    orchestrator = Orchestrator({"mode": mode, "profiling": {}}, tmp_path, progress_bar=False)
    grid = profiled_program.new_grid("missing", 1, 1)
    grid[0, 0] = orchestrator.cluster.create_task(miss_a_file)()
    orchestrator.add_to_compute_lists(grid)
    with pytest.raises(TilesFailedError, match=r"caf\\udce9\.tif"), orchestrator:
        pass
    profile = read_profile(tmp_path)
    errors = profile.tasks["error"].to_pylist()
    assert errors == [r"FileNotFoundError: no /data/caf\udce9.tif"] * 2
    assert r"caf\udce9.tif" in profile.run.failed[0].cause


class SilentError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("not today")


def test_in_sequential_the_exception_of_a_task_is_raised_unchanged(tmp_path: Path) -> None:
    def fail() -> None:
        raise SilentError

    orchestrator = Orchestrator({"mode": "sequential"}, tmp_path, progress_bar=False)
    with pytest.raises(SilentError), orchestrator:
        orchestrator.cluster.create_task(fail)()


def test_a_kernel_that_resets_no_peak_measures_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> int:
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr("os.write", refuse)
    cluster = create_cluster(check_configuration({"mode": "sequential"}), tmp_path)
    assert compute(cluster, [cluster.create_task(add)(1)]) == [1]
    memory.LinuxMemoryReader(private=True).reset_peak()


@pytest.mark.parametrize("kind", ["folder", "file", "link"])
def test_a_path_that_is_not_a_profile_is_left_alone(kind: str, tmp_path: Path) -> None:
    theirs = tmp_path / PROFILE_FOLDER
    if kind == "folder":
        theirs.mkdir()
        (theirs / "dem_profile.csv").write_text("0,1")
    elif kind == "file":
        theirs.write_text("0,1")
    else:
        theirs.symlink_to(tmp_path)
    with pytest.raises(ConfigurationError, match=rf"^profiling: {theirs} exists and is not a"):
        Orchestrator(PROFILED, tmp_path)
    assert theirs.exists()


def test_a_new_profile_replaces_the_files_of_the_old_one_alone(tmp_path: Path) -> None:
    run_program(PROFILED, tmp_path)
    (tmp_path / PROFILE_FOLDER / "notes.txt").write_text("mine")
    (tmp_path / PROFILE_FOLDER / "tasks-000001.parquet").write_text("left by a run that was killed")
    run_program(PROFILED, tmp_path)
    assert (tmp_path / PROFILE_FOLDER / "notes.txt").read_text() == "mine"
    assert read_profile(tmp_path).tasks.num_rows == 13


def test_a_list_that_contains_itself_is_an_argument_like_others(tmp_path: Path) -> None:
    endless: list[Any] = [1]
    endless.append(endless)
    with Orchestrator(PROFILED, tmp_path, progress_bar=False) as orchestrator:
        assert orchestrator.cluster.create_task(len)(endless) == 2


def test_a_grid_without_columns_is_profiled(tmp_path: Path) -> None:
    with Orchestrator(PROFILED, tmp_path, progress_bar=False) as orchestrator:
        empty = CarsDataset("dict", name="empty")
        empty.tiling_grid = np.zeros((1, 0, 4), dtype=np.int64)
        orchestrator.add_to_compute_lists(empty)
    assert read_profile(tmp_path).run.state is RunState.DONE


def test_of_two_runs_in_one_folder_the_last_has_its_profile_there(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = Orchestrator(PROFILED, tmp_path, progress_bar=False)
    first.cluster.create_task(add)(1)
    with Orchestrator(PROFILED, tmp_path, progress_bar=False) as second:
        second.cluster.create_task(len)([])
    first.cleanup()
    assert read_profile(tmp_path).tasks["name"].to_pylist() == ["len"]
    assert "another run has overwritten the profile" in caplog.text


def test_a_program_that_changes_directory_has_its_profile_where_it_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    for conf in ({"mode": "sequential"}, PROFILED):
        with Orchestrator(conf, "out", progress_bar=False) as orchestrator:
            orchestrator.cluster.create_task(add)(1)
            os.chdir(tmp_path / "elsewhere")
        os.chdir(tmp_path)
        assert (tmp_path / "out" / SUMMARY_TEXT).exists()
        (tmp_path / "out" / SUMMARY_TEXT).unlink()
    assert read_profile(tmp_path / "out").run.state is RunState.DONE


@pytest.mark.parametrize("scope", ["worker", "task"])
def test_a_profiler_that_cannot_write_costs_no_result(
    scope: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("cProfile.Profile.dump_stats", full)
    conf = {"mode": "sequential", "profiling": {"mode": "cprofile", "scope": scope}}
    with Orchestrator(conf, tmp_path, progress_bar=False) as orchestrator:
        assert orchestrator.cluster.create_task(add)(1) == 1
    assert "cannot write a profile" in caplog.text
