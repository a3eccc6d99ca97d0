"""Reads the files of memray: the memory of each worker or task at its peak, line by line."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from memray import FileReader

from batuta.errors import one_line
from batuta.profiling.capture.attribution import Attribution, Line
from batuta.profiling.capture.gaps import read_gaps
from batuta.profiling.capture.sink import PARTIAL_SUFFIX
from batuta.profiling.merge.model import LineMemory, MemoryPeak

MAX_LINES: Final = 20
MIN_SHARE: Final = 0.01
"""Of a peak: lines that hold less of it are left out."""
MAX_READ_BYTES: Final = 200_000_000
"""Of all files together, the smallest first: about a minute. Many small allocations make large
files."""
_NO_LINE: Final = Line("", 0, "outside of Python")
_LZ4: Final = b"\x04\x22\x4d\x18"
_COMPRESSION: Final = 10
"""How many times smaller a compressed file is, about."""


def memray_files(folder: Path) -> list[Path]:
    """List the files of memray in a folder, by name.

    Also those that their process did not close: they hold everything until it ended.
    """
    return sorted((*folder.glob("*.bin"), *folder.glob(f"*.bin{PARTIAL_SUFFIX}")))


def stem_of(path: Path) -> str:
    """Return the name of a file without its suffixes: the worker or the task."""
    return path.name.removesuffix(PARTIAL_SUFFIX).removesuffix(".bin")


def read_peaks(
    folder: Path, max_bytes: int = MAX_READ_BYTES
) -> tuple[tuple[MemoryPeak, ...], tuple[str, ...]]:
    """Read the files of memray in a folder.

    Parameters
    ----------
    folder : path
        Of ``*.bin``.
    max_bytes : int
        Of all files that are read, the smallest first.

    Returns
    -------
    tuple of MemoryPeak
        The highest first.
    tuple of str
        Which files could not be read, and why.
    """
    peaks: list[MemoryPeak] = []
    notes: list[str] = []
    budget = max_bytes
    for size, path in sorted((_size(path), path) for path in memray_files(folder)):
        budget -= size
        if budget < 0:
            notes.append(
                f"{path.name} is too large to be summarized here ({size // 1_000_000} MB of"
                " records): see `batuta profile memory-report`"
            )
            continue
        try:
            peak = read_peak(path)
        except OSError as exc:
            notes.append(f"{path.name} cannot be read: {one_line(exc)}")
        else:
            if peak.lines:
                peaks.append(peak)
            else:
                notes.append(f"{path.name} is empty: its worker ended before memray wrote to it")
    return tuple(sorted(peaks, key=lambda peak: -peak.peak_bytes)), (*notes, *read_gaps(folder))


def _size(path: Path) -> int:
    with path.open("rb") as stream:
        compressed = stream.read(len(_LZ4)) == _LZ4
    return path.stat().st_size * (_COMPRESSION if compressed else 1)


def read_peak(path: Path, attribution: Attribution | None = None) -> MemoryPeak:
    """Read the memory at the peak, line by line.

    Parameters
    ----------
    path : path
        Of a file of memray.
    attribution : Attribution, optional
        Finds the lines that allocations are attributed to; those of the program by default.

    Raises
    ------
    OSError
        If it is not a file of memray, or one whose process ended before memray wrote to it.
    """
    attribution = attribution or Attribution()
    held: Counter[Line] = Counter()
    allocations: Counter[Line] = Counter()
    with FileReader(path) as reader:
        for record in reader.get_high_watermark_allocation_records(merge_threads=True):
            line = attribution.line_of(record.stack_trace()) or _NO_LINE
            held[line] += record.size
            allocations[line] += record.n_allocations
    peak = sum(held.values())
    lines = tuple(
        LineMemory(line, size, allocations[line])
        for line, size in held.most_common(MAX_LINES)
        if size >= MIN_SHARE * peak
    )
    return MemoryPeak(stem_of(path), peak, lines)


def highest_per_line(peaks: Iterable[MemoryPeak]) -> tuple[LineMemory, ...]:
    """Return the most that each line held at any of these peaks, the largest first."""
    largest: dict[Line, LineMemory] = {}
    for one in (line for peak in peaks for line in peak.lines):
        if one.line not in largest or one.held_bytes > largest[one.line].held_bytes:
            largest[one.line] = one
    return tuple(sorted(largest.values(), key=lambda one: -one.held_bytes)[:MAX_LINES])
