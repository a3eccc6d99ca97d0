"""memray around tasks."""

import cProfile
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import memray
import pytest

from batuta.errors import BatutaError
from batuta.profiling.capture.contract import CallLabel
from batuta.profiling.capture.layout import MEMRAY_FOLDER
from batuta.profiling.capture.options import ProfileOptions, Scope
from batuta.profiling.capture.sink import PARTIAL_SUFFIX
from batuta.profiling.merge.memray import read_peak, read_peaks
from batuta.profiling.merge.model import MemoryPeak
from tests.profiling import profiled_tasks
from tests.profiling.profiled_tasks import (
    TaskRunner,
    allocates,
    exits,
    forks,
    kills_itself,
    line_of,
    raises,
    tracks_itself,
    work,
)

MB = 1_000_000


def runner_with(folder: Path, scope: Scope, *, may_be_killed: bool = False) -> TaskRunner:
    return TaskRunner(
        folder, ProfileOptions(mode="memray", scope=scope), may_be_killed=may_be_killed
    )


def files(folder: Path) -> list[Path]:
    return sorted((folder / MEMRAY_FOLDER).iterdir())


def names_the_allocation(peak: MemoryPeak, megabytes: int) -> bool:
    """Whether the line that held most is that of `allocates`, with what it held."""
    (first, *_) = peak.lines
    line = (profiled_tasks.__file__, line_of(allocates, "the allocation"), "allocates")
    return first.line == line and megabytes * MB <= first.held_bytes < (megabytes + 0.1) * MB


def test_the_file_of_a_worker_has_the_highest_peak_of_its_tasks_and_their_line(
    tmp_path: Path,
) -> None:
    runner = runner_with(tmp_path, "worker")
    for megabytes in (3, 20, 5):
        assert runner.run(allocates, megabytes) == megabytes * MB
    runner.caller.flush()
    (file,) = files(tmp_path)
    assert names_the_allocation(read_peak(file), 20)


def test_what_comes_after_a_flush_is_in_another_file(tmp_path: Path) -> None:
    runner = runner_with(tmp_path, "worker")
    for megabytes in (3, 20):
        runner.run(allocates, megabytes)
        runner.caller.flush()
    first, second = map(read_peak, files(tmp_path))
    assert names_the_allocation(first, 3)
    assert names_the_allocation(second, 20)


def test_a_worker_that_may_be_killed_writes_one_file_that_is_readable_at_any_moment(
    tmp_path: Path,
) -> None:
    runner = runner_with(tmp_path, "worker", may_be_killed=True)
    try:
        runner.run(allocates, 3)
        runner.caller.flush()
        (file,) = files(tmp_path)
        assert names_the_allocation(read_peak(file), 3)
        runner.run(allocates, 20)
        assert files(tmp_path) == [file]
        assert names_the_allocation(read_peak(file), 20)
    finally:
        runner.run(tracks_itself, str(tmp_path), 1)  # ends our tracker


@pytest.mark.parametrize("scope", ["worker", "task"])
def test_a_worker_killed_for_its_memory_leaves_the_line_that_allocated_it(
    tmp_path: Path, scope: Scope
) -> None:
    script = (
        "import pathlib, sys\n"
        "from batuta.profiling.capture.options import ProfileOptions\n"
        "from tests.profiling.profiled_tasks import TaskRunner, allocates, kills_itself\n"
        "options = ProfileOptions(mode='memray', scope=sys.argv[2])\n"
        "runner = TaskRunner(pathlib.Path(sys.argv[1]), options, may_be_killed=True)\n"
        "runner.run(allocates, 20)\n"
        "runner.run(kills_itself, 50)\n"
    )
    root = Path(profiled_tasks.__file__).parents[2]
    ended = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path), scope], check=False, cwd=root
    )
    assert ended.returncode == -signal.SIGKILL
    peak = read_peak(files(tmp_path)[-1])
    assert peak.lines[0].line.function == kills_itself.__name__
    assert 50 * MB <= peak.peak_bytes < 55 * MB


