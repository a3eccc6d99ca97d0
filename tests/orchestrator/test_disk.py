"""A disk that fills while tiles are computed, or saved."""

import errno
import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from batuta.cluster import NoSpaceError
from batuta.cluster.remote_error import failed_task
from batuta.datasets import CarsDataset, CarsDict, TileError
from batuta.errors import describe_error
from batuta.orchestrator import (
    DiskFullError,
    Event,
    Observer,
    Orchestrator,
    TileDone,
    TilesFailedError,
)
from batuta.orchestrator.disk import disk_full_error, find_no_space, own_writes
from tests.orchestrator.disk_filling_program import TILES, run_program
from tests.support.disks import mounted_disk

MULTIPROCESSING: dict[str, Any] = {"mode": "multiprocessing", "factorize_tasks": False}
FIRST_DONE = TILES // 2
"""Of the 50 tiles that are small. When the first large one finds the disk full, some of them may
wait to be saved, and others be at workers, which are sent short tasks in advance."""

CASES = {
    "results": ("results", MULTIPROCESSING),
    "outputs": ("outputs", MULTIPROCESSING),
    "outputs, sequential": ("outputs", {"mode": "sequential"}),
}

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 6 MB, which `grow` enlarges."""
    with mounted_disk(tmp_path, 6) as disk:
        yield disk


def grow(disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,size=300m", str(disk)], check=True)


def manifest(out_dir: Path, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out_dir / f"{name}.manifest.json").read_text())
    return found


@pytest.mark.parametrize("case", CASES)
def test_a_full_disk_stops_the_run_and_resume_completes_it_when_there_is_space(
    case: str, small_disk: Path, tmp_path: Path
) -> None:
    what, conf = CASES[case]
    out_dir = small_disk / "out"
    with pytest.raises(DiskFullError, match="no space left in") as caught:
        run_program(out_dir, conf | {"resume": True}, what)
    error = caught.value
    # Results that wait and the output share the disk: either may find it full first.
    folders = [out_dir, out_dir / "tmp_save_disk"] if what == "results" else [out_dir]
    assert error.folder in map(str, folders)
    assert error.total == 2 * TILES
    assert FIRST_DONE <= error.done < 2 * TILES - 10
    assert f"computing stopped with {error.done} of 80 tiles done" in str(error)
    for name in ("rasters.tif", "notes.json"):
        assert not manifest(out_dir, name)["complete"]
    assert not list(out_dir.glob("tmp_save_disk*"))
    grow(small_disk)
    run_program(out_dir, conf | {"resume": True}, what)
    # All tiles that were done were kept, but for the one whose journal had no room.
    kept = [manifest(out_dir, name)["tiles"]["kept"] for name in ("rasters.tif", "notes.json")]
    assert sum(kept) >= error.done - 1
    (tmp_path / "whole").mkdir()
    run_program(tmp_path / "whole", {"mode": "sequential"}, what)
    for name in ("rasters.tif", "notes.json"):
        assert (out_dir / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_without_resume_finished_tiles_are_saved_as_far_as_there_is_space(small_disk: Path) -> None:
    out_dir = small_disk / "out"
    with pytest.raises(DiskFullError) as caught:
        run_program(out_dir, MULTIPROCESSING, "results")
    names = ("rasters.tif", "notes.json")
    saved = [manifest(out_dir, name)["tiles"]["saved"] for name in names]
    assert sum(saved) == caught.value.done >= FIRST_DONE
    # When the disk is found full, all the notes may still wait to be saved: no file is made then.
    assert (out_dir / "notes.json").exists() == (saved[1] > 0)
    if saved[1]:
        assert len(json.loads((out_dir / "notes.json").read_text())) == saved[1]
    assert not manifest(out_dir, "notes.json")["complete"]
    assert not list(out_dir.glob(".*"))


def test_a_file_that_cannot_be_closed_is_left_and_named(small_disk: Path) -> None:
    out_dir = small_disk / "out"
    with pytest.raises(DiskFullError) as caught:
        run_program(out_dir, {"mode": "sequential"}, "outputs")
    (note,) = caught.value.__notes__
    assert note.startswith(
        "In addition, notes.json could not be closed; its tiles are in .notes.json.parts: "
    )
    assert len(list((out_dir / ".notes.json.parts").iterdir())) >= 10
    assert manifest(out_dir, "rasters.tif")["complete"]


FULL = (errno.ENOSPC, errno.EDQUOT)
LIMITS = (*FULL, errno.EFBIG, errno.EMFILE, errno.EROFS)


def scratch(col: int, code: int) -> CarsDict:
    """Find the disk of the first tile's own scratch full."""
    if col == 0:
        raise OSError(code, os.strerror(code), "/scratch/user/t.tif")
    return CarsDict({"n": col})


