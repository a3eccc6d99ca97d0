"""A disk that fills while tiles are computed, or saved."""

import errno
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from batuta.cluster import TaskFailedError
from batuta.orchestrator import DiskFullError
from batuta.orchestrator.disk import disk_full_error, find_disk_full, raise_if_disk_full
from tests.orchestrator.disk_filling_program import TILES, run_program
from tests.support.disks import mounted_disk

MULTIPROCESSING: dict[str, Any] = {"mode": "multiprocessing", "factorize_tasks": False}
FIRST_DONE = TILES + 5
"""Tiles that come first; workers may be given the large ones before the last small ones end."""

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
    assert error.folder == str(out_dir)
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


def test_a_full_disk_is_found_among_causes_and_groups() -> None:
    full = OSError(errno.EDQUOT, "quota", "/data/a/b")
    failed = TaskFailedError("task", "why")
    failed.__cause__ = full
    assert find_disk_full(failed) is full
    assert find_disk_full(ExceptionGroup("both", [ValueError("no"), failed])) is full
    assert find_disk_full(OSError(errno.EIO, "broken")) is None


def test_the_folder_named_is_that_of_the_file_where_it_is_known(tmp_path: Path) -> None:
    full = OSError(errno.ENOSPC, "full", str(tmp_path / "not" / "there" / "file"))
    found = disk_full_error(full, [Path("/")], 1, 2)
    assert found is not None
    assert found.folder == str(tmp_path / "not" / "there")
    assert disk_full_error(ValueError("no"), [Path("/")], 1, 2) is None


def test_an_error_without_a_reason_is_a_full_disk_only_without_free_space(
    small_disk: Path,
) -> None:
    vague = RuntimeError("write failed")
    raise_if_disk_full(vague, [small_disk])
    (small_disk / "filler").write_bytes(bytes(5_900_000))
    with pytest.raises(OSError, match="write failed") as caught:
        raise_if_disk_full(vague, [small_disk])
    assert caught.value.errno == errno.ENOSPC