def test_each_task_has_a_file_under_scope_task(tmp_path: Path) -> None:
    runner = runner_with(tmp_path, "task")
    for megabytes in (3, 20):
        runner.run(allocates, megabytes)
    assert [path.name for path in files(tmp_path)] == [
        "000000-allocates-1.bin",
        "000001-allocates-1.bin",
    ]
    first, second = map(read_peak, files(tmp_path))
    assert names_the_allocation(first, 3)
    assert names_the_allocation(second, 20)


@pytest.mark.parametrize(("task", "error"), [(raises, ValueError), (exits, SystemExit)])
def test_what_a_task_raises_is_raised_and_its_file_is_kept(
    tmp_path: Path, task: type[BaseException], error: type[BaseException]
) -> None:
    runner = runner_with(tmp_path, "task")
    with pytest.raises(error, match=r"as it does|7"):
        runner.run(task, 5)
    (file,) = files(tmp_path)
    assert file.suffix != PARTIAL_SUFFIX
    with memray.Tracker(tmp_path / "other.bin"):  # ours has ended
        work(1)


def test_a_task_that_has_a_tracker_of_its_own_runs_without_ours(tmp_path: Path) -> None:
    runner = runner_with(tmp_path, "worker")
    runner.run(allocates, 3)
    assert runner.run(tracks_itself, str(tmp_path), 20) > 0
    assert read_peak(tmp_path / "own.bin").peak_bytes >= 20 * MB
    runner.run(allocates, 5)
    runner.caller.flush()
    peaks = sorted(read_peak(file).peak_bytes // MB for file in files(tmp_path))
    assert peaks == [3, 5]


def test_a_program_tracked_by_memray_already_is_refused_with_the_remedy(tmp_path: Path) -> None:
    runner = runner_with(tmp_path, "worker")
    with (
        memray.Tracker(tmp_path / "whole.bin"),
        pytest.raises(BatutaError, match="memray tracks this process already") as caught,
    ):
        runner.run(work, 1)
    assert "\n" not in str(caught.value)
    assert files(tmp_path) == []


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="cProfile is then no obstacle to memray")
def test_a_program_under_another_profiler_is_refused(tmp_path: Path) -> None:
    runner = runner_with(tmp_path, "worker")
    whole = cProfile.Profile()
    whole.enable()
    try:
        with pytest.raises(BatutaError, match="another profiler is active in this process"):
            runner.run(work, 1)
    finally:
        whole.disable()


def test_tasks_of_several_threads_are_in_the_file_of_their_worker(tmp_path: Path) -> None:
    runner = runner_with(tmp_path, "worker")
    ready = threading.Event()

    def later() -> None:
        ready.wait()
        runner.run(allocates, 20)

    thread = threading.Thread(target=later)  # it is there before the tracker
    thread.start()
    runner.run(allocates, 3)
    ready.set()
    thread.join()
    runner.caller.flush()
    (file,) = files(tmp_path)
    assert names_the_allocation(read_peak(file), 20)


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_the_child_that_a_task_forks_delivers_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner = runner_with(tmp_path, "task")
    handed_over: list[str] = []
    monkeypatch.setattr(runner.sink, "deliver_file", lambda *given: handed_over.append(given[1]))
    child = runner.caller.call(CallLabel(0, "forks", 1), lambda: (forks, (5,), {}))
    if child == 0:
        os._exit(len(handed_over))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert handed_over == ["000000-forks-1.bin"]


@pytest.mark.parametrize("scope", ["worker", "task"])
def test_a_task_runs_when_memray_fails_to_start_and_the_next_is_profiled(
    scope: Any, memray_failures: list[str], tmp_path: Path
) -> None:
    runner = TaskRunner(tmp_path, ProfileOptions(mode="memray", scope=scope))
    memray_failures.append("codeobject.c:1349")
    assert runner.run(allocates, 3) == 3 * MB
    assert not hasattr(threading.Thread, "_name")
    assert runner.run(allocates, 20) == 20 * MB
    runner.caller.flush()
    peaks, notes = read_peaks(tmp_path / MEMRAY_FOLDER)
    assert [peak.peak_bytes > 20 * MB for peak in peaks] == [True]
    assert notes == (
        "allocates was not profiled: memray could not start: codeobject.c:1349 (1 times)",
    )
