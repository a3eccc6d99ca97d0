"""Two profiles side by side, as text."""

from collections.abc import Callable, Iterator

from batuta.profiling.analysis.attempts import NameFigures
from batuta.profiling.analysis.compare import Comparison, NameComparison, Pair, compare
from batuta.profiling.analysis.figures import Figures
from batuta.profiling.analysis.formatting import bytes_text, ratio_text, seconds_text
from batuta.profiling.report.headline import title
from batuta.profiling.report.tables import plain, table_lines


def comparison_text(first: Figures, second: Figures) -> str:
    """Tell in text how the second run differs from the first; the biggest change first."""
    compared = compare(first, second)
    lines = [
        plain(f"First:  {title(first)}: {first.folder}"),
        plain(f"Second: {title(second)}: {second.folder}"),
        *_differences(compared),
        "",
        *table_lines(("all together", "first", "second", "ratio"), _whole(compared)),
        *_names(compared),
        *_only("first", compared.only_first),
        *_only("second", compared.only_second),
    ]
    return "\n".join(lines) + "\n"


def _differences(compared: Comparison) -> Iterator[str]:
    if compared.differences:
        yield ""
        yield "The runs differ in more than their times"
        yield from (f"  {plain(line)}" for line in compared.differences)


def _whole(compared: Comparison) -> list[tuple[str, ...]]:
    return [
        ("from begin to end", *_cells(compared.span_s, seconds_text)),
        ("work", *_cells(compared.worked_s, seconds_text)),
        ("idle workers", *_cells(compared.idle_s, seconds_text)),
        ("highest peak", *_cells(compared.peak_bytes, bytes_text)),
    ]


def _names(compared: Comparison) -> Iterator[str]:
    if not compared.names:
        return
    yield ""
    columns = ("task, total time", "first", "second", "ratio", "tasks", "median", "peak")
    yield from table_lines(columns, [_name(one) for one in compared.names])


def _name(one: NameComparison) -> tuple[str, ...]:
    return (
        one.name,
        *_cells(one.total_s, seconds_text),
        _change(one.tasks, lambda value: f"{value:,.0f}"),
        _change(one.median_s, seconds_text),
        _change(one.peak_bytes, bytes_text),
    )


def _cells(pair: Pair, text: Callable[[float], str]) -> tuple[str, str, str]:
    return text(pair.first), text(pair.second), _ratio(pair)


def _change(pair: Pair, text: Callable[[float], str]) -> str:
    first, second = text(pair.first), text(pair.second)
    return first if first == second else f"{first} > {second}"


def _ratio(pair: Pair) -> str:
    return "" if pair.ratio is None else f"x {ratio_text(pair.ratio)}"


def _only(which: str, names: tuple[NameFigures, ...]) -> Iterator[str]:
    if not names:
        return
    rows = [
        (one.name, f"{one.tasks:,}", seconds_text(one.total_s), bytes_text(one.peak_bytes))
        for one in names
    ]
    yield ""
    yield from table_lines((f"only in the {which}", "tasks", "total", "peak"), rows)
