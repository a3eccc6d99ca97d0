"""The text summary of a run without `profiling`: cheap, since every run writes one."""

from collections.abc import Mapping
from typing import Final

from batuta.formatting import format_bytes, format_count, format_percent, format_seconds
from batuta.profiling.files.basic import BasicSummary, Totals
from batuta.profiling.report.text_layout import format_table, text_bar

_MOST: Final = 30
"""Rows of a table: there may be hundreds of worker processes."""
_BAR: Final = 10


def basic_text(summary: BasicSummary, mode: str, took_s: float) -> str:
    """Return the time and the peak memory by task name and by worker.

    Parameters
    ----------
    summary : BasicSummary
        The sums of a run.
    mode : str
        The mode of its cluster.
    took_s : float
        Duration of the run.
    """
    attempts = sum(each.attempts for each in summary.by_name.values())
    lines = [
        f"{format_count(attempts, 'task')} in {format_seconds(took_s)}, {mode}",
        "",
        "By task name",
        *_table("task", summary.by_name),
        "",
        "By worker",
        *_table("worker", summary.by_worker),
        "",
        "With `profiling: {}` in the configuration: the timeline, the tiles, and advice.",
    ]
    return "\n".join(lines) + "\n"


def _table(what: str, sums: Mapping[str, Totals]) -> list[str]:
    columns = (
        what,
        "",
        "share",
        "total",
        "tasks",
        "mean",
        "longest",
        "CPU/wall",
        "peak",
        "not done",
    )
    whole_s = sum(each.wall_s for each in sums.values()) or 1.0
    ranked = sorted(sums.items(), key=lambda item: -item[1].wall_s)
    rows = [
        (
            name,
            text_bar(each.wall_s / whole_s, _BAR),
            format_percent(each.wall_s / whole_s),
            format_seconds(each.wall_s),
            f"{each.attempts:,}",
            format_seconds(each.wall_s / max(1, each.attempts)),
            format_seconds(each.longest_s),
            f"{each.cpu_s / each.wall_s:.2f}" if each.wall_s else "",
            format_bytes(each.peak_bytes),
            f"{each.not_done:,}" if each.not_done else "",
        )
        for name, each in ranked[:_MOST]
    ]
    more = [f"  and {len(ranked) - _MOST:,} more"] if len(ranked) > _MOST else []
    return [*format_table(columns, rows, left=2), *more]
