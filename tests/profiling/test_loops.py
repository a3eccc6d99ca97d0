"""Repetitions of tasks: what their worker holds after each, and the lines that leak."""

import itertools
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from batuta.profiling.capture.attribution import Line
from batuta.profiling.capture.layout import CPROFILE_FOLDER, MEMRAY_FOLDER
from batuta.profiling.capture.leaks import leaking_lines
from batuta.profiling.capture.options import ProfileOptions, ProfilingMode
from batuta.profiling.capture.records import LeakRow, LoopRow
from batuta.profiling.merge.memray import read_peak
from tests.profiling import looked_at
from tests.profiling.looked_at import (
    LEAK_BYTES,
    WORKER,
    Bench,
    grows_its_argument,
    keeps_its_argument,
    keeps_nothing,
    leaks,
    leaks_in_a_library,
    leaks_small_objects,
    line_of,
    replaces_what_it_keeps,
    work,
)
from tests.profiling.test_cprofile import calls_of

HERE = looked_at.__file__
MODES: list[ProfilingMode] = ["cars_profiling", "cprofile", "memray"]


def bench_of(folder: Path, mode: ProfilingMode, loops: int = 10) -> Bench:
    return Bench(folder, ProfileOptions(mode=mode, scope="task", loops=loops))


def slope_of(rows: list[LoopRow]) -> float:
    """Median growth from one repetition to the next, the first left out."""
    held = [row.held_bytes for row in rows[1:]]
    return statistics.median(after - before for before, after in itertools.pairwise(held))


@pytest.mark.parametrize("mode", MODES)
def test_each_repetition_has_fresh_arguments_and_the_last_gives_the_result(
    tmp_path: Path, mode: ProfilingMode
) -> None:
    bench = bench_of(tmp_path, mode, loops=6)
    assert bench.run(grows_its_argument, [1, 2]) == 3
    rows = bench.sink.collect_loops()
    assert [row.loop for row in rows] == [1, 2, 3, 4, 5]
    assert {(row.task, row.name, row.worker) for row in rows} == {
        (0, "grows_its_argument", WORKER.name)
    }
    assert all(row.wall_s > 0 and row.held_bytes > 0 for row in rows)


@pytest.mark.parametrize("mode", MODES)
def test_a_task_runs_as_often_as_asked(tmp_path: Path, mode: ProfilingMode) -> None:
    bench = bench_of(tmp_path, mode, loops=7)
    log = tmp_path / "log"
    log.touch()
    bench.run(add_a_line, str(log))
    assert log.read_text() == "ran\n" * 7


def add_a_line(path: str) -> None:
    with Path(path).open("a") as stream:
        stream.write("ran\n")


@pytest.mark.parametrize("mode", MODES)
def test_a_repetition_that_raises_ends_the_task_and_those_before_are_told(
    tmp_path: Path, mode: ProfilingMode
) -> None:
    bench = bench_of(tmp_path, mode)
    counter = tmp_path / "counter"
    counter.write_text("0")
    with pytest.raises(ValueError, match="the third time"):
        bench.run(raises_the_third_time, str(counter))
    assert [row.loop for row in bench.sink.collect_loops()] == [1, 2]
    assert bench.run(work, 3) == work(3)  # the next task is looked at as if nothing had happened


def raises_the_third_time(path: str) -> None:
    counter = Path(path)
    counter.write_text(str(int(counter.read_text()) + 1))
    if counter.read_text() == "3":
        raise ValueError("the third time")


@pytest.mark.parametrize("mode", MODES)
def test_the_growth_of_a_task_that_leaks_is_what_it_leaks(
    tmp_path: Path, mode: ProfilingMode
) -> None:
    bench = bench_of(tmp_path, mode, loops=20)
    bench.run(leaks, 1000)
    assert slope_of(bench.sink.collect_loops()) == pytest.approx(LEAK_BYTES, rel=0.1)


@pytest.mark.parametrize("mode", MODES)
def test_a_task_that_frees_what_it_takes_does_not_grow(tmp_path: Path, mode: ProfilingMode) -> None:
    bench = bench_of(tmp_path, mode, loops=20)
    bench.run(keeps_nothing, 1_000_000)
    assert abs(slope_of(bench.sink.collect_loops())) < LEAK_BYTES / 5


def leak_of(folder: Path, task: Callable[..., Any], *args: Any) -> list[LeakRow]:
    bench = bench_of(folder, "memray")
    bench.run(task, *args)
    return bench.sink.collect_leaks()


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


def test_an_argument_that_is_kept_is_told(tmp_path: Path) -> None:
    (row,) = leak_of(tmp_path, keeps_its_argument, bytearray(LEAK_BYTES))
    assert row.function == "keeps_its_argument (an argument)"
    assert (row.file, row.line) == (HERE, keeps_its_argument.__code__.co_firstlineno)
    assert row.bytes_per_loop == pytest.approx(LEAK_BYTES, rel=0.05)


@pytest.mark.parametrize("task", [keeps_nothing, replaces_what_it_keeps, work])
def test_a_task_that_leaks_nothing_has_no_line_named(
    tmp_path: Path, task: Callable[..., Any]
) -> None:
    assert leak_of(tmp_path, task, 20_000) == []


def test_repetitions_are_profiled_each(tmp_path: Path) -> None:
    bench = bench_of(tmp_path, "cprofile", loops=5)
    bench.run(work, 10)
    (profile,) = (tmp_path / CPROFILE_FOLDER).iterdir()
    assert calls_of(profile, "inner") == 50


def test_the_file_of_memray_of_repetitions_is_kept_and_no_other(tmp_path: Path) -> None:
    bench = bench_of(tmp_path, "memray")
    bench.run(keeps_nothing, 1_000_000)
    (file,) = (tmp_path / MEMRAY_FOLDER).iterdir()
    assert file.name == "000000-keeps_nothing-1.bin"
    assert read_peak(file).peak_bytes > 8_000_000


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


def test_the_least_of_both_views_counts_and_the_most_come_first() -> None:
    apart = [{A: 1000, B: 3000, C: 10}] * 3
    at_once = {A: 3000, B: 7000, C: 40, D: 9000}
    assert list(leaking_lines(apart, at_once, together=3).items()) == [(B, 2000), (A, 1000)]


def test_few_repetitions_are_looked_at_one_by_one_alone() -> None:
    assert leaking_lines([{A: 1000}], None, together=0) == {A: 1000}
