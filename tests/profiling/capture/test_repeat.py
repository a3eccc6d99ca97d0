"""Repetitions of tasks: fresh arguments, and what their worker holds after each."""

import itertools
import statistics
from pathlib import Path

import pytest

from batuta.profiling.capture.layout import CPROFILE_FOLDER
from batuta.profiling.capture.options import ProfileOptions, ProfilingMode
from batuta.profiling.capture.records import LoopRow
from tests.profiling import profiled_tasks
from tests.profiling.profiled_tasks import (
    LEAK_BYTES,
    WORKER,
    TaskRunner,
    calls_of,
    grows_its_argument,
    keeps_nothing,
    leaks,
    work,
)

HERE = profiled_tasks.__file__
MODES: list[ProfilingMode] = ["cars_profiling", "cprofile", "memray"]


def runner_with(folder: Path, mode: ProfilingMode, loops: int = 10) -> TaskRunner:
    return TaskRunner(folder, ProfileOptions(mode=mode, scope="task", loops=loops))


def slope_of(rows: list[LoopRow]) -> float:
    """Median growth from one repetition to the next, the first left out."""
    held = [row.held_bytes for row in rows[1:]]
    return statistics.median(after - before for before, after in itertools.pairwise(held))


@pytest.mark.parametrize("mode", MODES)
def test_each_repetition_has_fresh_arguments_and_the_last_gives_the_result(
    tmp_path: Path, mode: ProfilingMode
) -> None:
    runner = runner_with(tmp_path, mode, loops=6)
    assert runner.run(grows_its_argument, [1, 2]) == 3
    rows = runner.sink.collect_loops()
    assert [row.loop for row in rows] == [1, 2, 3, 4, 5]
    assert {(row.task, row.name, row.worker) for row in rows} == {
        (0, "grows_its_argument", WORKER.name)
    }
    assert all(row.wall_s > 0 and row.held_bytes > 0 for row in rows)


@pytest.mark.parametrize("mode", MODES)
def test_a_task_runs_as_often_as_asked(tmp_path: Path, mode: ProfilingMode) -> None:
    runner = runner_with(tmp_path, mode, loops=7)
    log = tmp_path / "log"
    log.touch()
    runner.run(add_a_line, str(log))
    assert log.read_text() == "ran\n" * 7


def add_a_line(path: str) -> None:
    with Path(path).open("a") as stream:
        stream.write("ran\n")


@pytest.mark.parametrize("mode", MODES)
def test_a_repetition_that_raises_ends_the_task_and_those_before_have_rows(
    tmp_path: Path, mode: ProfilingMode
) -> None:
    runner = runner_with(tmp_path, mode)
    counter = tmp_path / "counter"
    counter.write_text("0")
    with pytest.raises(ValueError, match="the third time"):
        runner.run(raises_the_third_time, str(counter))
    assert [row.loop for row in runner.sink.collect_loops()] == [1, 2]
    assert runner.run(work, 3) == work(3)  # the next task is reader at as if nothing had happened


def raises_the_third_time(path: str) -> None:
    counter = Path(path)
    counter.write_text(str(int(counter.read_text()) + 1))
    if counter.read_text() == "3":
        raise ValueError("the third time")


@pytest.mark.parametrize("mode", MODES)
def test_the_growth_of_a_task_that_leaks_is_what_it_leaks(
    tmp_path: Path, mode: ProfilingMode
) -> None:
    runner = runner_with(tmp_path, mode, loops=20)
    runner.run(leaks, 1000)
    assert slope_of(runner.sink.collect_loops()) == pytest.approx(LEAK_BYTES, rel=0.1)


@pytest.mark.parametrize("mode", MODES)
def test_a_task_that_frees_its_memory_does_not_grow(tmp_path: Path, mode: ProfilingMode) -> None:
    runner = runner_with(tmp_path, mode, loops=20)
    runner.run(keeps_nothing, 1_000_000)
    assert abs(slope_of(runner.sink.collect_loops())) < LEAK_BYTES / 5


def test_each_repetition_is_profiled(tmp_path: Path) -> None:
    runner = runner_with(tmp_path, "cprofile", loops=5)
    runner.run(work, 10)
    (profile,) = (tmp_path / CPROFILE_FOLDER).iterdir()
    assert calls_of(profile, "inner") == 50
