"""The comparison of two profiles, as text."""

from collections.abc import Callable, Iterator

from batuta.formatting import format_bytes, format_ratio, format_seconds
from batuta.profiling.analysis.analyse import ProfileAnalysis
from batuta.profiling.analysis.attempts import TaskNameStats
from batuta.profiling.analysis.compare import MetricPair, RunComparison, TaskNameComparison, compare
from batuta.profiling.report.headline import title
from batuta.profiling.report.text_layout import format_table, printable


def comparison_text(first: ProfileAnalysis, second: ProfileAnalysis) -> str:
    """Describe how the second run differs from the first; the largest change first."""
    comparison = compare(first, second)
    lines = [
        printable(f"First:  {title(first)}: {first.folder}"),
        printable(f"Second: {title(second)}: {second.folder}"),
        *_differences(comparison),
        "",
        *format_table(("all together", "first", "second", "ratio"), _whole(comparison)),
        *_names(comparison),
        *_only("first", comparison.only_first),
        *_only("second", comparison.only_second),
    ]
    return "\n".join(lines) + "\n"


def _differences(comparison: RunComparison) -> Iterator[str]:
    if comparison.differences:
        yield ""
        yield "The runs differ in more than their times"
        yield from (f"  {printable(line)}" for line in comparison.differences)


def _whole(comparison: RunComparison) -> list[tuple[str, ...]]:
    return [
        ("duration", *_cells(comparison.span_s, format_seconds)),
        ("work", *_cells(comparison.worked_s, format_seconds)),
        ("idle workers", *_cells(comparison.idle_s, format_seconds)),
        ("highest peak", *_cells(comparison.peak_bytes, format_bytes)),
    ]


def _names(comparison: RunComparison) -> Iterator[str]:
    if not comparison.names:
        return
    yield ""
    columns = ("task, total time", "first", "second", "ratio", "tasks", "median", "peak")
    yield from format_table(columns, [_name(one) for one in comparison.names])


def _name(one: TaskNameComparison) -> tuple[str, ...]:
    return (
        one.name,
        *_cells(one.total_s, format_seconds),
        _change(one.tasks, lambda value: f"{value:,.0f}"),
        _change(one.median_s, format_seconds),
        _change(one.peak_bytes, format_bytes),
    )


def _cells(pair: MetricPair, text: Callable[[float], str]) -> tuple[str, str, str]:
    return text(pair.first), text(pair.second), _ratio(pair)


def _change(pair: MetricPair, text: Callable[[float], str]) -> str:
    first, second = text(pair.first), text(pair.second)
    return first if first == second else f"{first} > {second}"


def _ratio(pair: MetricPair) -> str:
    return "" if pair.ratio is None else f"x {format_ratio(pair.ratio)}"


def _only(which: str, names: tuple[TaskNameStats, ...]) -> Iterator[str]:
    if not names:
        return
    rows = [
        (one.name, f"{one.tasks:,}", format_seconds(one.total_s), format_bytes(one.peak_bytes))
        for one in names
    ]
    yield ""
    yield from format_table((f"only in the {which}", "tasks", "total", "peak"), rows)
