"""The files of profilers, merged at the end of a run."""

import os
import pstats
import re
from pathlib import Path
from typing import Any

import memray
import pyarrow.parquet as pq
import pytest
import rasterio

from batuta.profiling.capture.attribution import Line
from batuta.profiling.capture.layout import (
    CPROFILE_FOLDER,
    CPROFILE_MERGED,
    CPROFILE_TEXT,
    LEAKS,
    MEMRAY_FOLDER,
    MEMRAY_TEXT,
    PROFILE_FOLDER,
)
from batuta.profiling.capture.options import ProfileOptions
from batuta.profiling.capture.records import LeakRow
from batuta.profiling.capture.sink import PARTIAL_SUFFIX
from batuta.profiling.files.schemas import leak_table
from batuta.profiling.merge.memray import read_peaks
from batuta.profiling.merge.merge import (
    leaks_by_line,
    merge_profiler_files,
    read_leaks,
    read_profiler_files,
)
from batuta.profiling.merge.model import Leak, ProfilerReport
from tests.cluster.conftest import warm_forkserver
from tests.profiling import leaky_program, profiled_tasks
from tests.profiling.profiled_tasks import (
    TaskRunner,
    allocates,
    calls_of,
    line_of,
    profiles_itself,
    work,
)

__all__ = ["warm_forkserver"]

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")

MB = 1_000_000
LEAK = LeakRow(0, "match", "process 1", "match.py", 12, "score", 1000)


def test_a_run_that_was_not_profiled_has_nothing_to_merge(tmp_path: Path) -> None:
    assert merge_profiler_files(tmp_path) == ProfilerReport()
    assert list(tmp_path.iterdir()) == []


# cProfile


def test_the_profiles_of_workers_are_added_up(tmp_path: Path) -> None:
    for size in (10, 20):
        runner = TaskRunner(tmp_path, ProfileOptions(mode="cprofile"))
        runner.run(work, size)
        runner.caller.flush()
    (times,) = merge_profiler_files(tmp_path).times
    assert (times.task, times.profiles) == (None, 2)
    inner = next(each for each in times.by_total if each.function == "inner")
    assert (inner.file, inner.line) == (
        profiled_tasks.__file__,
        profiled_tasks.inner.__code__.co_firstlineno,
    )
    assert inner.calls == 30
    assert 0 < inner.own_s <= inner.total_s <= times.total_s
    assert calls_of(tmp_path / CPROFILE_MERGED, "inner") == 30
    text = (tmp_path / CPROFILE_TEXT).read_text()
    assert re.search(rf"\b30 +inner \({re.escape(inner.file)}:{inner.line}\)", text)


def test_functions_are_sorted_by_total_and_by_own_time(tmp_path: Path) -> None:
    runner = TaskRunner(tmp_path, ProfileOptions(mode="cprofile"))
    runner.run(work, 3000)
    runner.caller.flush()
    (times,) = read_profiler_files(tmp_path).times
    assert times.by_total[0].function == "work"
    assert [each.own_s for each in times.by_own] == sorted(
        (each.own_s for each in times.by_own), reverse=True
    )
    assert not (tmp_path / CPROFILE_TEXT).exists()  # only `merge` writes


def test_profiles_of_tasks_are_added_up_by_name(tmp_path: Path) -> None:
    runner = TaskRunner(tmp_path, ProfileOptions(mode="cprofile", scope="task"))
    runner.run(work, 10)
    runner.run(work, 20)
    runner.run(allocates, 1)
    every, *by_name = merge_profiler_files(tmp_path).times
    assert (every.task, every.profiles) == (None, 3)
    assert {times.task: times.profiles for times in by_name} == {"work": 2, "allocates": 1}
    assert every.total_s == pytest.approx(sum(times.total_s for times in by_name))
    text = (tmp_path / CPROFILE_TEXT).read_text()
    assert "tasks work:" in text
    assert "in 2 profiles" in text


