"""Reads the files of memray: what each worker or task held at its peak, line by line."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from memray import FileReader

from batuta.errors import one_line
from batuta.profiling.capture.attribution import Attribution, Line
from batuta.profiling.capture.gaps import read_gaps
from batuta.profiling.capture.sink import PARTIAL_SUFFIX
from batuta.profiling.merge.model import LineBytes, Peak

MAX_LINES: Final = 20
LEAST_SHARE: Final = 0.01
"""Of a peak: lines that hold less of it are not told."""
READ_MAX_BYTES: Final = 200_000_000
"""Of files in all, the smallest first: about a minute. What a program allocates in small pieces
makes large files."""
_NO_LINE: Final = Line("", 0, "outside of Python")
_LZ4: Final = b"\x04\x22\x4d\x18"
_PACKED: Final = 10
"""How many times smaller a compressed file is, about."""


def memray_files(folder: Path) -> list[Path]:
    """List the files of memray of a folder, by name.

    Those whose process ended before it closed them are among them: they hold all until then.
    """
    return sorted((*folder.glob("*.bin"), *folder.glob(f"*.bin{PARTIAL_SUFFIX}")))


def stem_of(path: Path) -> str:
    """Name what a file is of: its name without its endings."""
    return path.name.removesuffix(PARTIAL_SUFFIX).removesuffix(".bin")


def read_peaks(
    folder: Path, read_max_bytes: int = READ_MAX_BYTES
) -> tuple[tuple[Peak, ...], tuple[str, ...]]:
    """Read the files of memray of a folder.

    Parameters
    ----------
    folder : path
        Of ``*.bin``.
    read_max_bytes : int
        Of all files that are read; the smallest come first.

    Returns
    -------
    tuple of Peak
        The highest first.
    tuple of str
        Which files could not be read, and why.
    """
    peaks: list[Peak] = []
    notes: list[str] = []
    left = read_max_bytes
    for size, path in sorted((_size(path), path) for path in memray_files(folder)):
        left -= size
        if left < 0:
            notes.append(
                f"{path.name} is too large to be summed up here ({size // 1_000_000} MB of"
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
                notes.append(f"{path.name} holds nothing: its worker ended before it wrote")
    return tuple(sorted(peaks, key=lambda peak: -peak.peak_bytes)), (*notes, *read_gaps(folder))


def _size(path: Path) -> int:
    with path.open("rb") as stream:
        packed = stream.read(len(_LZ4)) == _LZ4
    return path.stat().st_size * (_PACKED if packed else 1)


def read_peak(path: Path, attribution: Attribution | None = None) -> Peak:
    """Read what was held when most was.

    Parameters
    ----------
    path : path
        Of a file of memray.
    attribution : Attribution, optional
        Finds the lines that allocations are attributed to; those of the program by default.

    Raises
    ------
    OSError
        If it is no file of memray, or one whose process ended before anything was in it.
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
        LineBytes(line, size, allocations[line])
        for line, size in held.most_common(MAX_LINES)
        if size >= LEAST_SHARE * peak
    )
    return Peak(stem_of(path), peak, lines)


def highest(peaks: Iterable[Peak]) -> tuple[LineBytes, ...]:
    """Return the most that each line held at any of these peaks, most first."""
    most: dict[Line, LineBytes] = {}
    for one in (line for peak in peaks for line in peak.lines):
        if one.line not in most or one.held_bytes > most[one.line].held_bytes:
            most[one.line] = one
    return tuple(sorted(most.values(), key=lambda one: -one.held_bytes)[:MAX_LINES])