def finish_in_scratch(_: Any, tile: CarsDict) -> CarsDict:
    return scratch(tile["n"], errno.ENOSPC)


class FindsItsDiskFull:
    """An observer whose own disk is full."""

    def on_event(self, event: Event) -> None:
        if isinstance(event, TileDone):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/var/log/user")


MODES: dict[str, dict[str, Any]] = {
    "sequential": {"mode": "sequential", "resume": True},
    "multiprocessing": {"mode": "multiprocessing"},
    "local_dask": {"mode": "local_dask"},
}


def save_notes(
    out_dir: Path,
    conf: dict[str, Any],
    *,
    codes: tuple[int, ...] = LIMITS,
    observers: tuple[Observer, ...] = (),
    final_function: Any = None,
) -> None:
    """Save four notes in a file for each error that the task of the first one is to raise."""
    with Orchestrator(conf, out_dir, observers=observers) as orchestrator:
        for code in codes:
            dataset = CarsDataset("dict", name=errno.errorcode.get(code, "none"))
            dataset.create_grid(4, 1, 1, 1)
            dataset.final_function = final_function
            for row, col in dataset.positions():
                task = scratch if code else note
                dataset[row, col] = orchestrator.cluster.create_task(task)(col, code)
            orchestrator.add_to_save_lists(out_dir / f"{dataset.name}.json", "", dataset)


def note(col: int, _: int) -> CarsDict:
    return CarsDict({"n": col})


@pytest.mark.parametrize("mode", MODES)
def test_a_full_disk_of_a_task_is_the_failure_of_its_tile(mode: str, tmp_path: Path) -> None:
    with pytest.raises(TilesFailedError) as caught:
        save_notes(tmp_path, MODES[mode])
    told = [re.sub(r"\.py:\d+", ".py", str(each)) for each in caught.value.failures]
    assert told == [
        f"{errno.errorcode[code]}[0, 0]: {describe_error(scratch_error(code))} "
        "(in task scratch, test_disk.py)"
        for code in sorted(LIMITS, key=errno.errorcode.__getitem__)
    ]
    for code in LIMITS:
        assert len(json.loads((tmp_path / f"{errno.errorcode[code]}.json").read_text())) == 3


def scratch_error(code: int) -> OSError:
    with pytest.raises(OSError, match="scratch") as caught:
        scratch(0, code)
    return caught.value


def test_a_full_disk_of_a_final_function_is_the_failure_of_its_tile(tmp_path: Path) -> None:
    with pytest.raises(TilesFailedError, match="1 of 4 tiles failed") as caught:
        save_notes(tmp_path, {"mode": "sequential"}, codes=(0,), final_function=finish_in_scratch)
    assert "/scratch/user/t.tif" in caught.value.failures[0].reason


def test_a_full_disk_of_an_observer_is_raised_as_it_is(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="/var/log/user"):
        save_notes(tmp_path, {"mode": "sequential"}, codes=(0,), observers=(FindsItsDiskFull(),))


def test_a_run_that_fills_a_disk_inside_a_task_is_the_failure_of_its_tile() -> None:
    inner = NoSpaceError("/scratch")
    outer = failed_task("task", "why", DiskFullError("/scratch", 0.0, 1, 2))
    assert outer.__cause__ is not None
    outer.__cause__.__cause__ = inner
    assert find_no_space(outer) is None
    assert find_no_space(failed_task("task", "why", inner)) is inner


@pytest.mark.parametrize("code", FULL)
def test_own_writes_find_a_full_disk_among_causes_and_groups(code: int, tmp_path: Path) -> None:
    full = OSError(code, "full", str(tmp_path / "not" / "there" / "file"))
    failed = RuntimeError("cannot write")
    failed.__cause__ = full
    for error in (full, failed, ExceptionGroup("both", [ValueError("no"), failed])):
        with pytest.raises(NoSpaceError, match="not/there") as caught, own_writes():
            raise error
        found = disk_full_error(caught.value, 1, 2)
        assert found is not None
        assert found.folder == str(tmp_path / "not" / "there")
    with pytest.raises(OSError, match="broken"), own_writes():
        raise OSError(errno.EIO, "broken")


def test_an_error_without_a_reason_is_a_full_disk_only_without_free_space(
    small_disk: Path,
) -> None:
    def folders() -> list[Path]:
        return [small_disk]

    with pytest.raises(RuntimeError, match="write failed"), own_writes(folders):
        raise RuntimeError("write failed")
    (small_disk / "filler").write_bytes(bytes(5_900_000))
    with pytest.raises(NoSpaceError), own_writes(folders):
        raise RuntimeError("write failed")
    with pytest.raises(TileError), own_writes(folders):
        raise TileError("it does not fit")
