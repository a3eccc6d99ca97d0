"""What profilers found, as text."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from batuta.profiling.capture.attribution import Line
from batuta.profiling.merge.model import FunctionTime, Leak, LineBytes, Peak, Times

_MB: Final = 1e6
_KB: Final = 1e3


def times_text(times: Sequence[Times], notes: Sequence[str]) -> str:
    """Show where the time went: of all tasks, then of those of each name.

    Parameters
    ----------
    times : sequence of Times
        As `ModeReport.times`.
    notes : sequence of str
        What was not seen, which comes first.
    """
    lines = ["Where the processor's time went, as cProfile saw it", *_notes(notes)]
    if not times:
        lines += ["", "No profile was written: no task ran."]
    for one in times:
        of = "all tasks" if one.task is None else f"tasks {one.task}"
        count = "1 profile" if one.profiles == 1 else f"{one.profiles} profiles"
        lines += ["", f"{of}: {one.total_s:.3f} s in {count}"]
        lines += ["", "  the functions with most time, what they called included"]
        lines += _functions(one.by_total)
        lines += ["", "  the functions with most time of their own"]
        lines += _functions(one.by_own)
    return "\n".join(lines) + "\n"


def _functions(functions: Iterable[FunctionTime]) -> Iterator[str]:
    yield f"  {'total s':>10} {'own s':>10} {'calls':>10}  function"
    for each in functions:
        where = f" ({each.file}:{each.line})" if each.line else ""
        yield (
            f"  {each.total_s:>10.3f} {each.own_s:>10.3f} {each.calls:>10}  {each.function}{where}"
        )


def memory_text(
    peaks: Sequence[Peak], lines: Sequence[LineBytes], leaks: Sequence[Leak], notes: Sequence[str]
) -> str:
    """Show who held the memory, and what leaks.

    Parameters
    ----------
    peaks, lines, leaks
        As in a `ModeReport`.
    notes : sequence of str
        What could not be read, which comes first.
    """
    text = ["Who allocated the memory, as memray saw it", *_notes(notes)]
    if leaks:
        text += ["", "Lines that allocate in each repetition of a task what is never freed"]
        text += [f"  {'kB a loop':>12} {'tasks':>7}  line"]
        text += [
            f"  {leak.bytes_per_loop / _KB:>12.1f} {leak.tasks:>7}"
            f"  {_where(leak.line)}, of {leak.task}"
            for leak in leaks
        ]
    text += ["", "The most that each line held, at the peak of any worker or task"]
    text += _held(lines)
    text += ["", "The peak of each, and the lines that held most of it then"]
    for peak in peaks:
        text += ["", *_peak(peak, 5)]
    if not peaks:
        text += ["", "No file of memray was written, or none could be read."]
    return "\n".join(text) + "\n"


def peak_text(peak: Peak) -> str:
    """Show what was held at one peak, line by line."""
    return "\n".join(_peak(peak, len(peak.lines))) + "\n"


def _peak(peak: Peak, most: int) -> list[str]:
    return [f"{peak.name}: {peak.peak_bytes / _MB:.1f} MB", *_held(peak.lines[:most])]


def _held(lines: Iterable[LineBytes]) -> Iterator[str]:
    yield f"  {'MB':>12} {'blocks':>7}  line"
    for each in lines:
        yield f"  {each.held_bytes / _MB:>12.1f} {each.allocations:>7}  {_where(each.line)}"


def _where(line: Line) -> str:
    return f"{line.function} ({line.file}:{line.line})" if line.file else line.function


def _notes(notes: Sequence[str]) -> Iterator[str]:
    if notes:
        yield ""
        yield from (f"Note: {note}" for note in notes)
