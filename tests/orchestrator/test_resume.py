"""Resume: a run that was killed, interrupted or lacks tiles, started again."""

import json
import logging
import os
import random
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from batuta.cluster import AbstractCluster
from batuta.cluster.config import SequentialConfig
from batuta.cluster.sequential import SequentialCluster
from batuta.datasets import CarsDataset, CarsDict
from batuta.errors import ConfigurationError
from batuta.orchestrator import Event, Orchestrator, Progress, TileDone, TileKept, TilesFailedError
from batuta.orchestrator import orchestrator as orchestrator_module
from batuta.orchestrator.registry import CarsDatasetRegistry
from batuta.orchestrator.resume.folder import ResumeFolder
from batuta.orchestrator.resume.journal import TileRecord
from batuta.orchestrator.resume.run_record import RunRecord
from tests.orchestrator import resumable_program
from tests.orchestrator.inspection import EventRecorder
from tests.orchestrator.resumable_program import DATASETS, OUTPUTS, TILES, run_program
from tests.orchestrator.resume_runs import (
    Contents,
    TilePlace,
    contents,
    journaled_tiles,
    manifest,
    read_and_remove,
    run_in_subprocess,
)

RECOMPUTED = "cannot resume; recomputing all tiles"
SEQUENTIAL: dict[str, Any] = {"mode": "sequential", "resume": True}
MULTIPROCESSING: dict[str, Any] = {"mode": "multiprocessing", "resume": True}
MODES = pytest.mark.parametrize(
    "conf", [SEQUENTIAL, MULTIPROCESSING], ids=lambda conf: conf["mode"]
)

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Contents:
    """What a run that was never interrupted makes, without resume."""
    folder = tmp_path_factory.mktemp("whole")
    run_program(folder, {"mode": "sequential"})
    return contents(folder)


@pytest.mark.parametrize(
    ("conf", "kill_after"),
    [(SEQUENTIAL, 1), (SEQUENTIAL, 40), (SEQUENTIAL, 3 * TILES), (MULTIPROCESSING, 30)],
    ids=["first tile", "in the middle", "last tile", "multiprocessing"],
)
def test_after_a_kill_only_tiles_that_were_not_saved_are_computed(
    conf: dict[str, Any], kill_after: int, whole: Contents, tmp_path: Path
) -> None:
    assert run_in_subprocess(tmp_path, conf, kill_after=kill_after) == -signal.SIGKILL
    delivered, there = read_and_remove(tmp_path / "delivered"), journaled_tiles(tmp_path)
    assert set(there) <= set(delivered)
    assert len(set(there)) == len(there)
    read_and_remove(tmp_path / "calls")
    recorder = EventRecorder()
    run_program(tmp_path, conf, observers=[recorder])
    expected = {(name, row, col) for name in DATASETS for row in range(4) for col in range(6)}
    assert sorted(read_and_remove(tmp_path / "delivered")) == sorted(expected - set(there))
    assert contents(tmp_path) == whole
    needed = {(row, col) for _, row, col in expected - set(there)}
    assert {(row, col) for _, row, col in read_and_remove(tmp_path / "calls")} == needed
    assert recorder.count(TileKept) == len(there)
    assert recorder.progress == Progress(3 * TILES, 3 * TILES)
    kept = sum(name == "heights" for name, _, _ in there)
    account = manifest(tmp_path, "plain.tif")
    assert (account["tiles"]["saved"], account["tiles"]["kept"]) == (TILES, kept)
    assert account["complete"]
    assert not list(tmp_path.glob(".*.parts"))


@pytest.mark.parametrize("conf", [SEQUENTIAL, MULTIPROCESSING], ids=lambda conf: conf["mode"])
def test_killed_repeatedly_at_random_it_ends_with_the_same_bytes(
    conf: dict[str, Any], whole: Contents, tmp_path: Path
) -> None:
    seed = random.SystemRandom().randrange(2**32)
    chance = random.Random(seed)  # noqa: S311 - not a secret
    there: set[TilePlace] = set()
    for _ in range(2):
        run_in_subprocess(tmp_path, conf, kill_within_s=chance.uniform(0.001, 0.4))
        now = set(journaled_tiles(tmp_path))
        assert there <= now, f"seed {seed}"
        there = now
    read_and_remove(tmp_path / "delivered")
    run_program(tmp_path, conf)
    assert len(read_and_remove(tmp_path / "delivered")) == 3 * TILES - len(there), f"seed {seed}"
    assert contents(tmp_path) == whole, f"seed {seed}"


