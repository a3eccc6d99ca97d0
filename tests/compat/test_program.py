"""A program written for CARS's orchestrator runs on ours, the same in every mode."""

import ast
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
import rasterio
import yaml

from tests.compat.conftest import FAKE
from tests.support.checkout import PYTHON_PATH

ROWS, COLS, SIDE, REACH, NODATA = 3, 4, 20, 7, -32768
MODES = ["sequential", "multiprocessing", "local_dask"]


def conf_of(mode: str, **keys: Any) -> dict[str, Any]:
    return {"mode": mode} | ({} if mode == "sequential" else {"nb_workers": 2}) | keys


def start(conf: dict[str, Any], out: Path, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "batuta.compat.cars", json.dumps(conf), str(out), *arguments]
    # A session of its own, so that nothing but what the test sends reaches it.
    return subprocess.Popen(
        command,
        env=os.environ | {"PYTHONPATH": os.pathsep.join((str(FAKE), PYTHON_PATH))},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def play(conf: dict[str, Any], out: Path, *arguments: str) -> str:
    with start(conf, out, *arguments) as process:
        said, _ = process.communicate(timeout=100)
    assert process.returncode == 0, said
    return said


@dataclass(frozen=True)
class Played:
    """What a run of the program has left, and what it said."""

    out: Path
    said: str


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Played]:
    """Run the program once in each mode, for the tests that look at what it leaves."""

    @cache
    def play_once(mode: str) -> Played:
        out = tmp_path_factory.mktemp(mode) / "out"
        return Played(out, play(conf_of(mode), out))

    return play_once


def expected_heights() -> npt.NDArray[np.float64]:
    """Merge the tiles one by one, as a loop without any orchestrator does."""
    side = SIDE + REACH
    heights = np.full((ROWS * SIDE + REACH, COLS * SIDE + REACH), float(NODATA))
    ramp = np.arange(side * side, dtype=np.float64).reshape(side, side) / 7
    for row in range(ROWS):
        for col in range(COLS):
            if row == col or (row, col) == (1, 3):
                continue
            part = heights[row * SIDE : row * SIDE + side, col * SIDE : col * SIDE + side]
            tile = (100.0 + ramp) * (row + 1) + col
            part[...] = np.where(part == NODATA, tile, (tile + part) / 2)
    return heights


@pytest.mark.parametrize("mode", MODES)
def test_overlapping_tiles_are_merged_in_order(mode: str, played: Callable[[str], Played]) -> None:
    with rasterio.open(played(mode).out / "height.tif") as raster:
        assert raster.dtypes == ("float64",)
        assert raster.nodata == NODATA
        assert raster.descriptions == ("metres",)
        assert raster.tags(1)["class_name"] == "ground"
        np.testing.assert_array_equal(raster.read(1), expected_heights())


@pytest.mark.parametrize("mp_mode", ["fork", "spawn"])
def test_workers_run_it_however_they_are_started(mp_mode: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    play(conf_of("multiprocessing", mp_mode=mp_mode), out)
    with rasterio.open(out / "height.tif") as raster:
        np.testing.assert_array_equal(raster.read(1), expected_heights())


@pytest.mark.parametrize("mode", MODES)
def test_every_file_of_the_program_is_there(mode: str, played: Callable[[str], Played]) -> None:
    out = played(mode).out
    tiles = {(row, col) for row in range(ROWS) for col in range(COLS)} - {(1, 3)}
    full = {(row, col) for row, col in tiles if row != col}
    clouds = {f"{col}_{row}_by_pair.csv" for row, col in full}
    assert {path.name for path in (out / "cloud").iterdir()} == clouds
    assert pd.read_csv(out / "cloud" / "0_2_by_pair.csv")["cropped"].all()
    told = yaml.safe_load((out / "metadata.yaml").read_text())["heights"]
    first = (100.0 + np.arange(3) / 7 + 1).tolist()
    assert told == {"max": 3.0, "cropped": True, "first": first}
    assert yaml.safe_load((out / "dsm" / "index.yaml").read_text()) == {"height": "height.tif"}
    assert not (out / "missing.tif").exists()
    manifest = json.loads((out / "height.tif.manifest.json").read_text())
    assert manifest["complete"]
    assert manifest["tiles"]["saved"] == len(full)
    assert not (out / "tmp_save_disk").exists()


@pytest.mark.parametrize("mode", MODES)
def test_progress_is_reported_to_cars(mode: str, played: Callable[[str], Played]) -> None:
    told = ast.literal_eval((played(mode).out / "progress.txt").read_text())
    # A sequential tile that is None is known before the run, and is not one to compute.
    tiles = 2 * (ROWS * COLS - 1 - (ROWS if mode == "sequential" else 0))
    assert told == [(5, "started", tiles), *[(5, "progressed")] * tiles, (5, "completed")]


def test_a_tile_of_a_killed_worker_is_computed_again_and_nothing_changes(
    tmp_path: Path, played: Callable[[str], Played]
) -> None:
    whole, struck = played("multiprocessing").out, tmp_path / "struck"
    tries = tmp_path / "tries"
    said = play(conf_of("multiprocessing"), struck, str(tries))
    assert tries.read_text() == "xx"
    assert (whole / "height.tif").read_bytes() == (struck / "height.tif").read_bytes()
    assert "surface[0, 1] is retried: " in said


def test_logs_of_tasks_are_those_of_their_worker(played: Callable[[str], Played]) -> None:
    run = played("multiprocessing")
    logs = (run.out / "workers_log").glob("worker_*.log")
    lines = "".join(path.read_text() for path in logs)
    assert "CARS: surface[2, 3]: tile 2, 3" in lines
    assert "tile 2, 3" not in run.said


def test_what_is_wrong_in_the_configuration_is_named(tmp_path: Path) -> None:
    with start({"mode": "multiprocessing", "nb_worker": 2}, tmp_path / "out") as process:
        said, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "nb_worker: unknown key, did you mean nb_workers?" in said


@pytest.mark.skipif(find_spec("cars") is not None, reason="the real CARS is installed here")
def test_without_cars_one_line_says_what_to_install(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "batuta.compat.cars", "conf.yaml"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("CARS is not installed: pip install cars==1.3.0")
