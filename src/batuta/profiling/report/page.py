"""A profile as one HTML page that opens offline: nothing is loaded from anywhere.

Importing it raises `PageError` where bokeh or jinja2 are not installed.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from batuta.profiling.analysis.figures import Figures
from batuta.profiling.analysis.formatting import bytes_text, counted, seconds_text, share_text
from batuta.profiling.merge.model import ProfilerReport
from batuta.profiling.report import rows
from batuta.profiling.report.headline import losses, state_line, title, what_took_it
from batuta.profiling.report.missing import PageError

try:
    from bokeh.core.types import ID
    from bokeh.embed import json_item
    from bokeh.plotting import figure
    from bokeh.resources import Resources
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    from batuta.profiling.report.charts import style
    from batuta.profiling.report.charts.bounds import bounds_chart
    from batuta.profiling.report.charts.grids import grid_charts
    from batuta.profiling.report.charts.memory import memory_chart
    from batuta.profiling.report.charts.names import names_chart
    from batuta.profiling.report.charts.timeline import timeline_chart
except ModuleNotFoundError as exc:
    if (exc.name or "").partition(".")[0] not in {"bokeh", "jinja2"}:
        raise
    raise PageError(exc.name) from exc

_TEMPLATES: Final = Path(__file__).parent / "templates"
_MAX_ROWS: Final = 200
_MAX_TILES: Final = 10
_MAX_GRIDS: Final = 8
_MAX_FUNCTIONS: Final = 25


@dataclass(frozen=True)
class Part:
    """A part of the bar that shows what became of the workers' time, or a key of its colours."""

    label: str
    figure: str
    percent: float
    colour: str
    kind: str
    """``work``, ``failed`` or ``idle``."""


@dataclass(frozen=True)
class Fact:
    """A figure of the headline."""

    label: str
    figure: str
    alarming: bool = False


class _Charts:
    """Charts by the ids of their places on the page."""

    def __init__(self) -> None:
        self._items: list[dict[str, Any]] = []

    def place(self, plot: figure | None) -> str | None:
        """Return the id where a chart will be drawn; None for none."""
        if plot is None:
            return None
        target = f"chart-{len(self._items) + 1}"
        self._items.append(dict(json_item(plot, ID(target))))
        return target

    def document(self) -> str:
        """All of them, as JSON that may stand in a script of a page."""
        text = json.dumps(self._items, separators=(",", ":"))
        # Names come from users: none may end the script that it stands in.
        return (
            text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
        )


_NO_MODES: Final = ProfilerReport()


def profile_page(figures: Figures, modes: ProfilerReport = _NO_MODES) -> str:
    """Draw a profile as one HTML page, with what profilers found."""
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html").render(_content(figures, modes))


def _content(figures: Figures, modes: ProfilerReport) -> dict[str, Any]:
    charts = _Charts()
    timeline = timeline_chart(figures)
    return {
        "title": title(figures),
        "state": state_line(figures),
        "failed": figures.run.error is not None,
        "about": _about(figures),
        "sentences": what_took_it(figures),
        "notes": (*figures.run.notes, *modes.notes),
        "facts": tuple(_facts(figures)),
        "parts": tuple(_parts(figures)),
        "keys": tuple(_keys(figures)),
        "advice": figures.advice,
        "names": charts.place(names_chart(figures)),
        "timeline": charts.place(timeline.plot if timeline else None),
        "merged": timeline and timeline.merged_s and seconds_text(timeline.merged_s),
        "grouped": timeline is not None and timeline.grouped,
        "grids": _grids(figures, charts),
        "more_grids": max(0, len(figures.tiles) - _MAX_GRIDS),
        "memory": charts.place(memory_chart(figures)),
        "recorded": len(figures.memory) > 0,
        "bounds": charts.place(bounds_chart(figures)),
        "path": rows.path_rows(figures, _MAX_TILES),
        "mishaps": rows.mishap_rows(figures, _MAX_ROWS),
        "attempts": rows.attempt_rows(figures, _MAX_ROWS),
        "loops": rows.loop_rows(figures, _MAX_ROWS),
        "lines": rows.line_rows(figures, _MAX_ROWS),
        "functions": rows.function_rows(modes, _MAX_FUNCTIONS),
        "held": rows.held_rows(modes, _MAX_FUNCTIONS),
        "tables": _tables(figures),
        "folder": str(figures.folder),
        "version": figures.run.version,
        "charts": charts.document(),
        "library": Resources(mode="inline", components=["bokeh"]).render_js(),
    }


