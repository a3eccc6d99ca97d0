"""A run that was killed, interrupted or lacked tiles, started again."""

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
from batuta.orchestrator.resume.journal import TileLine
from batuta.orchestrator.resume.run_record import RunRecord
from tests.orchestrator import resumed
from tests.orchestrator.products import Listener
from tests.orchestrator.resumed import DATASETS, OUTPUTS, TILES, play
from tests.orchestrator.resuming import (
    Contents,
    TilePlace,
    contents,
    journalled,
    manifest,
    run,
    take,
)

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
    play(folder, {"mode": "sequential"})
    return contents(folder)


@pytest.mark.parametrize(
    ("conf", "kill_after"),
    [(SEQUENTIAL, 1), (SEQUENTIAL, 40), (SEQUENTIAL, 3 * TILES), (MULTIPROCESSING, 30)],
    ids=["first tile", "in the middle", "last tile", "multiprocessing"],
)
def test_killed_it_goes_on_with_the_tiles_that_were_not_saved(
    conf: dict[str, Any], kill_after: int, whole: Contents, tmp_path: Path
) -> None:
    assert run(tmp_path, conf, kill_after=kill_after) == -signal.SIGKILL
    delivered, there = take(tmp_path / "delivered"), journalled(tmp_path)
    assert set(there) <= set(delivered)
    assert len(set(there)) == len(there)
    take(tmp_path / "calls")
    listener = Listener()
    play(tmp_path, conf, observers=[listener])
    expected = {(name, row, col) for name in DATASETS for row in range(4) for col in range(6)}
    assert sorted(take(tmp_path / "delivered")) == sorted(expected - set(there))
    assert contents(tmp_path) == whole
    needed = {(row, col) for _, row, col in expected - set(there)}
    assert {(row, col) for _, row, col in take(tmp_path / "calls")} == needed
    assert listener.count(TileKept) == len(there)
    assert listener.progress == Progress(3 * TILES, 3 * TILES)
    kept = sum(name == "heights" for name, _, _ in there)
    account = manifest(tmp_path, "plain.tif")
    assert (account["tiles"]["saved"], account["tiles"]["kept"]) == (TILES, kept)
    assert account["complete"]
    assert not list(tmp_path.glob(".*.parts"))


@pytest.mark.parametrize("conf", [SEQUENTIAL, MULTIPROCESSING], ids=lambda conf: conf["mode"])
def test_killed_again_and_again_at_random_it_ends_the_same(
    conf: dict[str, Any], whole: Contents, tmp_path: Path
) -> None:
    seed = random.SystemRandom().randrange(2**32)
    chance = random.Random(seed)  # noqa: S311 - not a secret
    there: set[TilePlace] = set()
    for _ in range(2):
        run(tmp_path, conf, kill_within_s=chance.uniform(0.001, 0.4))
        now = set(journalled(tmp_path))
        assert there <= now, f"seed {seed}"
        there = now
    take(tmp_path / "delivered")
    play(tmp_path, conf)
    assert len(take(tmp_path / "delivered")) == 3 * TILES - len(there), f"seed {seed}"
    assert contents(tmp_path) == whole, f"seed {seed}"


@MODES
def test_a_run_that_ended_computes_nothing_and_leaves_its_files(
    conf: dict[str, Any], whole: Contents, tmp_path: Path
) -> None:
    play(tmp_path, conf)
    assert contents(tmp_path) == whole
    before = {name: (tmp_path / name).stat().st_mtime_ns for name in OUTPUTS}
    take(tmp_path / "calls")
    listener = Listener()
    play(tmp_path, conf, observers=[listener])
    assert not take(tmp_path / "calls")
    assert {name: (tmp_path / name).stat().st_mtime_ns for name in OUTPUTS} == before
    assert listener.count(TileKept) == 3 * TILES
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
def test_interrupted_it_has_lost_no_tile(
    conf: dict[str, Any], error: BaseException, whole: Contents, tmp_path: Path
) -> None:
    with pytest.raises(type(error)):
        play(tmp_path, conf, observers=[Interrupter(error, 20)])
    assert len(journalled(tmp_path)) == 20
    assert not manifest(tmp_path, "plain.tif")["complete"]
    take(tmp_path / "delivered")
    play(tmp_path, conf)
    assert len(take(tmp_path / "delivered")) == 3 * TILES - 20
    assert contents(tmp_path) == whole


@MODES
def test_tiles_that_failed_are_the_only_ones_computed_next_time(
    conf: dict[str, Any], whole: Contents, tmp_path: Path
) -> None:
    trouble = tmp_path / "fail_2_3"
    trouble.touch()
    with pytest.raises(TilesFailedError, match="3 of 72 tiles failed") as caught:
        play(tmp_path, conf)
    assert {each.dataset_name for each in caught.value.failures} == set(DATASETS)
    assert manifest(tmp_path, "packed.tif")["tiles"]["failed"] == 1
    assert (tmp_path / "packed.tif").exists()  # final, but for that tile
    take(tmp_path / "calls")
    with pytest.raises(TilesFailedError):
        play(tmp_path, conf)
    assert set(take(tmp_path / "calls")) == {("first", 2, 3)}
    trouble.unlink()
    play(tmp_path, conf)
    assert {(row, col) for _, row, col in take(tmp_path / "calls")} == {(2, 3)}
    assert contents(tmp_path) == whole
    assert manifest(tmp_path, "packed.tif")["complete"]
    assert not list(tmp_path.glob(".*.parts"))


