"""Summing up a profile, as text and as a page: time, and sizes of the files."""

from typing import Final

from benchmarks.orchestrator.figures import Figure
from benchmarks.orchestrator.measure import FOLDER, Result, Subject, best, take_turns

SIZES: Final = (10_000, 100_000)
MB: Final = 1e6
KB: Final = 1e3


def figures(*, quick: bool) -> list[Figure]:
    """Compare with what one would do by hand: pandas, by task name."""
    subjects = {
        str(tasks): Subject("run_profiling_report", (str(tasks), FOLDER)) for tasks in SIZES
    }
    results = take_turns(subjects, 2 if quick else 5)
    lines = [figure for tasks in SIZES for figure in _figures(tasks, results[str(tasks)])]
    import_s = min(best(each, "import_s") for each in results.values())
    return [
        *lines,
        Figure(what="importing what draws the page, once", measured=f"{import_s:.2f} s"),
    ]


def _figures(tasks: int, results: list[Result]) -> list[Figure]:
    by_hand_s = best(results, "grouped_s")
    text_s, both_s = best(results, "text_s"), best(results, "both_s")
    last = results[-1]
    table, page = (float(last[key]) / MB for key in ("table_bytes", "page_bytes"))
    return [
        Figure(
            what=f"{tasks:,} tasks summed up as text",
            measured=f"{text_s:.2f} s, {float(last['text_bytes']) / KB:.1f} kB",
            against=f"pandas, by task name: {by_hand_s:.3f} s",
            ratio=text_s / by_hand_s,
        ),
        Figure(
            what=f"{tasks:,} tasks summed up as text and as a page",
            measured=f"{both_s:.2f} s, {page:.1f} MB",
            against=f"their table: {table:.1f} MB",
            ratio=page / table,
            unit="x its size",
        ),
        Figure(
            what="the same, memory",
            measured=f"{best(results, 'memory_bytes') / MB:.0f} MB",
        ),
    ]