def _about(figures: Figures) -> str:
    run = figures.run
    began = datetime.fromtimestamp(run.started_s, UTC).strftime("%Y-%m-%d %H:%M UTC")
    cores = counted(run.cores, "core")
    return (
        f"{run.mode} on {run.host} ({cores}, {bytes_text(run.ram_bytes)}), {began}:"
        f" {figures.folder}"
    )


def _facts(figures: Figures) -> Iterator[Fact]:
    run, lost = figures.run, figures.lost
    if not figures.names:
        return
    limit = run.worker_limit_bytes
    peak = bytes_text(figures.peak_bytes)
    worked = lost.worked_s / lost.total_s if lost.total_s > 0 else 0.0
    yield Fact("of the time, workers worked", share_text(worked), worked < 0.5)
    if lost.worked_s > 0:
        ratio = figures.span_s / figures.schedule.perfect_s
        yield Fact("of a perfect schedule's time", share_text(ratio))
    yield Fact(
        f"held at most, of {bytes_text(limit)} a worker" if limit else "held at most by a worker",
        peak,
        limit is not None and figures.peak_bytes > limit,
    )
    yield Fact("tiles retried", f"{len(run.retried):,}")
    yield Fact("tiles failed", f"{len(run.failed):,}", bool(run.failed))


def _parts(figures: Figures) -> Iterator[Part]:
    """What the time of the workers went to: tasks by their names, then losses."""
    total_s = figures.lost.total_s
    if not figures.names or total_s <= 0:
        return
    colours = style.colours(figures)
    done = figures.attempts[figures.attempts["done"]]
    by_name = done.groupby("name", sort=False)["wall_s"].sum().to_dict()
    for name, colour in colours.items():
        yield _part(name, by_name.pop(name, 0.0), total_s, colour, "work")
    yield _part(style.OTHER, sum(by_name.values()), total_s, style.OTHER_COLOUR, "work")
    for label, seconds in losses(figures):
        failed = label.startswith("attempts")
        colour = style.FAILED_COLOUR if failed else style.IDLE_COLOUR
        yield _part(label, seconds, total_s, colour, "failed" if failed else "idle")


def _part(label: str, seconds: float, total_s: float, colour: str, kind: str) -> Part:
    share = seconds / total_s
    told = f"{seconds_text(seconds)}, {share_text(share)}"
    return Part(label, told, round(100 * share, 3), colour, kind)


def _keys(figures: Figures) -> Iterator[Part]:
    """The colours of the timeline."""
    colours = style.colours(figures)
    for name, colour in colours.items():
        yield Part(name, "", 0, colour, "work")
    if len(figures.names) > len(colours):
        yield Part(style.OTHER, "", 0, style.OTHER_COLOUR, "work")
    if not figures.attempts["done"].all():
        yield Part("failed or lost", "", 0, style.FAILED_COLOUR, "failed")
    yield Part("idle", "", 0, style.IDLE_COLOUR, "idle")


def _grids(figures: Figures, charts: _Charts) -> list[dict[str, Any]]:
    drawn = []
    for grid in figures.tiles[:_MAX_GRIDS]:
        time, memory = grid_charts(grid, figures.run)
        height, width = grid.wall_s.shape
        slowest = grid.slowest(1)[0]
        about = (
            f"{counted(height, 'row')}, {counted(width, 'column')}; slowest:"
            f" ({slowest.row}, {slowest.col}), {seconds_text(slowest.wall_s)}"
        )
        drawn.append(
            {
                "dataset": grid.dataset,
                "about": about,
                "time": charts.place(time),
                "memory": charts.place(memory),
            }
        )
    return drawn


def _tables(figures: Figures) -> list[tuple[str, rows.Rows]]:
    shown: tuple[tuple[str, Callable[[Figures, int], rows.Rows]], ...] = (
        ("Time by task name", rows.name_rows),
        ("Memory and bytes by task name", rows.memory_rows),
        ("Workers", rows.lane_rows),
    )
    tables = [(heading, table(figures, _MAX_ROWS)) for heading, table in shown]
    tables.append(("Slowest tiles", rows.tile_rows(figures, _MAX_TILES)))
    tables.append(("Time of the workers", rows.loss_rows(figures)))
    return [(heading, table) for heading, table in tables if table]
