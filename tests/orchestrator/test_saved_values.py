"""What saving loses or refuses of a tile is told, with the tile and the file."""

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from batuta.datasets import CarsDataset, SaveOptions
from batuta.orchestrator import Orchestrator, TilesFailedError

SEQUENTIAL: dict[str, Any] = {"mode": "sequential"}
LOST = "whole numbers beyond 16777216 are rounded in float32"

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")


def manifest(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Path(f"{path}.manifest.json").read_text())
    return found


def counted(value: int) -> xr.Dataset:
    return xr.Dataset({"n": (("row", "col"), np.full((2, 2), value, np.int64))})


def refuse(_: int) -> xr.Dataset:
    raise ValueError("no data")


def run(
    out_dir: Path, *files: str, conf: dict[str, Any] | None = None, fails: bool = False, **spec: Any
) -> None:
    """Save a row of three tiles, the last two of numbers that float32 does not hold."""
    with Orchestrator(SEQUENTIAL | (conf or {}), out_dir) as orchestrator:
        dataset = CarsDataset("arrays", name="count")
        dataset.create_grid(6, 2, 2, 2)
        for file in files:
            orchestrator.add_to_save_lists(out_dir / file, "n", dataset, **spec)
        for col, value in enumerate([1, 2**24 + 1, 2**24 + 3]):
            function = refuse if fails and col == 2 else counted
            dataset[0, col] = orchestrator.cluster.create_task(function)(value)


def test_what_a_conversion_loses_is_told_once_for_each_file_with_the_first_tile(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "batuta"):
        run(tmp_path, "a.tif", "b.zarr")
    messages = [each.getMessage() for each in caplog.records]
    assert messages == [f"count[0, 1]: {name}: {LOST}" for name in ("a.tif", "b.zarr")]
    for name in ("a.tif", "b.zarr"):
        account = manifest(tmp_path / name)
        assert account["warnings"] == [{"row": 0, "col": 1, "warning": LOST}]
        assert account["complete"]


def test_what_an_earlier_run_lost_stays_in_the_manifest(tmp_path: Path) -> None:
    conf = {"resume": True}
    with pytest.raises(TilesFailedError):
        run(tmp_path, "a.tif", conf=conf, fails=True)
    for _ in range(2):  # the second finds it complete
        run(tmp_path, "a.tif", conf=conf)
        assert manifest(tmp_path / "a.tif")["warnings"] == [{"row": 0, "col": 1, "warning": LOST}]


def test_an_exact_conversion_is_not_told_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run(tmp_path, "a.tif", dtype="float64")
    assert manifest(tmp_path / "a.tif")["warnings"] == []
    assert not caplog.records


@pytest.mark.parametrize("resume", [False, True], ids=["", "resume"])
@pytest.mark.parametrize("name", ["a.tif", "a.zarr"])
@pytest.mark.parametrize("options", ["plain", "deflate"])
def test_a_file_that_no_tile_can_open_leaves_only_its_manifest(
    options: str, name: str, resume: bool, tmp_path: Path
) -> None:
    how = None if options == "plain" else SaveOptions(compression="deflate")
    with pytest.raises(TilesFailedError) as caught:
        run(tmp_path, name, conf={"resume": resume}, dtype=None, nodata=0.5, options=how)
    problem = f"TileError: {name}: nodata: 0.5 given, int64 holds {-(2**63)} to {2**63 - 1}"
    assert [each.reason for each in caught.value.failures] == [problem] * 3
    assert {each["cause"] for each in manifest(tmp_path / name)["failed"]} == {problem}
    assert not list(tmp_path.glob(f"*{name}")) + list(tmp_path.glob(f".{name}*"))


def points(calls: Path, col: int, odd: int) -> pd.DataFrame:
    with calls.open("a") as stream:
        stream.write(f"{col} ")
    return pd.DataFrame({"x": [1.0], "y": [2.0], "z": [3.0], "q": ["a"] if col == odd else [col]})


def run_points(out_dir: Path, suffix: str, conf: dict[str, Any]) -> Orchestrator:
    """Save a row of six tiles of points, of which one has texts among whole numbers."""
    with Orchestrator(conf, out_dir) as orchestrator:
        dataset = CarsDataset("points", name="cloud")
        dataset.create_grid(6, 1, 1, 1)
        orchestrator.add_to_save_lists(out_dir / f"a{suffix}", "p", dataset)
        for col in range(6):
            task = orchestrator.cluster.create_task(points)
            dataset[0, col] = task(out_dir / "calls", col, 3)
    return orchestrator


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".geoparquet", ".laz"])
@pytest.mark.parametrize("how", ["raise", "continue"])
def test_a_tile_of_points_of_another_type_fails_alone(
    how: str, suffix: str, tmp_path: Path
) -> None:
    conf = SEQUENTIAL | {"on_tile_failure": how}
    if how == "raise":
        with pytest.raises(TilesFailedError) as caught:
            run_points(tmp_path, suffix, conf)
        (failure,) = caught.value.failures
    else:
        (failure,) = run_points(tmp_path, suffix, conf).failures
    assert (failure.row, failure.col) == (0, 3)
    assert failure.reason.startswith(f"TileError: a{suffix}: q: ")
    account = manifest(tmp_path / f"a{suffix}")
    assert account["failed"] == [{"row": 0, "col": 3, "cause": failure.reason}]
    assert (account["tiles"]["saved"], account["files"]) == (5, [f"a{suffix}"])
    if suffix != ".laz":
        read = pd.read_csv if suffix == ".csv" else pd.read_parquet
        assert read(tmp_path / f"a{suffix}")["q"].tolist() == [0, 1, 2, 4, 5]


def test_it_alone_is_computed_again_with_resume(tmp_path: Path) -> None:
    conf = SEQUENTIAL | {"resume": True}
    for computed in ("0 1 2 3 4 5 ", "3 "):
        with pytest.raises(TilesFailedError, match="1 of 6 tiles failed"):
            run_points(tmp_path, ".parquet", conf)
        assert (tmp_path / "calls").read_text() == computed
        (tmp_path / "calls").unlink()
        assert pd.read_parquet(tmp_path / "a.parquet")["q"].tolist() == [0, 1, 2, 4, 5]


def coloured(intensity: float) -> pd.DataFrame:
    return pd.DataFrame({"x": [1.0], "y": [2.0], "z": [3.0], "intensity": [intensity]})


def test_what_las_loses_is_told_once_for_each_column(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "batuta"), Orchestrator(SEQUENTIAL, tmp_path) as to:
        dataset = CarsDataset("points", name="cloud")
        dataset.create_grid(5, 1, 1, 1)
        to.add_to_save_lists(tmp_path / "a.laz", "p", dataset)
        for col, value in enumerate([1, 0.5, 1.5, float("nan"), float("nan")]):
            dataset[0, col] = to.cluster.create_task(coloured)(value)
    told = manifest(tmp_path / "a.laz")["warnings"]
    assert told == [
        {
            "row": 0,
            "col": 1,
            "warning": "intensity: values with fractions are rounded to whole numbers in LAS",
        },
        {"row": 0, "col": 3, "warning": "intensity: missing values are 0 in LAS"},
    ]
    assert [each.getMessage() for each in caplog.records] == [
        f"cloud[0, {each['col']}]: a.laz: {each['warning']}" for each in told
    ]
