"""Merges the files that profilers wrote in all workers, at the end of a run."""

import statistics
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from batuta.profiling.capture.attribution import Line
from batuta.profiling.capture.layout import (
    CPROFILE_FOLDER,
    CPROFILE_MERGED,
    CPROFILE_TEXT,
    LEAKS,
    MEMRAY_FOLDER,
    MEMRAY_TEXT,
)
from batuta.profiling.capture.records import LeakRow
from batuta.profiling.merge.model import Leak, ProfilerReport
from batuta.profiling.merge.text import cprofile_text, memray_text


def merge_profiler_files(profile_folder: Path) -> ProfilerReport:
    """Read the files of profilers; write ``cprofile.prof``, ``cprofile.txt`` and ``memray.txt``.

    To be called when the workers have ended and the rows are written. What cannot be read is
    named in the texts and in the notes of the report.

    Parameters
    ----------
    profile_folder : path
        Of the run: ``OUT/profile``.
    """
    return _report(profile_folder, write=True)


def read_profiler_files(profile_folder: Path) -> ProfilerReport:
    """Read the files of profilers as `merge_profiler_files` does, and write nothing."""
    return _report(profile_folder, write=False)


def _report(profile_folder: Path, *, write: bool) -> ProfilerReport:
    report = ProfilerReport(leaks=leaks_by_line(read_leaks(profile_folder)))
    if (profile_folder / CPROFILE_FOLDER).is_dir():
        report = _with_times(report, profile_folder, write=write)
    if report.leaks or (profile_folder / MEMRAY_FOLDER).is_dir():
        report = _with_memory(report, profile_folder, write=write)
    return report


def _with_times(report: ProfilerReport, profile_folder: Path, *, write: bool) -> ProfilerReport:
    from batuta.profiling.merge.cprofile import read_times  # noqa: PLC0415 - only where there are

    merged = profile_folder / CPROFILE_MERGED
    times, notes = read_times(profile_folder / CPROFILE_FOLDER, merged if write else None)
    if write:
        text = cprofile_text(times, notes)
        (profile_folder / CPROFILE_TEXT).write_text(text, encoding="utf-8")
    return ProfilerReport(times=times, leaks=report.leaks, notes=notes)


def _with_memory(report: ProfilerReport, profile_folder: Path, *, write: bool) -> ProfilerReport:
    from batuta.profiling.merge.memray import highest_per_line, read_peaks  # noqa: PLC0415 - needs memray

    peaks, notes = read_peaks(profile_folder / MEMRAY_FOLDER)
    lines = highest_per_line(peaks)
    if write:
        text = memray_text(peaks, lines, report.leaks, notes)
        (profile_folder / MEMRAY_TEXT).write_text(text, encoding="utf-8")
    return ProfilerReport(report.times, peaks, lines, report.leaks, (*report.notes, *notes))


def read_leaks(profile_folder: Path) -> list[LeakRow]:
    """Read the lines that leak in repeated tasks, in the order of tasks."""
    table = profile_folder / f"{LEAKS}.parquet"
    parts = [table] if table.exists() else sorted(profile_folder.glob(f"{LEAKS}-*.parquet"))
    if not parts:
        return []
    from pyarrow import parquet  # noqa: PLC0415 - only where there are

    return [LeakRow(**row) for part in parts for row in parquet.read_table(part).to_pylist()]


def leaks_by_line(rows: Iterable[LeakRow]) -> tuple[Leak, ...]:
    """Summarize the leaks of the tasks of each name by line, the largest first."""
    growth: dict[tuple[str, Line], list[int]] = defaultdict(list)
    for row in rows:
        growth[row.name, Line(row.file, row.line, row.function)].append(row.bytes_per_loop)
    leaks = [
        Leak(task, line, int(statistics.median(sizes)), len(sizes))
        for (task, line), sizes in growth.items()
    ]
    return tuple(sorted(leaks, key=lambda leak: -leak.bytes_per_loop))
