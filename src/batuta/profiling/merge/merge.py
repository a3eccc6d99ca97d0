"""Puts together what profilers wrote of tasks, at the end of a run."""

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
from batuta.profiling.merge.model import Leak, ModeReport
from batuta.profiling.merge.text import memory_text, times_text


def merge(profile_folder: Path) -> ModeReport:
    """Read what profilers wrote; write ``cprofile.prof``, ``cprofile.txt`` and ``memray.txt``.

    To be called when the workers have ended and the rows are written. What cannot be read is
    named in the texts and in the notes of the report.

    Parameters
    ----------
    profile_folder : path
        Of the run: ``OUT/profile``.
    """
    return _report(profile_folder, write=True)


def mode_report(profile_folder: Path) -> ModeReport:
    """Read what profilers wrote, and write nothing; as `merge`."""
    return _report(profile_folder, write=False)


def _report(profile_folder: Path, *, write: bool) -> ModeReport:
    report = ModeReport(leaks=summed_leaks(read_leaks(profile_folder)))
    if (profile_folder / CPROFILE_FOLDER).is_dir():
        report = _with_times(report, profile_folder, write=write)
    if report.leaks or (profile_folder / MEMRAY_FOLDER).is_dir():
        report = _with_memory(report, profile_folder, write=write)
    return report


def _with_times(report: ModeReport, profile_folder: Path, *, write: bool) -> ModeReport:
    from batuta.profiling.merge.cprofile import read_times  # noqa: PLC0415 - only where there are

    whole = profile_folder / CPROFILE_MERGED
    times, notes = read_times(profile_folder / CPROFILE_FOLDER, whole if write else None)
    if write:
        text = times_text(times, notes)
        (profile_folder / CPROFILE_TEXT).write_text(text, encoding="utf-8")
    return ModeReport(times=times, leaks=report.leaks, notes=notes)


def _with_memory(report: ModeReport, profile_folder: Path, *, write: bool) -> ModeReport:
    from batuta.profiling.merge.memray import highest, read_peaks  # noqa: PLC0415 - needs memray

    peaks, notes = read_peaks(profile_folder / MEMRAY_FOLDER)
    lines = highest(peaks)
    if write:
        text = memory_text(peaks, lines, report.leaks, notes)
        (profile_folder / MEMRAY_TEXT).write_text(text, encoding="utf-8")
    return ModeReport(report.times, peaks, lines, report.leaks, (*report.notes, *notes))


def read_leaks(profile_folder: Path) -> list[LeakRow]:
    """Read the lines that leak, as the repetitions of tasks have shown; in the order of tasks."""
    whole = profile_folder / f"{LEAKS}.parquet"
    parts = [whole] if whole.exists() else sorted(profile_folder.glob(f"{LEAKS}-*.parquet"))
    if not parts:
        return []
    from pyarrow import parquet  # noqa: PLC0415 - only where there are

    return [LeakRow(**row) for part in parts for row in parquet.read_table(part).to_pylist()]


def summed_leaks(rows: Iterable[LeakRow]) -> tuple[Leak, ...]:
    """Put the leaks of the tasks of one name together, the most first."""
    grown: dict[tuple[str, Line], list[int]] = defaultdict(list)
    for row in rows:
        grown[row.name, Line(row.file, row.line, row.function)].append(row.bytes_per_loop)
    leaks = [
        Leak(task, line, int(statistics.median(sizes)), len(sizes))
        for (task, line), sizes in grown.items()
    ]
    return tuple(sorted(leaks, key=lambda leak: -leak.bytes_per_loop))