def test_profiles_that_cannot_be_read_are_named_and_the_others_count(tmp_path: Path) -> None:
    runner = TaskRunner(tmp_path, ProfileOptions(mode="cprofile", scope="task"))
    runner.run(work, 10)
    folder = tmp_path / CPROFILE_FOLDER
    (whole,) = folder.iterdir()
    (folder / "half.prof").write_bytes(whole.read_bytes()[:-10])
    (folder / "other.prof").write_bytes(b"something else")
    (folder / "empty.prof").touch()
    (folder / f"cut.prof{PARTIAL_SUFFIX}").touch()
    report = merge_profiler_files(tmp_path)
    assert report.times[0].profiles == 1
    named = {note.split()[0] for note in report.notes}
    assert named == {"half.prof", "other.prof", "empty.prof", f"cut.prof{PARTIAL_SUFFIX}"}
    text = (tmp_path / CPROFILE_TEXT).read_text()
    assert all(f"Note: {note}\n" in text for note in report.notes)


def test_gaps_are_in_the_notes(tmp_path: Path) -> None:
    for _ in range(2):
        runner = TaskRunner(tmp_path, ProfileOptions(mode="cprofile"))
        runner.run(profiles_itself, 1)
        runner.caller.flush()
    (note,) = merge_profiler_files(tmp_path).notes
    assert "profiles_itself profiles itself" in note
    assert note.endswith("in 2 workers")


def test_a_merged_profile_is_read_by_pstats(tmp_path: Path) -> None:
    runner = TaskRunner(tmp_path, ProfileOptions(mode="cprofile"))
    runner.run(work, 1)
    runner.caller.flush()
    merge_profiler_files(tmp_path)
    with (tmp_path / "printed.txt").open("w") as stream:
        pstats.Stats(str(tmp_path / CPROFILE_MERGED), stream=stream).print_stats()
    assert "inner" in (tmp_path / "printed.txt").read_text()


# memray


def tracked(folder: Path, *megabytes: int) -> Path:
    runner = TaskRunner(folder, ProfileOptions(mode="memray", scope="task"))
    for each in megabytes:
        runner.run(allocates, each)
    return folder / MEMRAY_FOLDER