@MODES
def test_a_run_that_ended_computes_nothing_and_leaves_its_files(
    conf: dict[str, Any], whole: Contents, tmp_path: Path
) -> None:
    run_program(tmp_path, conf)
    assert contents(tmp_path) == whole
    before = {name: (tmp_path / name).stat().st_mtime_ns for name in OUTPUTS}
    read_and_remove(tmp_path / "calls")
    recorder = EventRecorder()
    run_program(tmp_path, conf, observers=[recorder])
    assert not read_and_remove(tmp_path / "calls")
    assert {name: (tmp_path / name).stat().st_mtime_ns for name in OUTPUTS} == before
    assert recorder.count(TileKept) == 3 * TILES
    for name in OUTPUTS:
        account = manifest(tmp_path, name)
        assert account["complete"]
        assert account["files"] == [name]
        assert account["tiles"]["kept"] == account["tiles"]["saved"]


class Interrupter:
    def __init__(self, error: BaseException, after: int) -> None:
        self._error = error
        self._left = after

    def on_event(self, event: Event) -> None:
        self._left -= isinstance(event, TileDone)
        if self._left == 0:
            raise self._error


@MODES
@pytest.mark.parametrize(
    "error", [KeyboardInterrupt(), OSError("strange")], ids=["ctrl-c", "error"]
)
def test_an_interruption_loses_no_tile(
    conf: dict[str, Any], error: BaseException, whole: Contents, tmp_path: Path
) -> None:
    with pytest.raises(type(error)):
        run_program(tmp_path, conf, observers=[Interrupter(error, 20)])
    assert len(journaled_tiles(tmp_path)) == 20
    assert not manifest(tmp_path, "plain.tif")["complete"]
    read_and_remove(tmp_path / "delivered")
    run_program(tmp_path, conf)
    assert len(read_and_remove(tmp_path / "delivered")) == 3 * TILES - 20
    assert contents(tmp_path) == whole


@MODES
def test_tiles_that_failed_are_the_only_ones_computed_next_time(
    conf: dict[str, Any], whole: Contents, tmp_path: Path
) -> None:
    trouble = tmp_path / "fail_2_3"
    trouble.touch()
    with pytest.raises(TilesFailedError, match="3 of 72 tiles failed") as caught:
        run_program(tmp_path, conf)
    assert {each.dataset_name for each in caught.value.failures} == set(DATASETS)
    assert manifest(tmp_path, "packed.tif")["tiles"]["failed"] == 1
    assert (tmp_path / "packed.tif").exists()  # final, but for that tile
    read_and_remove(tmp_path / "calls")
    with pytest.raises(TilesFailedError):
        run_program(tmp_path, conf)
    assert set(read_and_remove(tmp_path / "calls")) == {("first", 2, 3)}
    trouble.unlink()
    run_program(tmp_path, conf)
    assert {(row, col) for _, row, col in read_and_remove(tmp_path / "calls")} == {(2, 3)}
    assert contents(tmp_path) == whole
    assert manifest(tmp_path, "packed.tif")["complete"]
    assert not list(tmp_path.glob(".*.parts"))


def other_first(folder: str, row: int, col: int, gain: float) -> Any:
    resumable_program.called(folder, "first", row, col)
    return np.random.default_rng(row * 100 + col).random((64, 64)) * gain


