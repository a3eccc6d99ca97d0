"""The lines that leak in repeated tasks."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from batuta.profiling.capture.attribution import Line
from batuta.profiling.capture.layout import MEMRAY_FOLDER
from batuta.profiling.capture.leaks import leaking_lines
from batuta.profiling.capture.options import ProfileOptions
from batuta.profiling.capture.records import LeakRow
from batuta.profiling.merge.memray import read_peak, read_peaks
from tests.profiling import profiled_tasks
from tests.profiling.profiled_tasks import (
    LEAK_BYTES,
    WORKER,
    TaskRunner,
    keeps_its_argument,
    keeps_nothing,
    leaks,
    leaks_in_a_library,
    leaks_small_objects,
    line_of,
    replaces_what_it_keeps,
    work,
)

HERE = profiled_tasks.__file__


def runner_with(folder: Path) -> TaskRunner:
    return TaskRunner(folder, ProfileOptions(mode="memray", scope="task", loops=10))


def leak_of(folder: Path, task: Callable[..., Any], *args: Any) -> list[LeakRow]:
    runner = runner_with(folder)
    runner.run(task, *args)
    return runner.sink.collect_leaks()


@pytest.mark.parametrize("task", [leaks, leaks_in_a_library])
def test_the_line_that_leaks_is_named_with_what_it_leaks(
    tmp_path: Path, task: Callable[..., Any]
) -> None:
    (row,) = leak_of(tmp_path, task, 1000)
    assert (row.task, row.name, row.worker) == (0, task.__name__, WORKER.name)
    assert (row.file, row.line, row.function) == (HERE, line_of(task, "the leak"), task.__name__)
    assert row.bytes_per_loop == pytest.approx(LEAK_BYTES, rel=0.01)


def test_small_objects_that_leak_are_counted_one_by_one(tmp_path: Path) -> None:
    rows = leak_of(tmp_path, leaks_small_objects, 1)
    assert {row.line for row in rows} == {line_of(leaks_small_objects, "the leak")}
    # A string of 8 characters takes 57 bytes, and some in the list, which grows by leaps.
    assert 2000 * 57 <= sum(row.bytes_per_loop for row in rows) < 2000 * 57 * 1.5


def test_a_kept_argument_is_reported_at_the_definition_of_the_task(tmp_path: Path) -> None:
    (row,) = leak_of(tmp_path, keeps_its_argument, bytearray(LEAK_BYTES))
    assert row.function == "keeps_its_argument (an argument)"
    assert (row.file, row.line) == (HERE, keeps_its_argument.__code__.co_firstlineno)
    assert row.bytes_per_loop == pytest.approx(LEAK_BYTES, rel=0.05)


@pytest.mark.parametrize("task", [keeps_nothing, replaces_what_it_keeps, work])
def test_a_task_that_leaks_nothing_has_no_line_named(
    tmp_path: Path, task: Callable[..., Any]
) -> None:
    assert leak_of(tmp_path, task, 20_000) == []


def test_the_memray_file_of_the_tracked_repetitions_is_delivered_and_no_other(
    tmp_path: Path,
) -> None:
    runner = runner_with(tmp_path)
    runner.run(keeps_nothing, 1_000_000)
    (file,) = (tmp_path / MEMRAY_FOLDER).iterdir()
    assert file.name == "000000-keeps_nothing-1.bin"
    assert read_peak(file).peak_bytes > 8_000_000


def test_a_repeated_task_runs_when_memray_fails_to_start(
    memray_failures: list[str], tmp_path: Path
) -> None:
    runner = TaskRunner(tmp_path, ProfileOptions(mode="memray", loops=7))
    memray_failures.append("codeobject.c:1349")
    assert len(runner.run(leaks, 10)) == 10
    runner.caller.flush()
    assert not runner.sink.collect_leaks()
    assert runner.sink.collect_loops()
    _, notes = read_peaks(tmp_path / MEMRAY_FOLDER)
    assert "leaks was not profiled" in notes[0]


# What survives, and what of it is a leak

A, B, C, D = (Line("program.py", number, "task") for number in range(1, 5))


def test_a_line_that_survives_as_often_as_it_ran_leaks() -> None:
    apart = [{A: 1000}, {A: 1100}, {A: 900}]
    assert leaking_lines(apart, {A: 4000}, together=4) == {A: 1000}


def test_what_is_replaced_does_not_leak() -> None:
    assert leaking_lines([{A: 1000}] * 4, {A: 1000}, together=4) == {}


def test_what_was_kept_once_does_not_leak() -> None:
    apart = [{A: 9000}, {}, {}]
    assert leaking_lines(apart, {B: 9000}, together=3) == {}


def test_the_smaller_of_both_views_counts_and_the_largest_come_first() -> None:
    apart = [{A: 1000, B: 3000, C: 10}] * 3
    at_once = {A: 3000, B: 7000, C: 40, D: 9000}
    assert list(leaking_lines(apart, at_once, together=3).items()) == [(B, 2000), (A, 1000)]


def test_a_few_repetitions_are_only_tracked_one_by_one() -> None:
    assert leaking_lines([{A: 1000}], None, together=0) == {A: 1000}
