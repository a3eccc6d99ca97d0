"""Profiles are moved from the work folder to where they are retained: all of them, or none."""

import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest

from batuta.pipeline.retention import (
    MAX_WORKER_LOG_BYTES,
    RetentionFolder,
    clean_up_work_dir,
    register_orchestrator,
)
from batuta.pipeline.worker_logs import joined, open_worker_logs
from batuta.profiling.capture.layout import LOGS_FOLDER, PROFILE_FOLDER, SUMMARY_TEXT
from tests.pipeline.profiled import PARTS, write_parts, write_whole

RUN = "0a1b-2"


@pytest.fixture
def retention(tmp_path: Path) -> RetentionFolder:
    return RetentionFolder(tmp_path)


@pytest.fixture
def work_dir(tmp_path: Path) -> Path:
    """A work folder with the profiles of two orchestrators."""
    folder = tmp_path / "work" / RUN
    for name in ("orchestrator", "maps"):
        write_whole(folder / name, name)
        register_orchestrator(folder, folder / name)
    return folder


def files(folder: Path) -> list[str]:
    """Files below a folder."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def clean_up_until(move: int, work_dir: Path, profiles: Path) -> None:
    """Put away; killed at the move of that number, or before all is shown."""
    moves = iter(range(move, -1, -1))
    really = shutil.move

    def killed_at_last(source: Path, target: Path) -> None:
        if next(moves) == 0:
            os._exit(9)
        really(source, target)

    shutil.move = killed_at_last  # type: ignore[assignment]  # in a process of its own
    Path.rename = lambda *_: os._exit(9)  # type: ignore[method-assign]  # the same
    clean_up_work_dir(work_dir, profiles)


@pytest.mark.parametrize("move", [0, 1, 4, 7, 8])
def test_a_clean_up_killed_at_any_move_is_completed_by_the_next(
    move: int, retention: RetentionFolder, work_dir: Path
) -> None:
    expected = [
        f"{name}/{path}" for name in ("maps", "orchestrator") for path in files(work_dir / name)
    ]
    assert len(expected) == 8
    process = get_context("spawn").Process(
        target=clean_up_until, args=(move, work_dir, retention.profiles(RUN))
    )
    process.start()
    process.join()
    assert process.exitcode == 9
    assert not retention.has_profiles(RUN)
    assert work_dir.exists()
    clean_up_work_dir(work_dir, retention.profiles(RUN))
    assert files(retention.profiles(RUN)) == expected
    assert [each.name for each in retention.profiles(RUN).parent.iterdir()] == [RUN]
    assert not work_dir.exists()


def test_concurrent_clean_ups_lose_nothing(retention: RetentionFolder, tmp_path: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        for number in range(20):
            folder = tmp_path / "work" / f"key-{number}"
            write_whole(folder / "orchestrator", "whole")
            register_orchestrator(folder, folder / "orchestrator")
            profiles = retention.profiles(folder.name)
            doing = [pool.submit(clean_up_work_dir, folder, profiles) for _ in range(4)]
            for each in doing:
                each.result()
            assert len(files(profiles)) == 4
            assert not folder.exists()


def test_what_cannot_be_retained_raises_and_nothing_partial_stays(
    retention: RetentionFolder, work_dir: Path
) -> None:
    # A file where the folder of the second orchestrator's profile must be.
    retention.profiles(RUN).parent.mkdir(parents=True)
    part = retention.profiles(RUN).with_name(f".{RUN}")
    part.mkdir()
    (part / "orchestrator").write_text("in the way")
    with pytest.raises(OSError, match="orchestrator"):
        clean_up_work_dir(work_dir, retention.profiles(RUN))
    assert not retention.has_profiles(RUN)
    assert not part.exists()
    assert not work_dir.exists()


def test_the_profile_of_a_run_replaces_that_of_the_run_before(
    retention: RetentionFolder, work_dir: Path, tmp_path: Path
) -> None:
    earlier = tmp_path / "work" / "0a1b-1"
    write_whole(earlier / "orchestrator", "earlier")
    register_orchestrator(earlier, earlier / "orchestrator")
    clean_up_work_dir(earlier, retention.profiles("0a1b-1"))
    assert retention.has_profiles("0a1b-1")
    clean_up_work_dir(work_dir, retention.profiles(RUN))
    assert retention.has_profiles(RUN)
    assert not retention.has_profiles("0a1b-1")


def test_a_run_that_opened_no_orchestrator_leaves_nothing(
    retention: RetentionFolder, tmp_path: Path
) -> None:
    folder = tmp_path / "work" / RUN
    write_whole(folder / "orchestrator", "nobody's")
    clean_up_work_dir(folder, retention.profiles(RUN))
    assert not folder.exists()
    assert not (tmp_path / "profiles").exists()
    clean_up_work_dir(folder, retention.profiles(RUN))
    assert not retention.has_profiles(RUN)


def test_an_output_folder_elsewhere_keeps_its_files_and_only_those_of_this_run_are_copied(
    retention: RetentionFolder, tmp_path: Path
) -> None:
    work, scratch = tmp_path / "work" / RUN, tmp_path / "scratch"
    work.mkdir(parents=True)
    write_whole(scratch, "of an earlier run")
    for path in scratch.rglob("*"):
        os.utime(path, (1_000_000, 1_000_000))
    shutil.copytree(scratch, tmp_path / "stale")
    register_orchestrator(work, scratch)
    register_orchestrator(work, tmp_path / "stale")
    (scratch / SUMMARY_TEXT).write_text("of this run")
    clean_up_work_dir(work, retention.profiles(RUN))
    assert [each.name for each in retention.profiles(RUN).iterdir()] == ["scratch"]
    assert files(retention.profiles(RUN)) == [f"scratch/{SUMMARY_TEXT}"]
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
    register_orchestrator(work, work / out_dir)
    register_orchestrator(work, work / out_dir)
    assert [each.name for each in (work / ".orchestrators").iterdir()] == [name]


def test_nothing_behind_symbolic_links_is_retained(
    retention: RetentionFolder, tmp_path: Path
) -> None:
    work, elsewhere = tmp_path / "work" / RUN, tmp_path / "elsewhere"
    write_parts(elsewhere)
    out_dir = work / "orchestrator"
    out_dir.mkdir(parents=True)
    (out_dir / PROFILE_FOLDER).symlink_to(elsewhere / PROFILE_FOLDER)
    (out_dir / SUMMARY_TEXT).symlink_to(elsewhere / PROFILE_FOLDER / PARTS[0])
    register_orchestrator(work, out_dir)
    clean_up_work_dir(work, retention.profiles(RUN))
    assert not retention.has_profiles(RUN)


def test_what_was_removed_in_part_is_removed(retention: RetentionFolder, work_dir: Path) -> None:
    clean_up_work_dir(work_dir, retention.profiles(RUN))
    folder = retention.profiles(RUN).parent
    shutil.copytree(folder, folder.with_name(f".{folder.name}"))
    retention.remove("0a1b")
    assert list(folder.parent.iterdir()) == []


def test_what_is_removed_goes_with_its_log_and_nothing_else(
    retention: RetentionFolder, work_dir: Path
) -> None:
    clean_up_work_dir(work_dir, retention.profiles(RUN))
    for key in ("0a1b", "other"):
        retention.log(key).parent.mkdir(exist_ok=True)
        retention.log(key).touch()
    retention.remove("0a1b")
    retention.remove("never there")
    assert not retention.has_profiles(RUN)
    assert not retention.log("0a1b").exists()
    assert retention.log("other").exists()


def test_the_logs_of_workers_are_retained_with_the_profiles(
    retention: RetentionFolder, work_dir: Path
) -> None:
    logs = work_dir / "maps" / LOGS_FOLDER
    logs.mkdir()
    (logs / "worker_1.log").write_text("computed")
    (logs / "worker_2.log").write_bytes(b"x" * (MAX_WORKER_LOG_BYTES + 1))
    (logs / "elsewhere.log").symlink_to("/etc/hostname")
    running = retention.worker_logs(RUN)
    assert [name for name, _ in running] == ["maps/worker_1.log", "maps/worker_2.log"]
    clean_up_work_dir(work_dir, retention.profiles(RUN))
    (one, path), (two, cut) = retention.worker_logs(RUN)
    assert (one, two) == ("maps/worker_1.log", "maps/worker_2.log")
    assert path.read_text() == "computed"
    assert cut.stat().st_size < MAX_WORKER_LOG_BYTES
    assert b"[log cut:" in cut.read_bytes()


def test_a_log_that_is_moved_while_it_is_opened_is_opened_where_it_is_then(
    retention: RetentionFolder, work_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    logs = work_dir / "maps" / LOGS_FOLDER
    logs.mkdir()
    (logs / "worker_1.log").write_text("computed")
    listed = retention.worker_logs(RUN)
    lists = iter([listed])

    def list_then_move(self: RetentionFolder, run: str) -> list[tuple[str, Path]]:
        monkeypatch.undo()
        clean_up_work_dir(work_dir, self.profiles(run))
        return next(lists)

    monkeypatch.setattr(RetentionFolder, "worker_logs", list_then_move)
    assert b"".join(joined(open_worker_logs(retention, RUN))) == b"== maps/worker_1.log\ncomputed\n"