def change_code(_: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setattr(resumable_program, "first", other_first)
    return {}


def change_helper(_: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    def called(folder: str, what: str, row: int, col: int) -> None:
        with (Path(folder) / "calls").open("a") as stream:
            print(what, row, col, file=stream)

    monkeypatch.setattr(resumable_program, "called", called)
    return {}


def truncate(out_dir: Path, _: pytest.MonkeyPatch) -> dict[str, Any]:
    os.truncate(out_dir / "points.csv", 5)
    return {}


def remove(out_dir: Path, _: pytest.MonkeyPatch) -> dict[str, Any]:
    (out_dir / "plain.tif").unlink()
    return {}


CHANGES: dict[str, tuple[Callable[[Path, pytest.MonkeyPatch], dict[str, Any]], list[str]]] = {
    "grid": (
        lambda *_: {"tile": 50},
        [f"{name} {RECOMPUTED}: the grid changed" for name in DATASETS],
    ),
    "parameter": (
        lambda *_: {"gain": 3.0},
        [f"{name} {RECOMPUTED}: an argument of its tasks changed" for name in DATASETS],
    ),
    "file": (
        lambda *_: {"nodata": -2},
        [f"heights {RECOMPUTED}: nodata of plain.tif changed"],
    ),
    "code": (change_code, [f"heights {RECOMPUTED}: the code of "]),
    "helper": (
        change_helper,
        [f"heights {RECOMPUTED}: the code of tests.orchestrator.resumable_program.f"],
    ),
    "missing file": (
        remove,
        [f"heights {RECOMPUTED}: plain.tif is missing"],
    ),
    "damaged file": (
        truncate,
        [f"points {RECOMPUTED}: points.csv has 5 bytes"],
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_dataset_that_changed_is_recomputed_and_a_warning_says_why(
    change: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    run_program(tmp_path, SEQUENTIAL)
    how, messages = CHANGES[change][0](tmp_path, monkeypatch), CHANGES[change][1]
    read_and_remove(tmp_path / "delivered")
    caplog.clear()
    run_program(tmp_path, SEQUENTIAL, **how)
    warnings = [each.getMessage() for each in caplog.records if each.levelno >= logging.WARNING]
    assert len(warnings) == (3 if change in {"code", "helper"} else len(messages))
    for warning, message in zip(warnings, messages, strict=False):
        assert warning.startswith(message)
    rows = 2 if change == "grid" else 4
    assert len(read_and_remove(tmp_path / "delivered")) == rows * 6 * len(warnings)
    fresh = tmp_path / "fresh"
    fresh.mkdir()
    run_program(fresh, {"mode": "sequential"}, **how)
    assert contents(tmp_path) == contents(fresh)


def test_without_resume_nothing_is_kept_of_earlier_runs(tmp_path: Path) -> None:
    run_program(tmp_path, SEQUENTIAL)
    run_program(tmp_path, {"mode": "sequential"})
    assert not (tmp_path / ".resume").exists()
    read_and_remove(tmp_path / "delivered")
    run_program(tmp_path, SEQUENTIAL)
    assert len(read_and_remove(tmp_path / "delivered")) == 3 * TILES


def test_a_line_torn_by_a_power_loss_costs_one_tile(whole: Contents, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run_program(tmp_path, SEQUENTIAL, observers=[Interrupter(KeyboardInterrupt(), 10)])
    journal = tmp_path / ".resume" / "0001-0000" / "journal"
    journal.write_bytes(journal.read_bytes()[:-7] + bytes(20))
    read_and_remove(tmp_path / "delivered")
    run_program(tmp_path, SEQUENTIAL)
    assert len(read_and_remove(tmp_path / "delivered")) == 3 * TILES - 9
    assert contents(tmp_path) == whole
    run_program(tmp_path, SEQUENTIAL)
    assert not read_and_remove(tmp_path / "delivered")


@pytest.mark.parametrize(
    "damage",
    [
        b'{"row":0,"outcome":"saved"}',
        b'{"row":0,"col":0,"outcome":"bogus"}',
        b'{"row":0,"col":0,"outcome":"saved","more":1}',
        b'{"row":0,"col":"1","outcome":"saved"}',
        b'{"row":0,"col":-1,"outcome":"saved"}',
        b'{"files":3}',
        b"[1]",
        b"garbage",
    ],
)
def test_a_journal_is_read_up_to_a_damaged_line_and_a_warning_says_so(
    damage: bytes, whole: Contents, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(KeyboardInterrupt):
        run_program(tmp_path, SEQUENTIAL, observers=[Interrupter(KeyboardInterrupt(), 10)])
    journal = tmp_path / ".resume" / "0001-0000" / "journal"
    lines = journal.read_bytes().splitlines()
    journal.write_bytes(b"\n".join([*lines[:2], damage, *lines[3:], b""]))
    run_program(tmp_path, SEQUENTIAL)
    assert f"heights: line 3 of {journal} cannot be read" in caplog.text
    assert "cannot resume" not in caplog.text
    assert contents(tmp_path) == whole
    caplog.clear()
    run_program(tmp_path, SEQUENTIAL)
    assert "cannot be read" not in caplog.text


@pytest.mark.parametrize("header", [b"", b"garbage\n", b"[]\n", b"{}\n", b'{"format":2}\n'])
def test_a_header_that_cannot_be_read_is_warned_of(
    header: bytes, whole: Contents, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run_program(tmp_path, SEQUENTIAL)
    (tmp_path / ".resume" / "0001-0000" / "journal").write_bytes(header)
    run_program(tmp_path, SEQUENTIAL)
    assert f"heights {RECOMPUTED}: its journal cannot be read" in caplog.text
    assert contents(tmp_path) == whole


def test_a_folder_that_lacks_some_of_its_files_is_made_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def save_zarr() -> None:
        with Orchestrator(SEQUENTIAL, tmp_path) as orchestrator:
            dataset = CarsDataset("arrays", name="squares")
            dataset.create_grid(8, 4, 4, 4)
            for row, col in dataset.positions():
                dataset[row, col] = orchestrator.cluster.create_task(square)(str(tmp_path), col)
            orchestrator.add_to_save_lists(tmp_path / "squares.zarr", "height", dataset)

    save_zarr()
    save_zarr()
    assert "cannot resume" not in caplog.text
    shutil.rmtree(tmp_path / "squares.zarr" / "height")
    save_zarr()
    assert f"squares {RECOMPUTED}: squares.zarr has " in caplog.text
    assert (tmp_path / "squares.zarr" / "height").is_dir()


def add_up(folder: str, tiles: CarsDataset) -> CarsDict:
    resumable_program.called(folder, "sum", 0, 0)
    values = [tiles[place] for place in tiles.positions()]
    return CarsDict(
        {"sum": float(sum(each["height"].sum() for each in values if each is not None))}
    )


def square(folder: str, col: int) -> xr.Dataset | None:
    resumable_program.called(folder, "square", 0, col)
    return None if col == 3 else xr.Dataset({"height": (("row", "col"), np.full((4, 4), col**2))})


def run_in_two_steps(out_dir: Path, conf: dict[str, Any], observer: Any) -> list[Any]:
    """Replace tiles by their values, then compute with these."""
    with Orchestrator(conf, out_dir, observers=[observer]) as orchestrator:
        create = orchestrator.cluster.create_task
        squares, total = CarsDataset("arrays", name="squares"), CarsDataset("dict", name="total")
        squares.create_grid(20, 4, 4, 4)
        total.create_grid(1, 1, 1, 1)
        for row, col in squares.positions():
            squares[row, col] = create(square)(str(out_dir), col)
        orchestrator.add_to_replace_lists(squares)
        orchestrator.breakpoint()
        total[0, 0] = create(add_up)(str(out_dir), squares)
        orchestrator.add_to_save_lists(out_dir / "total.json", "", total)
        return list(squares[0])


@MODES
def test_values_that_replaced_tiles_are_there_after_an_interruption(
    conf: dict[str, Any], tmp_path: Path
) -> None:
    with pytest.raises(KeyboardInterrupt):
        run_in_two_steps(tmp_path, conf, Interrupter(KeyboardInterrupt(), 5))
    assert len(read_and_remove(tmp_path / "calls")) >= 5
    tiles = run_in_two_steps(tmp_path, conf, EventRecorder())
    assert read_and_remove(tmp_path / "calls") == [("sum", 0, 0)]
    assert json.loads((tmp_path / "total.json").read_text())[0]["data"] == {"sum": 16 * 21.0}
    assert tiles[3] is None
    np.testing.assert_array_equal(tiles[4]["height"], np.full((4, 4), 16))
    run_in_two_steps(tmp_path, conf, EventRecorder())
    assert not read_and_remove(tmp_path / "calls")


def test_values_that_other_users_may_have_written_are_refused(tmp_path: Path) -> None:
    run_in_two_steps(tmp_path, SEQUENTIAL, EventRecorder())
    folder = tmp_path / ".resume" / "0001-0000"
    value = folder / "00000000_00000001.tile"
    for trusted in (value, folder, tmp_path / ".resume"):
        mode = trusted.stat().st_mode
        trusted.chmod(mode | 0o020)
        with pytest.raises(ConfigurationError, match="is not trusted, as other users may"):
            run_in_two_steps(tmp_path, SEQUENTIAL, EventRecorder())
        trusted.chmod(mode)
    elsewhere = value.rename(tmp_path / "elsewhere")
    value.symlink_to(elsewhere)
    with pytest.raises(OSError, match="symbolic"):
        run_in_two_steps(tmp_path, SEQUENTIAL, EventRecorder())


def test_a_missing_value_makes_its_dataset_recomputed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run_in_two_steps(tmp_path, SEQUENTIAL, EventRecorder())
    (tmp_path / ".resume" / "0001-0000" / "00000000_00000001.tile").unlink()
    read_and_remove(tmp_path / "calls")
    run_in_two_steps(tmp_path, SEQUENTIAL, EventRecorder())
    assert f"squares {RECOMPUTED}: the value of tile (0, 1) is missing" in caplog.text
    assert (
        len(read_and_remove(tmp_path / "calls")) == 5
    )  # the sum is the same, and is not computed again


def test_two_runs_at_once_in_one_folder_are_refused(tmp_path: Path) -> None:
    held = ResumeFolder(tmp_path)
    for conf in (SEQUENTIAL, {"mode": "sequential"}):
        with pytest.raises(ConfigurationError, match="another run is using"):
            Orchestrator(conf, tmp_path)
    held.close()
    Orchestrator(SEQUENTIAL, tmp_path).cleanup()


def test_resume_without_a_folder_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="resume: true given without out_dir"):
        Orchestrator(SEQUENTIAL)


def test_resume_is_refused_where_tasks_cannot_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def strange_cluster(*_: Any, **__: Any) -> AbstractCluster:
        return SequentialCluster(SequentialConfig(), None)

    monkeypatch.setattr(orchestrator_module, "create_cluster", strange_cluster)
    with pytest.raises(ConfigurationError, match="resume: true is not supported in mode"):
        Orchestrator(SEQUENTIAL, tmp_path)


def test_an_argument_that_cannot_be_pickled_names_its_task(tmp_path: Path) -> None:
    with Orchestrator(SEQUENTIAL, tmp_path) as orchestrator:
        dataset = CarsDataset("dict", name="one")
        dataset.create_grid(1, 1, 1, 1)
        dataset[0, 0] = orchestrator.cluster.create_task(square)((each for each in "ab"), 1)
        orchestrator.add_to_compute_lists(dataset)
        with pytest.raises(
            ConfigurationError, match="resume: the arguments of task square cannot be pickled"
        ):
            orchestrator.breakpoint()


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(("tile_s", "checkpoints"), [(10.0, 40), (0.1, 4), (0.001, 1)])
def test_checkpoints_take_a_tenth_of_the_time_at_most(
    tile_s: float, checkpoints: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cost_s, clock, made = 0.1, Clock(), []
    registry = CarsDatasetRegistry()
    dataset = CarsDataset("dict", name="timed")
    dataset.create_grid(40, 1, 1, 1)
    entry = registry.add(dataset)
    record = RunRecord(tmp_path, 1, registry, clock)
    (dataset_record,) = record._datasets.values()

    def checkpoint() -> None:
        made.append(clock.now)
        clock.now += cost_s

    monkeypatch.setattr(dataset_record, "checkpoint", checkpoint)
    for col in range(40):
        clock.now += tile_s
        record.record_tile(entry, TileRecord(0, col, "computed"))
    record.close()
    assert len(made) == pytest.approx(checkpoints, abs=1)
    if tile_s * 40 > cost_s:
        assert len(made) * cost_s <= 0.1 * clock.now + 2 * cost_s
