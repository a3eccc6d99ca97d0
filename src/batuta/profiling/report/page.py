"""A profile as one self-contained HTML page that opens offline.

Importing it raises `PageError` where bokeh or jinja2 are not installed.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from batuta.errors import BatutaError
from batuta.formatting import format_bytes, format_count, format_percent, format_seconds
from batuta.profiling.analysis.analyse import ProfileAnalysis
from batuta.profiling.merge.model import ProfilerReport
from batuta.profiling.report import tables
from batuta.profiling.report.headline import lost_time, state_line, summary_sentences, title


class PageError(BatutaError, ImportError):
    """The page cannot be drawn: bokeh or jinja2, which draw it, are not installed."""

    def __init__(self, missing: str | None) -> None:
        super().__init__(f"the page of a profile needs {missing}: pip install 'batuta[profiling]'")


try:
    from bokeh.core.types import ID
    from bokeh.embed import json_item
    from bokeh.plotting import figure
    from bokeh.resources import Resources
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    from batuta.profiling.report.charts import style
    from batuta.profiling.report.charts.bounds import bounds_chart
    from batuta.profiling.report.charts.memory import memory_chart
    from batuta.profiling.report.charts.task_names import names_chart
    from batuta.profiling.report.charts.tile_grid import grid_charts
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
class LegendItem:
    """A segment of the bar of the workers' time, or an entry of its legend."""

    label: str
    figure: str
    percent: float
    colour: str
    kind: str
    """``work``, ``failed`` or ``idle``."""


@dataclass(frozen=True)
class KeyFigure:
    """A figure in the headline of the page."""

    label: str
    figure: str
    alarming: bool = False


class _Charts:
    """The charts of the page, each with the id of the element it is drawn in."""

    def __init__(self) -> None:
        self._items: list[dict[str, Any]] = []

    def add(self, plot: figure | None) -> str | None:
        """Add a chart and return the id of its element; None where there is no chart."""
        if plot is None:
            return None
        target = f"chart-{len(self._items) + 1}"
        self._items.append(dict(json_item(plot, ID(target))))
        return target

    def document(self) -> str:
        """Return all charts as JSON, escaped for a script element."""
        text = json.dumps(self._items, separators=(",", ":"))
        # Task names come from users: a "</script>" in one must not end the script element.
        return (
            text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
        )


_NO_PROFILERS: Final = ProfilerReport()


def profile_page(analysis: ProfileAnalysis, profilers: ProfilerReport = _NO_PROFILERS) -> str:
    """Return a profile as one HTML page, with the results of profilers."""
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html").render(_content(analysis, profilers))


def _content(analysis: ProfileAnalysis, profilers: ProfilerReport) -> dict[str, Any]:
    charts = _Charts()
    timeline = timeline_chart(analysis)
    return {
        "title": title(analysis),
        "state": state_line(analysis),
        "failed": analysis.run.error is not None,
        "about": _about(analysis),
        "sentences": summary_sentences(analysis),
        "notes": (*analysis.run.notes, *profilers.notes),
        "facts": tuple(_key_figures(analysis)),
        "parts": tuple(_time_breakdown(analysis)),
        "keys": tuple(_legend(analysis)),
        "advice": analysis.advice,
        "names": charts.add(names_chart(analysis)),
        "timeline": charts.add(timeline.plot if timeline else None),
        "merged": timeline and timeline.merged_s and format_seconds(timeline.merged_s),
        "grouped": timeline is not None and timeline.grouped,
        "grids": _grids(analysis, charts),
        "more_grids": max(0, len(analysis.tiles) - _MAX_GRIDS),
        "memory": charts.add(memory_chart(analysis)),
        "recorded": len(analysis.memory) > 0,
        "bounds": charts.add(bounds_chart(analysis)),
        "path": tables.critical_path_table(analysis, _MAX_TILES),
        "mishaps": tables.mishap_table(analysis, _MAX_ROWS),
        "attempts": tables.failed_attempt_table(analysis, _MAX_ROWS),
        "loops": tables.memory_growth_table(analysis, _MAX_ROWS),
        "lines": tables.leaking_line_table(analysis, _MAX_ROWS),
        "functions": tables.function_table(profilers, _MAX_FUNCTIONS),
        "held": tables.memory_line_table(profilers, _MAX_FUNCTIONS),
        "tables": _tables(analysis),
        "folder": str(analysis.folder),
        "version": analysis.run.version,
        "charts": charts.document(),
        "library": Resources(mode="inline", components=["bokeh"]).render_js(),
    }


