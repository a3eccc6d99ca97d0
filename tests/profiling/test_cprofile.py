"""cProfile around tasks."""

import cProfile
import importlib.util
import os
import pstats
import subprocess
import sys
import threading
import time
import types
from pathlib import Path

import pytest

from batuta.errors import ConfigurationError
from batuta.profiling.capture.contract import CallLabel, OpenCall
from batuta.profiling.capture.cprofile import DELIVER_EVERY_S
from batuta.profiling.capture.factory import check_available, make_caller
from batuta.profiling.capture.layout import CPROFILE_FOLDER
from batuta.profiling.capture.options import ProfileOptions, Scope
from batuta.profiling.capture.profiler import PlainCaller
from batuta.profiling.capture.sink import FolderSink
from tests.profiling.looked_at import (
    WORKER,
    Bench,
    exits,
    forks,
    inner,
    is_refused_by_a_profiler,
    profiles_itself,
    raises,
    work,
)


def bench_of(folder: Path, scope: Scope) -> Bench:
    return Bench(folder, ProfileOptions(mode="cprofile", scope=scope))


def profiles(folder: Path) -> list[Path]:
    return sorted((folder / CPROFILE_FOLDER).glob("*.prof"))


def notes(folder: Path) -> str:
    return "".join(path.read_text() for path in (folder / CPROFILE_FOLDER).glob("*.txt"))


def calls_of(path: Path, function: str) -> int:
    """How many calls of a function a profile has."""
    found = pstats.Stats(str(path)).stats  # type: ignore[attr-defined]  # it is there
    return sum(calls for (_, _, name), (_, calls, *_) in found.items() if name == function)


@pytest.mark.parametrize("options", [None, ProfileOptions()])
def test_nothing_stands_between_a_worker_and_its_tasks_unless_asked_for(
    tmp_path: Path, options: ProfileOptions | None
) -> None:
    bench = Bench(tmp_path, options)
    assert isinstance(bench.caller, PlainCaller)
    assert bench.run(work, 10) == work(10)
    bench.caller.flush()
    assert list(tmp_path.iterdir()) == []


def test_workers_import_no_profiler_that_is_not_asked_for() -> None:
    script = (
        "import sys, batuta.profiling.capture.factory, batuta.profiling.capture.sink\n"
        "heavy = {'cProfile', 'memray', 'pyarrow', 'numpy', 'ctypes'} & set(sys.modules)\n"
        "sys.exit(', '.join(heavy) or None)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script], check=False, capture_output=True, text=True
    )
    assert ended.stderr == ""


def test_the_profile_of_a_worker_has_the_calls_of_all_its_tasks(tmp_path: Path) -> None:
    bench = bench_of(tmp_path, "worker")
    bench.run(work, 10)
    bench.caller.flush()
    bench.run(work, 20)
    bench.caller.flush()
    (profile,) = profiles(tmp_path)
    assert calls_of(profile, "work") == 2
    assert calls_of(profile, "inner") == 30


def test_a_worker_that_rests_delivers_what_it_took_long_ago_and_not_each_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = bench_of(tmp_path, "worker")
    clock_s = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: clock_s)
    bench.run(work, 10)
    bench.caller.on_idle()
    assert profiles(tmp_path) == []
    clock_s += 2 * DELIVER_EVERY_S
    bench.caller.on_idle()
    (profile,) = profiles(tmp_path)
    bench.run(work, 10)
    bench.caller.on_idle()
    assert calls_of(profile, "work") == 1
    bench.caller.flush()
    assert calls_of(profile, "work") == 2


def test_two_processes_of_one_name_do_not_overwrite_each_other(tmp_path: Path) -> None:
    for _ in range(2):
        bench = bench_of(tmp_path, "worker")
        bench.run(work, 10)
        bench.caller.flush()
    assert len(profiles(tmp_path)) == 2


def test_each_task_has_a_profile_where_that_is_asked_for(tmp_path: Path) -> None:
    bench = bench_of(tmp_path, "task")
    bench.run(work, 10)
    bench.run(work, 20)
    first, second = profiles(tmp_path)
    assert [first.name, second.name] == ["000000-work-1.prof", "000001-work-1.prof"]
    assert (calls_of(first, "inner"), calls_of(second, "inner")) == (10, 20)


@pytest.mark.parametrize("scope", ["worker", "task"])
def test_a_name_that_no_file_could_have_is_made_safe(tmp_path: Path, scope: Scope) -> None:
    bench = bench_of(tmp_path, scope)
    label = CallLabel(3, "../<locals>/tache é", 2)
    bench.caller.call(label, lambda: (work, (1,), {}))
    bench.caller.flush()
    (profile,) = profiles(tmp_path)
    if scope == "task":
        assert profile.name == "000003-locals-tache-2.prof"


@pytest.mark.parametrize(("task", "error"), [(raises, ValueError), (exits, SystemExit)])
@pytest.mark.parametrize("scope", ["worker", "task"])
def test_what_a_task_raises_is_raised_and_its_profile_is_kept(
    tmp_path: Path, task: OpenCall, error: type[BaseException], scope: Scope
) -> None:
    bench = bench_of(tmp_path, scope)
    with pytest.raises(error, match=r"as it does|7"):
        bench.run(task, 5)
    bench.caller.flush()
    (profile,) = profiles(tmp_path)
    assert calls_of(profile, "inner") == 5
    assert sys.getprofile() is None


