"""Profiles are moved from the work folder to where they are kept: all of them, or none."""

import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest

from batuta.pipeline.retention import Shelf, note_orchestrator, put_away
from batuta.profiling.capture.layout import PROFILE_FOLDER, SUMMARY_TEXT
from tests.pipeline.profiled import PARTS, write_parts, write_whole

RUN = "0a1b-2"


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path)


@pytest.fixture
def work_dir(tmp_path: Path) -> Path:
    """A work folder with the profiles of two orchestrators."""
    folder = tmp_path / "work" / RUN
    for name in ("orchestrator", "maps"):
        write_whole(folder / name, name)
        note_orchestrator(folder, folder / name)
    return folder


def files(folder: Path) -> list[str]:
    """Files below a folder."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def put_away_until(move: int, work_dir: Path, profiles: Path) -> None:
    """Put away; killed at the move of that number, or before all is shown."""
    moves = iter(range(move, -1, -1))
    really = shutil.move

    def killed_at_last(source: Path, target: Path) -> None:
        if next(moves) == 0:
            os._exit(9)
        really(source, target)

    shutil.move = killed_at_last  # type: ignore[assignment]  # in a process of its own
    Path.rename = lambda *_: os._exit(9)  # type: ignore[method-assign]  # the same
    put_away(work_dir, profiles)


@pytest.mark.parametrize("move", [0, 1, 4, 7, 8])
def test_killed_at_any_move_it_is_brought_to_its_end_by_the_next(
    move: int, shelf: Shelf, work_dir: Path
) -> None:
    expected = [
        f"{name}/{path}" for name in ("maps", "orchestrator") for path in files(work_dir / name)
    ]
    assert len(expected) == 8
    process = get_context("spawn").Process(
        target=put_away_until, args=(move, work_dir, shelf.profiles(RUN))
    )
    process.start()
    process.join()
    assert process.exitcode == 9
    assert not shelf.has_profiles(RUN)
    assert work_dir.exists()
    put_away(work_dir, shelf.profiles(RUN))
    assert files(shelf.profiles(RUN)) == expected
    assert [each.name for each in shelf.profiles(RUN).parent.iterdir()] == [RUN]
    assert not work_dir.exists()


def test_several_that_put_away_at_once_lose_nothing(shelf: Shelf, tmp_path: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        for number in range(20):
            folder = tmp_path / "work" / f"key-{number}"
            write_whole(folder / "orchestrator", "whole")
            note_orchestrator(folder, folder / "orchestrator")
            profiles = shelf.profiles(folder.name)
            doing = [pool.submit(put_away, folder, profiles) for _ in range(4)]
            for each in doing:
                each.result()
            assert len(files(profiles)) == 4
            assert not folder.exists()


def test_what_cannot_be_kept_is_told_and_nothing_half_stays(shelf: Shelf, work_dir: Path) -> None:
    # A file where the folder of the second orchestrator's profile must be.
    shelf.profiles(RUN).parent.mkdir(parents=True)
    part = shelf.profiles(RUN).with_name(f".{RUN}")
    part.mkdir()
    (part / "orchestrator").write_text("in the way")
    with pytest.raises(OSError, match="orchestrator"):
        put_away(work_dir, shelf.profiles(RUN))
    assert not shelf.has_profiles(RUN)
    assert not part.exists()
    assert not work_dir.exists()


def test_the_profile_of_a_run_replaces_that_of_the_run_before(
    shelf: Shelf, work_dir: Path, tmp_path: Path
) -> None:
    earlier = tmp_path / "work" / "0a1b-1"
    write_whole(earlier / "orchestrator", "earlier")
    note_orchestrator(earlier, earlier / "orchestrator")
    put_away(earlier, shelf.profiles("0a1b-1"))
    assert shelf.has_profiles("0a1b-1")
    put_away(work_dir, shelf.profiles(RUN))
    assert shelf.has_profiles(RUN)
    assert not shelf.has_profiles("0a1b-1")


def test_a_run_that_opened_no_orchestrator_leaves_nothing(shelf: Shelf, tmp_path: Path) -> None:
    folder = tmp_path / "work" / RUN
    write_whole(folder / "orchestrator", "nobody's")
    put_away(folder, shelf.profiles(RUN))
    assert not folder.exists()
    assert not (tmp_path / "profiles").exists()
    put_away(folder, shelf.profiles(RUN))
    assert not shelf.has_profiles(RUN)


def test_an_output_folder_elsewhere_keeps_its_files_and_only_those_of_this_run_are_copied(
    shelf: Shelf, tmp_path: Path
) -> None:
    work, scratch = tmp_path / "work" / RUN, tmp_path / "scratch"
    work.mkdir(parents=True)
    write_whole(scratch, "of an earlier run")
    for path in scratch.rglob("*"):
        os.utime(path, (1_000_000, 1_000_000))
    shutil.copytree(scratch, tmp_path / "stale")
    note_orchestrator(work, scratch)
    note_orchestrator(work, tmp_path / "stale")
    (scratch / SUMMARY_TEXT).write_text("of this run")
    put_away(work, shelf.profiles(RUN))
    assert [each.name for each in shelf.profiles(RUN).iterdir()] == ["scratch"]
    assert files(shelf.profiles(RUN)) == [f"scratch/{SUMMARY_TEXT}"]
    assert len(files(scratch)) == 4


@pytest.mark.parametrize(
    ("out_dir", "name"),
    [
        (".", "orchestrator"),
        ("a/b c/../d.e", "a-d-e"),
        ("/", "orchestrator"),
        ("/somewhere/else/çé$", "orchestrator"),
        ("../../../x", "x"),
        ("x" * 200, "x" * 64),
    ],
)
def test_a_profile_is_named_after_its_folder_and_never_leads_out(
    out_dir: str, name: str, tmp_path: Path
) -> None:
    work = tmp_path / "work" / RUN
    work.mkdir(parents=True)
    note_orchestrator(work, work / out_dir)
    note_orchestrator(work, work / out_dir)
    assert [each.name for each in (work / ".orchestrators").iterdir()] == [name]


def test_nothing_that_links_lead_to_is_kept(shelf: Shelf, tmp_path: Path) -> None:
    work, elsewhere = tmp_path / "work" / RUN, tmp_path / "elsewhere"
    write_parts(elsewhere)
    out_dir = work / "orchestrator"
    out_dir.mkdir(parents=True)
    (out_dir / PROFILE_FOLDER).symlink_to(elsewhere / PROFILE_FOLDER)
    (out_dir / SUMMARY_TEXT).symlink_to(elsewhere / PROFILE_FOLDER / PARTS[0])
    note_orchestrator(work, out_dir)
    put_away(work, shelf.profiles(RUN))
    assert not shelf.has_profiles(RUN)


def test_what_was_removed_in_part_is_removed(shelf: Shelf, work_dir: Path) -> None:
    put_away(work_dir, shelf.profiles(RUN))
    folder = shelf.profiles(RUN).parent
    shutil.copytree(folder, folder.with_name(f".{folder.name}"))
    shelf.remove("0a1b")
    assert list(folder.parent.iterdir()) == []


def test_what_is_removed_goes_with_its_log_and_nothing_else(shelf: Shelf, work_dir: Path) -> None:
    put_away(work_dir, shelf.profiles(RUN))
    for key in ("0a1b", "other"):
        shelf.log(key).parent.mkdir(exist_ok=True)
        shelf.log(key).touch()
    shelf.remove("0a1b")
    shelf.remove("never there")
    assert not shelf.has_profiles(RUN)
    assert not shelf.log("0a1b").exists()
    assert shelf.log("other").exists()