def other_first(folder: str, row: int, col: int, gain: float) -> Any:
    resumed.called(folder, "first", row, col)
    return np.random.default_rng(row * 100 + col).random((64, 64)) * gain


def change_code(_: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setattr(resumed, "first", other_first)
    return {}


def change_helper(_: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    def called(folder: str, what: str, row: int, col: int) -> None:
        with (Path(folder) / "calls").open("a") as stream:
            print(what, row, col, file=stream)

    monkeypatch.setattr(resumed, "called", called)
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
        [f"{name} starts afresh: the grid changed" for name in DATASETS],
    ),
    "parameter": (
        lambda *_: {"gain": 3.0},
        [f"{name} starts afresh: an argument of its tasks changed" for name in DATASETS],
    ),
    "file": (lambda *_: {"nodata": -2}, ["heights starts afresh: nodata of plain.tif changed"]),
    "code": (change_code, ["heights starts afresh: the code of "]),
    "helper": (change_helper, ["heights starts afresh: the code of tests.orchestrator.resumed.f"]),
    "missing file": (remove, ["heights starts afresh: plain.tif is missing"]),
    "damaged file": (truncate, ["points starts afresh: points.csv is not as it was left"]),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_changed_starts_afresh_and_says_so(
    change: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    play(tmp_path, SEQUENTIAL)
    how, messages = CHANGES[change][0](tmp_path, monkeypatch), CHANGES[change][1]
    take(tmp_path / "delivered")
    caplog.clear()
    play(tmp_path, SEQUENTIAL, **how)
    warnings = [each.getMessage() for each in caplog.records if each.levelno >= logging.WARNING]
    assert len(warnings) == (3 if change in {"code", "helper"} else len(messages))
    for warning, message in zip(warnings, messages, strict=False):
        assert warning.startswith(message)
    rows = 2 if change == "grid" else 4
    assert len(take(tmp_path / "delivered")) == rows * 6 * len(warnings)
    fresh = tmp_path / "fresh"
    fresh.mkdir()
    play(fresh, {"mode": "sequential"}, **how)
    assert contents(tmp_path) == contents(fresh)


def test_without_resume_nothing_is_kept_of_earlier_runs(tmp_path: Path) -> None:
    play(tmp_path, SEQUENTIAL)
    play(tmp_path, {"mode": "sequential"})
    assert not (tmp_path / ".resume").exists()
    take(tmp_path / "delivered")
    play(tmp_path, SEQUENTIAL)
    assert len(take(tmp_path / "delivered")) == 3 * TILES


def test_a_line_torn_by_a_power_loss_is_one_tile_to_compute(
    whole: Contents, tmp_path: Path
) -> None:
    with pytest.raises(KeyboardInterrupt):
        play(tmp_path, SEQUENTIAL, observers=[Interrupter(KeyboardInterrupt(), 10)])
    journal = tmp_path / ".resume" / "0001-0000" / "journal"
    journal.write_bytes(journal.read_bytes()[:-7] + bytes(20))
    take(tmp_path / "delivered")
    play(tmp_path, SEQUENTIAL)
    assert len(take(tmp_path / "delivered")) == 3 * TILES - 9
    assert contents(tmp_path) == whole
    play(tmp_path, SEQUENTIAL)
    assert not take(tmp_path / "delivered")


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
def test_a_damaged_line_ends_what_is_read_of_a_journal_and_is_told(
    damage: bytes, whole: Contents, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(KeyboardInterrupt):
        play(tmp_path, SEQUENTIAL, observers=[Interrupter(KeyboardInterrupt(), 10)])
    journal = tmp_path / ".resume" / "0001-0000" / "journal"
    lines = journal.read_bytes().splitlines()
    journal.write_bytes(b"\n".join([*lines[:2], damage, *lines[3:], b""]))
    play(tmp_path, SEQUENTIAL)
    assert f"heights: line 3 of {journal} cannot be read" in caplog.text
    assert "afresh" not in caplog.text
    assert contents(tmp_path) == whole
    caplog.clear()
    play(tmp_path, SEQUENTIAL)
    assert "cannot be read" not in caplog.text


@pytest.mark.parametrize("header", [b"", b"garbage\n", b"[]\n", b"{}\n", b'{"format":2}\n'])
def test_a_header_that_cannot_be_read_is_told(
    header: bytes, whole: Contents, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    play(tmp_path, SEQUENTIAL)
    (tmp_path / ".resume" / "0001-0000" / "journal").write_bytes(header)
    play(tmp_path, SEQUENTIAL)
    assert "heights starts afresh: its journal cannot be read" in caplog.text
    assert contents(tmp_path) == whole


def test_a_folder_that_lacks_some_of_its_files_starts_afresh(
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
    assert "afresh" not in caplog.text
    shutil.rmtree(tmp_path / "squares.zarr" / "height")
    save_zarr()
    assert "squares starts afresh: squares.zarr is not as it was left" in caplog.text
    assert (tmp_path / "squares.zarr" / "height").is_dir()


def add_up(folder: str, tiles: CarsDataset) -> CarsDict:
    resumed.called(folder, "sum", 0, 0)
    values = [tiles[place] for place in tiles.positions()]
    return CarsDict(
        {"sum": float(sum(each["height"].sum() for each in values if each is not None))}
    )


def square(folder: str, col: int) -> xr.Dataset | None:
    resumed.called(folder, "square", 0, col)
    return None if col == 3 else xr.Dataset({"height": (("row", "col"), np.full((4, 4), col**2))})


def play_in_two(out_dir: Path, conf: dict[str, Any], observer: Any) -> list[Any]:
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
        play_in_two(tmp_path, conf, Interrupter(KeyboardInterrupt(), 5))
    assert len(take(tmp_path / "calls")) >= 5
    tiles = play_in_two(tmp_path, conf, Listener())
    assert take(tmp_path / "calls") == [("sum", 0, 0)]
    assert json.loads((tmp_path / "total.json").read_text())[0]["data"] == {"sum": 16 * 21.0}
    assert tiles[3] is None
    np.testing.assert_array_equal(tiles[4]["height"], np.full((4, 4), 16))
    play_in_two(tmp_path, conf, Listener())
    assert not take(tmp_path / "calls")


def test_values_that_others_may_have_written_are_not_read(tmp_path: Path) -> None:
    play_in_two(tmp_path, SEQUENTIAL, Listener())
    folder = tmp_path / ".resume" / "0001-0000"
    value = folder / "00000000_00000001.tile"
    for trusted in (value, folder, tmp_path / ".resume"):
        mode = trusted.stat().st_mode
        trusted.chmod(mode | 0o020)
        with pytest.raises(ConfigurationError, match="not this user's alone, and is not trusted"):
            play_in_two(tmp_path, SEQUENTIAL, Listener())
        trusted.chmod(mode)
    elsewhere = value.rename(tmp_path / "elsewhere")
    value.symlink_to(elsewhere)
    with pytest.raises(OSError, match="symbolic"):
        play_in_two(tmp_path, SEQUENTIAL, Listener())


def test_a_value_that_is_lost_has_its_dataset_start_afresh(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    play_in_two(tmp_path, SEQUENTIAL, Listener())
    (tmp_path / ".resume" / "0001-0000" / "00000000_00000001.tile").unlink()
    take(tmp_path / "calls")
    play_in_two(tmp_path, SEQUENTIAL, Listener())
    assert "squares starts afresh: the value of tile (0, 1) is lost" in caplog.text
    assert len(take(tmp_path / "calls")) == 5  # the sum is the same, and is not computed again


def test_two_runs_at_once_in_one_folder_are_refused(tmp_path: Path) -> None:
    held = ResumeFolder(tmp_path)
    for conf in (SEQUENTIAL, {"mode": "sequential"}):
        with pytest.raises(ConfigurationError, match="another run works in"):
            Orchestrator(conf, tmp_path)
    held.close()
    Orchestrator(SEQUENTIAL, tmp_path).cleanup()


def test_resume_without_a_folder_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="resume: true needs out_dir"):
        Orchestrator(SEQUENTIAL)


def test_resume_is_refused_where_tasks_cannot_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def strange_cluster(*_: Any, **__: Any) -> AbstractCluster:
        return SequentialCluster(SequentialConfig(), None)

    monkeypatch.setattr(orchestrator_module, "create_cluster", strange_cluster)
    with pytest.raises(ConfigurationError, match="resume: true is not for mode sequential"):
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
def test_making_sure_of_tiles_takes_a_tenth_of_their_time_at_most(
    tile_s: float, checkpoints: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cost_s, clock, made = 0.1, Clock(), []
    registry = CarsDatasetRegistry()
    dataset = CarsDataset("dict", name="timed")
    dataset.create_grid(40, 1, 1, 1)
    entry = registry.add(dataset)
    record = RunRecord(tmp_path, 1, registry, clock)
    (ledger,) = record._ledgers.values()

    def checkpoint() -> None:
        made.append(clock.now)
        clock.now += cost_s

    monkeypatch.setattr(ledger, "checkpoint", checkpoint)
    for col in range(40):
        clock.now += tile_s
        record.note(entry, TileLine(0, col, "computed"))
    record.close()
    assert len(made) == pytest.approx(checkpoints, abs=1)
    if tile_s * 40 > cost_s:
        assert len(made) * cost_s <= 0.1 * clock.now + 2 * cost_s