def test_a_task_that_profiles_itself_runs_and_that_is_told(tmp_path: Path) -> None:
    bench = bench_of(tmp_path, "worker")
    assert bench.run(profiles_itself, 10) == work(10)
    bench.run(work, 10)
    bench.caller.flush()
    assert "profiles_itself profiles itself" in notes(tmp_path)
    (profile,) = profiles(tmp_path)
    assert calls_of(profile, "work") == 1
    assert sys.getprofile() is None


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="Python itself refuses the second one")
def test_a_task_that_is_refused_a_profiler_of_its_own_runs_again_without_ours(
    tmp_path: Path,
) -> None:
    bench = bench_of(tmp_path, "worker")
    assert [bench.run(is_refused_by_a_profiler, 1) for _ in range(2)] == ["ran", "ran"]
    bench.caller.flush()
    assert (
        notes(tmp_path) == "is_refused_by_a_profiler profiles itself: run again without (1 times)\n"
    )


def test_a_program_that_is_profiled_as_a_whole_is_left_alone_and_that_is_told(
    tmp_path: Path,
) -> None:
    bench = bench_of(tmp_path, "worker")
    whole = cProfile.Profile()
    whole.enable()
    try:
        value = bench.run(work, 10)
    finally:
        whole.disable()
    bench.caller.flush()
    assert value == work(10)
    assert "work ran under another profiler: not at all" in notes(tmp_path)
    assert profiles(tmp_path) == []
    whole.dump_stats(tmp_path / "whole.prof")
    assert calls_of(tmp_path / "whole.prof", "inner") == 10


def test_a_task_within_a_task_is_a_part_of_it(tmp_path: Path) -> None:
    bench = bench_of(tmp_path, "task")

    def outer() -> int:
        value: int = bench.caller.call(CallLabel(8, "inside", 1), lambda: (work, (4,), {}))
        return value

    assert bench.caller.call(CallLabel(7, "outer", 1), lambda: (outer, (), {})) == work(4)
    (profile,) = profiles(tmp_path)
    assert profile.name == "000007-outer-1.prof"
    assert calls_of(profile, "inner") == 4


def test_threads_run_tasks_one_at_a_time(tmp_path: Path) -> None:
    bench = bench_of(tmp_path, "worker")
    running: list[int] = []
    most: list[int] = []

    def task() -> None:
        running.append(1)
        for _ in range(50):
            os.sched_yield()
            most.append(len(running))
        running.pop()

    def run_tasks() -> None:
        for number in range(10):
            bench.caller.call(CallLabel(number, "task", 1), lambda: (task, (), {}))

    threads = [threading.Thread(target=run_tasks) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(most) == 4 * 10 * 50
    assert max(most) == 1


def test_a_flush_while_a_task_runs_does_not_wait_and_is_made_up_for(tmp_path: Path) -> None:
    bench = bench_of(tmp_path, "worker")

    def task() -> bool:
        other = threading.Thread(target=bench.caller.flush)
        other.start()
        other.join()
        inner(1)
        return profiles(tmp_path) == []

    assert bench.caller.call(CallLabel(0, "task", 1), lambda: (task, (), {}))
    (profile,) = profiles(tmp_path)
    assert calls_of(profile, "inner") == 1


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_the_child_that_a_task_forks_delivers_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = bench_of(tmp_path, "task")
    handed_over: list[str] = []
    monkeypatch.setattr(bench.sink, "deliver_file", lambda *given: handed_over.append(given[1]))
    child = bench.run(forks, 5)
    if child == 0:
        os._exit(len(handed_over))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert handed_over == ["000000-forks-1.prof"]


def test_a_file_is_named_once_it_is_whole(tmp_path: Path) -> None:
    sink = FolderSink(tmp_path)
    draft = sink.draft_path(CPROFILE_FOLDER, "a.prof")
    draft.write_bytes(b"half")
    assert profiles(tmp_path) == []
    sink.deliver_file(CPROFILE_FOLDER, "a.prof", draft)
    assert [path.read_bytes() for path in profiles(tmp_path)] == [b"half"]
    assert not draft.exists()


def test_memray_that_is_missing_is_one_line_with_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    memray = ProfileOptions(mode="memray")
    with pytest.raises(ConfigurationError) as caught:
        check_available(memray)
    assert caught.value.problems == (
        "profiling.mode: memray is not installed: pip install 'batuta[profiling]'",
    )
    with pytest.raises(ConfigurationError):
        make_caller(memray, WORKER, FolderSink(tmp_path))
    check_available(ProfileOptions(mode="cprofile"))
    monkeypatch.setattr(sys, "platform", "win32")
    with pytest.raises(ConfigurationError, match="does not run on Windows"):
        check_available(memray)


def copy_of_work(size: int) -> int:
    """Compute as `work` does, by a copy of its code: dask gives each task its own."""
    return int(types.FunctionType(work.__code__.replace(), work.__globals__)(size))


def test_copies_of_the_code_of_a_function_count_together(tmp_path: Path) -> None:
    bench = bench_of(tmp_path, "worker")
    for _ in range(3):
        assert bench.run(copy_of_work, 4) == 14
    bench.caller.flush()
    (profile,) = profiles(tmp_path)
    assert calls_of(profile, "work") == 3
    assert calls_of(profile, "inner") == 12
    stats = pstats.Stats(str(profile)).stats  # type: ignore[attr-defined]  # not in its stubs
    (callers,) = (found[4] for place, found in stats.items() if place[2] == "inner")
    assert sum(each[0] for each in callers.values()) == 12