def test_peaks_come_with_their_lines_the_highest_first(tmp_path: Path) -> None:
    tracked(tmp_path, 3, 20, 5)
    report = merge_profiler_files(tmp_path)
    assert [peak.peak_bytes // MB for peak in report.peaks] == [20, 5, 3]
    assert [peak.name for peak in report.peaks] == [
        f"00000{number}-allocates-1" for number in (1, 2, 0)
    ]
    line = Line(profiled_tasks.__file__, line_of(allocates, "the allocation"), "allocates")
    (highest,) = [one for one in report.lines if one.line == line]
    assert highest.held_bytes // MB == 20
    text = (tmp_path / MEMRAY_TEXT).read_text()
    assert f"allocates ({line.file}:{line.line})" in text
    assert "000001-allocates-1: 20.0 MB" in text


def test_a_file_whose_worker_was_killed_counts_as_far_as_it_was_written(tmp_path: Path) -> None:
    folder = tracked(tmp_path, 3)
    child = os.fork()
    if child == 0:
        memray.Tracker(folder / f"cut.bin{PARTIAL_SUFFIX}").__enter__()
        allocates(20)
        os._exit(0)
    os.waitpid(child, 0)
    peaks, notes = read_peaks(folder)
    assert [(peak.name, peak.peak_bytes // MB) for peak in peaks] == [
        ("cut", 20),
        ("000000-allocates-1", 3),
    ]
    assert notes == ()


def test_files_that_cannot_be_read_are_named_and_the_others_count(tmp_path: Path) -> None:
    folder = tracked(tmp_path, 3)
    (folder / "other.bin").write_bytes(b"something else")
    (folder / "empty.bin").touch()
    with memray.Tracker(folder / "early.bin", file_format=memray.FileFormat.AGGREGATED_ALLOCATIONS):
        allocates(1)
        begun = (folder / "early.bin").read_bytes()
    (folder / "early.bin").write_bytes(begun)
    report = merge_profiler_files(tmp_path)
    assert len(report.peaks) == 1
    assert {note.split()[0] for note in report.notes} == {"other.bin", "empty.bin", "early.bin"}
    text = (tmp_path / MEMRAY_TEXT).read_text()
    assert all(f"Note: {note}\n" in text for note in report.notes)


def test_files_too_large_for_the_end_of_a_run_are_named(tmp_path: Path) -> None:
    folder = tracked(tmp_path, 3, 20)
    peaks, notes = read_peaks(folder, max_bytes=0)
    assert peaks == ()
    assert {note.split(" is too large")[0] for note in notes} == {
        "000000-allocates-1.bin",
        "000001-allocates-1.bin",
    }


# Leaks


def test_leaks_of_the_tasks_of_a_name_are_put_together() -> None:
    rows = [
        LEAK,
        LEAK._replace(task=1, bytes_per_loop=3000),
        LEAK._replace(task=2, bytes_per_loop=1200),
        LEAK._replace(name="read", bytes_per_loop=5000),
    ]
    line = Line("match.py", 12, "score")
    assert leaks_by_line(rows) == (Leak("read", line, 5000, 1), Leak("match", line, 1200, 3))


@pytest.mark.parametrize("names", [[f"{LEAKS}.parquet"], [f"{LEAKS}-01.parquet"] * 1])
def test_leaks_are_read_of_a_run_that_ended_or_was_killed(tmp_path: Path, names: list[str]) -> None:
    for name in names:
        pq.write_table(leak_table([LEAK]), tmp_path / name)
    assert read_leaks(tmp_path) == [LEAK]
    report = merge_profiler_files(tmp_path)
    assert report.leaks == (Leak("match", Line("match.py", 12, "score"), 1000, 1),)
    text = (tmp_path / MEMRAY_TEXT).read_text()
    assert re.search(r"1\.0 +1  score \(match\.py:12\), of match\n", text)


# Whole runs

MODES: list[dict[str, Any]] = [
    {"mode": "sequential"},
    {"mode": "multiprocessing", "nb_workers": 2},
    {"mode": "local_dask", "nb_workers": 2},
]


@pytest.fixture(params=MODES, ids=lambda conf: str(conf["mode"]))
def cluster(request: pytest.FixtureRequest) -> dict[str, Any]:
    found: dict[str, Any] = request.param
    return found


def make_report(cluster: dict[str, Any], output: Path, **profiling: Any) -> ProfilerReport:
    """Make the product of `leaky_program`, and return what profilers found."""
    leaky_program.make_product({**cluster, "profiling": profiling}, output)
    with rasterio.open(output / "value.tif") as product:
        assert (product.read(1) == 2).all()
    return read_profiler_files(output / PROFILE_FOLDER)


def test_a_leak_is_named_by_its_line_whatever_the_mode(
    tmp_path: Path, cluster: dict[str, Any]
) -> None:
    report = make_report(cluster, tmp_path, mode="memray", loop_testing=True, loops=7)
    (leak,) = report.leaks
    line = Line(leaky_program.__file__, line_of(leaky_program.leaks, "the leak"), "leaks")
    assert (leak.task, leak.line, leak.tasks) == ("leaks", line, 2)
    assert leak.bytes_per_loop == pytest.approx(leaky_program.LEAK_BYTES, rel=0.01)
    text = (tmp_path / PROFILE_FOLDER / MEMRAY_TEXT).read_text()
    assert f"leaks ({line.file}:{line.line}), of leaks" in text
    assert report.notes == ()


def test_functions_are_timed_whatever_the_mode(tmp_path: Path, cluster: dict[str, Any]) -> None:
    report = make_report(cluster, tmp_path, mode="cprofile")
    (times,) = report.times
    calls = {each.function: each.calls for each in times.by_total}
    assert (calls["leaks"], calls["doubles"]) == (2, 2)
    assert (
        f"{'':>1}leaks ({leaky_program.__file__}"
        in (tmp_path / PROFILE_FOLDER / CPROFILE_TEXT).read_text()
    )
    assert report.notes == ()


def test_memory_is_attributed_whatever_the_mode(tmp_path: Path, cluster: dict[str, Any]) -> None:
    report = make_report(cluster, tmp_path, mode="memray")
    line = Line(leaky_program.__file__, line_of(leaky_program.leaks, "the peak"), "leaks")
    (found,) = [one for one in report.lines if one.line == line]
    assert found.held_bytes == pytest.approx(leaky_program.LARGE_BYTES, rel=0.01)
    assert report.notes == ()
