"""A profile as a page of text, for a terminal of 100 columns."""

import re
import textwrap
from collections.abc import Iterator
from typing import Final

from batuta.profiling.analysis.figures import Figures
from batuta.profiling.analysis.formatting import seconds_text, share_text
from batuta.profiling.capture.layout import (
    CPROFILE_MERGED,
    CPROFILE_TEXT,
    MEMRAY_TEXT,
    PROFILE_FOLDER,
)
from batuta.profiling.report import rows
from batuta.profiling.report.headline import losses, state_line, title, what_took_it
from batuta.profiling.report.tables import WIDTH, bar, plain, table_lines

_NAMES: Final = 20
_LANES: Final = 16
_TILES: Final = 3
_STEPS: Final = 8
_MISHAPS: Final = 10


def profile_text(figures: Figures) -> str:
    """Tell in text where time and memory went; lines of at most 100 characters."""
    sections = (
        _head(figures),
        _advice(figures),
        _losses(figures),
        _table("By task name", rows.name_rows(figures, _NAMES)),
        _table("", rows.memory_rows(figures, _NAMES)),
        *_bounds(figures),
        _table("Workers", rows.lane_rows(figures, _LANES)),
        _table("Tiles", rows.tile_rows(figures, _TILES)),
        _table("Tiles retried or failed", rows.mishap_rows(figures, _MISHAPS)),
        _table("Attempts without a result", rows.attempt_rows(figures, _MISHAPS)),
        _table("Repeated tasks", rows.loop_rows(figures, _NAMES)),
        _elsewhere(figures),
        _table("", rows.line_rows(figures, _NAMES)),
    )
    return "\n".join(line for section in sections for line in section) + "\n"


def _elsewhere(figures: Figures) -> Iterator[str]:
    """Say where the rest is."""
    inside = figures.folder / PROFILE_FOLDER
    if (inside / CPROFILE_TEXT).exists():
        yield from ("", f"Functions: {inside / CPROFILE_TEXT}; all of them: {CPROFILE_MERGED}")
    if (inside / MEMRAY_TEXT).exists():
        yield from ("", f"Who held the memory: {inside / MEMRAY_TEXT}")


def _head(figures: Figures) -> Iterator[str]:
    run = figures.run
    yield from _wrapped(f"{title(figures)}, {run.mode} on {run.host}: {figures.folder}")
    state = state_line(figures)
    for line in (*([state] if state else []), *what_took_it(figures)):
        yield from _wrapped(line)
    for note in run.notes:
        yield from _wrapped(f"Note: {note}")


def _advice(figures: Figures) -> Iterator[str]:
    if not figures.advice:
        return
    yield from ("", "Advice")
    for one in figures.advice:
        yield from _wrapped(f"  {one.subject}: {one.verdict}", hanging="    ")
        yield from _wrapped(f"    {one.reason}", hanging="    ")


def _losses(figures: Figures) -> Iterator[str]:
    total_s = figures.lost.total_s
    if not figures.names or total_s <= 0:
        return
    yield from ("", f"The time of the workers ({seconds_text(total_s)})")
    for label, seconds in (("work", figures.lost.worked_s), *losses(figures)):
        share = seconds / total_s
        figure = f"{seconds_text(seconds):>12}  {share_text(share):>6}"
        yield f"  {label:<41}{figure}  {bar(share)}".rstrip()


def _bounds(figures: Figures) -> Iterator[Iterator[str]]:
    # How fast attempts could have failed is of no use to anybody.
    if figures.lost.worked_s > 0:
        yield _table("What bounds it", rows.schedule_rows(figures))
        yield _table("", rows.path_rows(figures, _STEPS))


def _table(heading: str, table: rows.Rows | None) -> Iterator[str]:
    if not table:
        return
    yield ""
    if heading:
        yield heading
    yield from table_lines(table.columns, table.rows, left=table.left)
    if table.more:
        yield f"  and {table.more:,} more"


def _wrapped(text: str, hanging: str = "  ") -> list[str]:
    # A figure stays with its unit.
    held = re.sub(r"(?<=\d) (?=\S)", "\u00a0", plain(text))
    return [
        line.replace("\u00a0", " ")
        for line in textwrap.wrap(held, WIDTH, subsequent_indent=hanging, break_on_hyphens=False)
    ]
