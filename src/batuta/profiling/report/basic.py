"""The summary of a run that was not profiled, as text: light, for every run writes one."""

from collections.abc import Mapping
from typing import Final

from batuta.profiling.analysis.formatting import bytes_text, counted, seconds_text, share_text
from batuta.profiling.files.basic import BasicSummary, Totals
from batuta.profiling.report.tables import bar, table_lines

_MOST: Final = 30
"""Rows of a table: workers may be renewed by the hundred."""
_BAR: Final = 10


def basic_text(summary: BasicSummary, mode: str, took_s: float) -> str:
    """Tell the time and the peak memory by task name and by worker.

    Parameters
    ----------
    summary : BasicSummary
        Of a run.
    mode : str
        Of its cluster.
    took_s : float
        From its begin to its end.
    """
    attempts = sum(each.attempts for each in summary.by_name.values())
    lines = [
        f"{counted(attempts, 'task')} in {seconds_text(took_s)}, {mode}",
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
            bar(each.wall_s / whole_s, _BAR),
            share_text(each.wall_s / whole_s),
            seconds_text(each.wall_s),
            f"{each.attempts:,}",
            seconds_text(each.wall_s / max(1, each.attempts)),
            seconds_text(each.longest_s),
            f"{each.cpu_s / each.wall_s:.2f}" if each.wall_s else "",
            bytes_text(each.peak_bytes),
            f"{each.not_done:,}" if each.not_done else "",
        )
        for name, each in ranked[:_MOST]
    ]
    more = [f"  and {len(ranked) - _MOST:,} more"] if len(ranked) > _MOST else []
    return [*table_lines(columns, rows, left=2), *more]
