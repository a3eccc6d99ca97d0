"""What profilers found, as the texts ``cprofile.txt`` and ``memray.txt``."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from batuta.profiling.capture.attribution import Line
from batuta.profiling.merge.model import FunctionTime, Leak, LineMemory, MemoryPeak, TaskTimes

_MB: Final = 1e6
_KB: Final = 1e3


def cprofile_text(times: Sequence[TaskTimes], notes: Sequence[str]) -> str:
    """Describe where the time went: of all tasks, then of those of each name.

    Parameters
    ----------
    times : sequence of TaskTimes
        As `ProfilerReport.times`.
    notes : sequence of str
        What was not profiled, which comes first.
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


def memray_text(
    peaks: Sequence[MemoryPeak],
    lines: Sequence[LineMemory],
    leaks: Sequence[Leak],
    notes: Sequence[str],
) -> str:
    """Describe which lines held the memory, and which leak.

    Parameters
    ----------
    peaks, lines, leaks
        As in a `ProfilerReport`.
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


def _peak(peak: MemoryPeak, max_lines: int) -> list[str]:
    return [f"{peak.name}: {peak.peak_bytes / _MB:.1f} MB", *_held(peak.lines[:max_lines])]


def _held(lines: Iterable[LineMemory]) -> Iterator[str]:
    yield f"  {'MB':>12} {'blocks':>7}  line"
    for each in lines:
        yield f"  {each.held_bytes / _MB:>12.1f} {each.allocations:>7}  {_where(each.line)}"


def _where(line: Line) -> str:
    return f"{line.function} ({line.file}:{line.line})" if line.file else line.function


def _notes(notes: Sequence[str]) -> Iterator[str]:
    if notes:
        yield ""
        yield from (f"Note: {note}" for note in notes)
