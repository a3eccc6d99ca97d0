"""Writing a profile: in parts during the run, joined at its end."""

import functools
import threading
from pathlib import Path

import pytest
from pyarrow import parquet

from batuta.profiling.capture.layout import (
    CPROFILE_FOLDER,
    LEAKS,
    LOOPS,
    PROFILE_FOLDER,
    RUN_FILE,
    TASKS,
)
from batuta.profiling.capture.records import (
    LeakRow,
    LoopRow,
    Measure,
    Repeats,
    TaskOutcome,
    TaskRow,
    WorkerId,
)
from batuta.profiling.files import writer as writer_module
from batuta.profiling.files.reader import read_profile
from batuta.profiling.files.run_info import RunInfo, RunState, parse_run_info
from batuta.profiling.files.writer import ProfileWriter
from tests.support.waiting import eventually_sync


def info(state: RunState = RunState.RUNNING) -> RunInfo:
    return RunInfo(
        state=state,
        version="1",
        mode="multiprocessing",
        config={"mode": "multiprocessing"},
        host="here",
        cores=2,
        ram_bytes=10**9,
        started_s=1000.0,
        ended_s=None if state is RunState.RUNNING else 1010.0,
    )


def row(task: int, *after: int) -> TaskRow:
    measure = Measure(f"step {task % 2}", 1000.0 + task, 0.5, 0.4, 10**6, 0, 1, 2)
    worker = WorkerId("process 7", "here", 7)
    return TaskRow(task, 1, TaskOutcome.DONE, None, worker, 0.1, after, measure)


@pytest.fixture
def inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a profile, written often."""
    monkeypatch.setattr(writer_module, "WRITE_EVERY_S", 0.01)
    folder = tmp_path / PROFILE_FOLDER
    folder.mkdir()
    return folder


def test_rows_are_on_disk_during_the_run_and_in_one_table_at_its_end(inside: Path) -> None:
    writer = ProfileWriter(inside, info())
    for count in range(1, 21):
        task = 2 * (count - 1)
        writer.record_places([(task + 1, "heights", task // 20, task % 20 // 2)])
        writer.record_tasks([row(task), row(task + 1, task)])
        eventually_sync(functools.partial(_has_rows, inside, 2 * count))
    assert len(list(inside.glob("tasks-*.parquet"))) >= 2
    assert read_profile(inside).run.state is RunState.RUNNING
    writer.close(info(RunState.DONE))
    assert sorted(each.name for each in inside.iterdir()) == [
        "places.parquet",
        RUN_FILE,
        "tasks.parquet",
    ]
    found = parquet.read_table(inside / f"{TASKS}.parquet").to_pandas()
    assert list(found.task) == list(range(40))
    assert set(found.dataset) == {"heights"}
    assert list(found.row[found.task < 20].unique()) == [0]
    assert read_profile(inside).run.state is RunState.DONE


def _has_rows(inside: Path, count: int) -> bool:
    rows: int = read_profile(inside).tasks.num_rows
    return rows == count


def test_rows_of_many_threads_are_all_there(inside: Path) -> None:
    writer = ProfileWriter(inside, info())

    def take_from(first: int) -> None:
        for number in range(first, first + 500):
            writer.record_tasks([row(number)])

    threads = [threading.Thread(target=take_from, args=(n,)) for n in range(0, 2000, 500)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    writer.close(info(RunState.DONE))
    assert sorted(read_profile(inside).tasks["task"].to_pylist()) == list(range(2000))


def test_a_run_without_tasks_has_a_profile_too(inside: Path) -> None:
    ProfileWriter(inside, info()).close(info(RunState.DONE))
    assert read_profile(inside).tasks.num_rows == 0


def test_repetitions_and_leaks_are_written(inside: Path) -> None:
    writer = ProfileWriter(inside, info())
    loop = LoopRow(3, "step", "process 7", 1, 0.1, 10**6)
    leak = LeakRow(3, "step", "process 7", "step.py", 12, "grow", 100_000)
    writer.record_repeats(Repeats((loop,), (leak,)))
    writer.close(info(RunState.DONE))
    assert parquet.read_table(inside / f"{LOOPS}.parquet").to_pylist() == [loop._asdict()]
    assert parquet.read_table(inside / f"{LEAKS}.parquet").to_pylist() == [leak._asdict()]


def test_a_file_of_a_worker_is_written_in_the_folder_of_its_profiler(inside: Path) -> None:
    writer = ProfileWriter(inside, info())
    writer.record_file(CPROFILE_FOLDER, "node7-12.prof", b"profile")
    writer.close(info(RunState.DONE))
    assert (inside / CPROFILE_FOLDER / "node7-12.prof").read_bytes() == b"profile"
    assert not read_profile(inside).run.notes


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        ("..", "run.json"),
        (CPROFILE_FOLDER, "../run.json"),
        (CPROFILE_FOLDER, ".hidden"),
        (CPROFILE_FOLDER, ""),
        ("elsewhere", "a.prof"),
    ],
)
def test_a_name_from_outside_cannot_leave_the_folders_of_profilers(
    inside: Path, folder: str, name: str
) -> None:
    writer = ProfileWriter(inside, info())
    writer.record_file(folder, name, b"mischief")
    writer.close(info(RunState.DONE))
    assert [each.name for each in inside.iterdir()] == [RUN_FILE]
    (note,) = read_profile(inside).run.notes
    assert "not a valid name for a file of a profiler" in note


def test_why_a_profile_could_not_be_written_is_in_its_notes(
    inside: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(writer_module, "_write_table", full)
    writer = ProfileWriter(inside, info())
    writer.record_tasks([row(1)])
    eventually_sync(lambda: writer.problem is not None)
    writer.record_tasks([row(2)])  # is not kept: nobody would write it
    writer.close(info(RunState.FAILED))
    description = parse_run_info((inside / RUN_FILE).read_text())
    assert description.notes == ("the profile is incomplete: No space left on device",)
