"""cProfile around tasks."""

import cProfile
import os
import pstats
import sys
import time
import types
from pathlib import Path

import pytest

from batuta.profiling.capture.contract import CallLabel, OpenCall
from batuta.profiling.capture.cprofile import DELIVER_EVERY_S
from batuta.profiling.capture.layout import CPROFILE_FOLDER
from batuta.profiling.capture.options import ProfileOptions, Scope
from tests.profiling.profiled_tasks import (
    TaskRunner,
    calls_of,
    exits,
    forks,
    is_refused_by_a_profiler,
    profiles_itself,
    raises,
    work,
)


def runner_with(folder: Path, scope: Scope) -> TaskRunner:
    return TaskRunner(folder, ProfileOptions(mode="cprofile", scope=scope))


def profiles(folder: Path) -> list[Path]:
    return sorted((folder / CPROFILE_FOLDER).glob("*.prof"))


def notes(folder: Path) -> str:
    return "".join(path.read_text() for path in (folder / CPROFILE_FOLDER).glob("*.txt"))


def test_the_profile_of_a_worker_has_the_calls_of_all_its_tasks(tmp_path: Path) -> None:
    runner = runner_with(tmp_path, "worker")
    runner.run(work, 10)
    runner.caller.flush()
    runner.run(work, 20)
    runner.caller.flush()
    (profile,) = profiles(tmp_path)
    assert calls_of(profile, "work") == 2
    assert calls_of(profile, "inner") == 30


def test_an_idle_worker_delivers_its_profile_from_time_to_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner = runner_with(tmp_path, "worker")
    clock_s = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: clock_s)
    runner.run(work, 10)
    runner.caller.on_idle()
    assert profiles(tmp_path) == []
    clock_s += 2 * DELIVER_EVERY_S
    runner.caller.on_idle()
    (profile,) = profiles(tmp_path)
    runner.run(work, 10)
    runner.caller.on_idle()
    assert calls_of(profile, "work") == 1
    runner.caller.flush()
    assert calls_of(profile, "work") == 2


def test_two_processes_of_one_name_do_not_overwrite_each_other(tmp_path: Path) -> None:
    for _ in range(2):
        runner = runner_with(tmp_path, "worker")
        runner.run(work, 10)
        runner.caller.flush()
    assert len(profiles(tmp_path)) == 2


def test_each_task_has_a_profile_under_scope_task(tmp_path: Path) -> None:
    runner = runner_with(tmp_path, "task")
    runner.run(work, 10)
    runner.run(work, 20)
    first, second = profiles(tmp_path)
    assert [first.name, second.name] == ["000000-work-1.prof", "000001-work-1.prof"]
    assert (calls_of(first, "inner"), calls_of(second, "inner")) == (10, 20)


@pytest.mark.parametrize("scope", ["worker", "task"])
def test_names_of_tasks_are_made_safe_for_files(tmp_path: Path, scope: Scope) -> None:
    runner = runner_with(tmp_path, scope)
    label = CallLabel(3, "../<locals>/tache é", 2)
    runner.caller.call(label, lambda: (work, (1,), {}))
    runner.caller.flush()
    (profile,) = profiles(tmp_path)
    if scope == "task":
        assert profile.name == "000003-locals-tache-2.prof"


@pytest.mark.parametrize(("task", "error"), [(raises, ValueError), (exits, SystemExit)])
@pytest.mark.parametrize("scope", ["worker", "task"])
def test_what_a_task_raises_is_raised_and_its_profile_is_kept(
    tmp_path: Path, task: OpenCall, error: type[BaseException], scope: Scope
) -> None:
    runner = runner_with(tmp_path, scope)
    with pytest.raises(error, match=r"as it does|7"):
        runner.run(task, 5)
    runner.caller.flush()
    (profile,) = profiles(tmp_path)
    assert calls_of(profile, "inner") == 5
    assert sys.getprofile() is None


def test_a_task_that_profiles_itself_runs_and_is_reported_as_a_gap(tmp_path: Path) -> None:
    runner = runner_with(tmp_path, "worker")
    assert runner.run(profiles_itself, 10) == work(10)
    runner.run(work, 10)
    runner.caller.flush()
    assert "profiles_itself profiles itself" in notes(tmp_path)
    (profile,) = profiles(tmp_path)
    assert calls_of(profile, "work") == 1
    assert sys.getprofile() is None


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="Python itself refuses the second one")
def test_a_task_that_is_refused_a_profiler_of_its_own_runs_again_without_ours(
    tmp_path: Path,
) -> None:
    runner = runner_with(tmp_path, "worker")
    assert [runner.run(is_refused_by_a_profiler, 1) for _ in range(2)] == ["ran", "ran"]
    runner.caller.flush()
    assert (
        notes(tmp_path) == "is_refused_by_a_profiler profiles itself: run again without (1 times)\n"
    )


def test_a_program_under_another_profiler_is_not_profiled_and_reported_as_a_gap(
    tmp_path: Path,
) -> None:
    runner = runner_with(tmp_path, "worker")
    whole = cProfile.Profile()
    whole.enable()
    try:
        value = runner.run(work, 10)
    finally:
        whole.disable()
    runner.caller.flush()
    assert value == work(10)
    assert "work ran under another profiler: not at all" in notes(tmp_path)
    assert profiles(tmp_path) == []
    whole.dump_stats(tmp_path / "whole.prof")
    assert calls_of(tmp_path / "whole.prof", "inner") == 10


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_the_child_that_a_task_forks_delivers_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner = runner_with(tmp_path, "task")
    handed_over: list[str] = []
    monkeypatch.setattr(runner.sink, "deliver_file", lambda *given: handed_over.append(given[1]))
    child = runner.run(forks, 5)
    if child == 0:
        os._exit(len(handed_over))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert handed_over == ["000000-forks-1.prof"]


def copy_of_work(size: int) -> int:
    """Compute as `work` does, by a copy of its code: dask gives each task its own."""
    return int(types.FunctionType(work.__code__.replace(), work.__globals__)(size))


def test_copies_of_the_code_of_a_function_count_together(tmp_path: Path) -> None:
    runner = runner_with(tmp_path, "worker")
    for _ in range(3):
        assert runner.run(copy_of_work, 4) == 14
    runner.caller.flush()
    (profile,) = profiles(tmp_path)
    assert calls_of(profile, "work") == 3
    assert calls_of(profile, "inner") == 12
    stats = pstats.Stats(str(profile)).stats  # type: ignore[attr-defined]  # not in its stubs
    (callers,) = (found[4] for place, found in stats.items() if place[2] == "inner")
    assert sum(each[0] for each in callers.values()) == 12