def _about(analysis: ProfileAnalysis) -> str:
    run = analysis.run
    began = datetime.fromtimestamp(run.started_s, UTC).strftime("%Y-%m-%d %H:%M UTC")
    cores = format_count(run.cores, "core")
    return (
        f"{run.mode} on {run.host} ({cores}, {format_bytes(run.ram_bytes)}), {began}:"
        f" {analysis.folder}"
    )


def _key_figures(analysis: ProfileAnalysis) -> Iterator[KeyFigure]:
    run, worker_time = analysis.run, analysis.worker_time
    if not analysis.names:
        return
    limit = run.worker_limit_bytes
    peak = format_bytes(analysis.peak_bytes)
    worked = worker_time.worked_s / worker_time.total_s if worker_time.total_s > 0 else 0.0
    yield KeyFigure("of the time, workers worked", format_percent(worked), worked < 0.5)
    if worker_time.worked_s > 0:
        ratio = analysis.span_s / analysis.schedule.perfect_s
        yield KeyFigure("of a perfect schedule's time", format_percent(ratio))
    yield KeyFigure(
        f"peak memory of a worker; limit {format_bytes(limit)}"
        if limit
        else "peak memory of a worker",
        peak,
        limit is not None and analysis.peak_bytes > limit,
    )
    yield KeyFigure("tiles retried", f"{len(run.retried):,}")
    yield KeyFigure("tiles failed", f"{len(run.failed):,}", bool(run.failed))


def _time_breakdown(analysis: ProfileAnalysis) -> Iterator[LegendItem]:
    """Yield the segments of the workers' time: task names, then lost time."""
    total_s = analysis.worker_time.total_s
    if not analysis.names or total_s <= 0:
        return
    colours = style.colours(analysis)
    done = analysis.attempts[analysis.attempts["done"]]
    by_name = done.groupby("name", sort=False)["wall_s"].sum().to_dict()
    for name, colour in colours.items():
        yield _legend_item(name, by_name.pop(name, 0.0), total_s, colour, "work")
    yield _legend_item(style.OTHER, sum(by_name.values()), total_s, style.OTHER_COLOUR, "work")
    for label, seconds in lost_time(analysis):
        failed = label.startswith("attempts")
        colour = style.FAILED_COLOUR if failed else style.IDLE_COLOUR
        yield _legend_item(label, seconds, total_s, colour, "failed" if failed else "idle")


def _legend_item(label: str, seconds: float, total_s: float, colour: str, kind: str) -> LegendItem:
    share = seconds / total_s
    described = f"{format_seconds(seconds)}, {format_percent(share)}"
    return LegendItem(label, described, round(100 * share, 3), colour, kind)


def _legend(analysis: ProfileAnalysis) -> Iterator[LegendItem]:
    """Yield the legend of the timeline."""
    colours = style.colours(analysis)
    for name, colour in colours.items():
        yield LegendItem(name, "", 0, colour, "work")
    if len(analysis.names) > len(colours):
        yield LegendItem(style.OTHER, "", 0, style.OTHER_COLOUR, "work")
    if not analysis.attempts["done"].all():
        yield LegendItem("failed or lost", "", 0, style.FAILED_COLOUR, "failed")
    yield LegendItem("idle", "", 0, style.IDLE_COLOUR, "idle")


def _grids(analysis: ProfileAnalysis, charts: _Charts) -> list[dict[str, Any]]:
    drawn = []
    for grid in analysis.tiles[:_MAX_GRIDS]:
        time, memory = grid_charts(grid, analysis.run)
        height, width = grid.wall_s.shape
        slowest = grid.slowest(1)[0]
        about = (
            f"{format_count(height, 'row')}, {format_count(width, 'column')}; slowest:"
            f" ({slowest.row}, {slowest.col}), {format_seconds(slowest.wall_s)}"
        )
        drawn.append(
            {
                "dataset": grid.dataset,
                "about": about,
                "time": charts.add(time),
                "memory": charts.add(memory),
            }
        )
    return drawn


def _tables(analysis: ProfileAnalysis) -> list[tuple[str, tables.Table]]:
    shown = (
        ("Time by task name", tables.name_table(analysis, _MAX_ROWS)),
        ("Memory and bytes by task name", tables.memory_table(analysis, _MAX_ROWS)),
        ("Workers", tables.lane_table(analysis, _MAX_ROWS)),
        ("Slowest tiles", tables.tile_table(analysis, _MAX_TILES)),
        ("Time of the workers", tables.worker_time_table(analysis)),
    )
    return [(heading, table) for heading, table in shown if table]
