"""A profile as text, for a terminal of 100 columns."""

import re
import textwrap
from collections.abc import Iterator
from typing import Final

from batuta.formatting import format_percent, format_seconds
from batuta.profiling.analysis.analyse import ProfileAnalysis
from batuta.profiling.capture.layout import (
    CPROFILE_MERGED,
    CPROFILE_TEXT,
    MEMRAY_TEXT,
    PROFILE_FOLDER,
)
from batuta.profiling.report import tables
from batuta.profiling.report.headline import lost_time, state_line, summary_sentences, title
from batuta.profiling.report.text_layout import WIDTH, format_table, printable, text_bar

_NAMES: Final = 20
_LANES: Final = 16
_TILES: Final = 3
_STEPS: Final = 8
_MISHAPS: Final = 10


def profile_text(analysis: ProfileAnalysis) -> str:
    """Return a report of where time and memory went, in lines of at most 100 characters."""
    sections = (
        _head(analysis),
        _advice(analysis),
        _losses(analysis),
        _table("By task name", tables.name_table(analysis, _NAMES)),
        _table("", tables.memory_table(analysis, _NAMES)),
        *_bounds(analysis),
        _table("Workers", tables.lane_table(analysis, _LANES)),
        _table("Tiles", tables.tile_table(analysis, _TILES)),
        _table("Tiles retried or failed", tables.mishap_table(analysis, _MISHAPS)),
        _table("Attempts without a result", tables.failed_attempt_table(analysis, _MISHAPS)),
        _table("Repeated tasks", tables.memory_growth_table(analysis, _NAMES)),
        _elsewhere(analysis),
        _table("", tables.leaking_line_table(analysis, _NAMES)),
    )
    return "\n".join(line for section in sections for line in section) + "\n"


def _elsewhere(analysis: ProfileAnalysis) -> Iterator[str]:
    """Name the files of profilers."""
    inside = analysis.folder / PROFILE_FOLDER
    if (inside / CPROFILE_TEXT).exists():
        yield from ("", f"Functions: {inside / CPROFILE_TEXT}; all of them: {CPROFILE_MERGED}")
    if (inside / MEMRAY_TEXT).exists():
        yield from ("", f"Who held the memory: {inside / MEMRAY_TEXT}")


def _head(analysis: ProfileAnalysis) -> Iterator[str]:
    run = analysis.run
    yield from _wrapped(f"{title(analysis)}, {run.mode} on {run.host}: {analysis.folder}")
    state = state_line(analysis)
    for line in (*([state] if state else []), *summary_sentences(analysis)):
        yield from _wrapped(line)
    for note in run.notes:
        yield from _wrapped(f"Note: {note}")


def _advice(analysis: ProfileAnalysis) -> Iterator[str]:
    if not analysis.advice:
        return
    yield from ("", "Advice")
    for one in analysis.advice:
        yield from _wrapped(f"  {one.subject}: {one.verdict}", hanging="    ")
        yield from _wrapped(f"    {one.reason}", hanging="    ")


def _losses(analysis: ProfileAnalysis) -> Iterator[str]:
    total_s = analysis.worker_time.total_s
    if not analysis.names or total_s <= 0:
        return
    yield from ("", f"The time of the workers ({format_seconds(total_s)})")
    for label, seconds in (("work", analysis.worker_time.worked_s), *lost_time(analysis)):
        share = seconds / total_s
        figure = f"{format_seconds(seconds):>12}  {format_percent(share):>6}"
        yield f"  {label:<41}{figure}  {text_bar(share)}".rstrip()


def _bounds(analysis: ProfileAnalysis) -> Iterator[Iterator[str]]:
    # Without successful attempts there is no schedule to compare with.
    if analysis.worker_time.worked_s > 0:
        yield _table("What bounds it", tables.schedule_table(analysis))
        yield _table("", tables.critical_path_table(analysis, _STEPS))


def _table(heading: str, table: tables.Table | None) -> Iterator[str]:
    if not table:
        return
    yield ""
    if heading:
        yield heading
    yield from format_table(table.columns, table.rows, left=table.left)
    if table.more:
        yield f"  and {table.more:,} more"


def _wrapped(text: str, hanging: str = "  ") -> list[str]:
    # No-break spaces keep figures and units on one line.
    held = re.sub(r"(?<=\d) (?=\S)", "\u00a0", printable(text))
    return [
        line.replace("\u00a0", " ")
        for line in textwrap.wrap(held, WIDTH, subsequent_indent=hanging, break_on_hyphens=False)
    ]
