"""memray's flame graphs of who allocated memory, in pages that open offline."""

import html
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import quote

from batuta.errors import BatutaError, ConfigurationError
from batuta.profiling.capture.layout import MEMRAY_FOLDER, PROFILE_FOLDER
from batuta.profiling.merge.memray import memray_files, read_peaks, stem_of
from batuta.profiling.merge.merge import leaks_by_line, read_leaks
from batuta.profiling.merge.model import Leak, LineMemory, MemoryPeak

INDEX: Final = "index.html"
_NO_LIMIT: Final = sys.maxsize
_STYLE: Final = """
:root { color-scheme: light dark; }
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 70rem; padding: 0 1rem; }
table { border-collapse: collapse; width: 100%; }
th, td { border-bottom: 1px solid #8884; padding: .4rem .6rem; text-align: left;
  vertical-align: top; }
td.number, th.number { text-align: right; white-space: nowrap; width: 9rem; }
small { opacity: .75; overflow-wrap: anywhere; }
"""


@dataclass(frozen=True)
class PeakPages:
    """The flame graphs drawn of one file of memray."""

    peak: MemoryPeak
    at_peak: Path | None
    """None where it was not drawn, as other peaks are higher."""
    never_freed: Path | None


def draw_flame_graph(file: Path, page: Path, *, leaks: bool = False) -> None:
    """Draw the flame graph of a file of memray.

    Parameters
    ----------
    file : path
        The file that memray wrote.
    page : path
        The HTML page to write; it opens offline.
    leaks : bool
        Draw the memory that was never freed, instead of the memory at the peak.

    Raises
    ------
    BatutaError
        If memray cannot read the file.
    """
    command = [sys.executable, "-m", "memray", "flamegraph", "--no-web", "--force"]
    command += ["--leaks"] if leaks else []
    command += ["--output", str(page), str(file)]
    ended = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    if ended.returncode != 0 or not page.exists():
        output = " ".join((ended.stderr or ended.stdout).split())
        raise BatutaError(f"{file}: memray could not draw a flame graph: {output}")


def draw_flame_graphs(folder: Path, *, most: int, leaks: bool) -> Path:
    """Draw the flame graphs of a run profiled by memray, and an index page that links to them.

    Parameters
    ----------
    folder : path
        The output folder of the run, or its folder ``profile``.
    most : int
        Maximum number of files to draw: those with the highest peaks.
    leaks : bool
        Also draw the memory that was never freed.

    Returns
    -------
    path
        The index page.

    Raises
    ------
    ConfigurationError
        If there are no files of memray.
    """
    inside = _profile_folder(folder)
    files = {stem_of(path): path for path in memray_files(inside / MEMRAY_FOLDER)}
    peaks, notes = read_peaks(inside / MEMRAY_FOLDER, _NO_LIMIT)
    drawn = [_draw_peak(files[peak.name], peak, leaks=leaks) for peak in peaks[:most]]
    drawn += [PeakPages(peak, None, None) for peak in peaks[most:]]
    index = inside / MEMRAY_FOLDER / INDEX
    found = leaks_by_line(read_leaks(inside))
    index.write_text("\n".join(_page(folder, drawn, found, notes)), encoding="utf-8")
    return index


def _draw_peak(file: Path, peak: MemoryPeak, *, leaks: bool) -> PeakPages:
    page = file.with_name(f"{peak.name}.html")
    draw_flame_graph(file, page)
    if not leaks:
        return PeakPages(peak, page, None)
    other = file.with_name(f"{peak.name}-leaks.html")
    draw_flame_graph(file, other, leaks=True)
    return PeakPages(peak, page, other)


def _profile_folder(folder: Path) -> Path:
    for inside in (folder / PROFILE_FOLDER, folder):
        if memray_files(inside / MEMRAY_FOLDER):
            return inside
    if not folder.is_dir():
        raise ConfigurationError(f"{folder}: no such folder")
    raise ConfigurationError(
        f"{folder}: no memray files found (looked for {PROFILE_FOLDER}/{MEMRAY_FOLDER}/*.bin,"
        ' which a run writes with `profiling: {"mode": "memray"}`)'
    )


# The page


def _page(
    folder: Path, drawn: Sequence[PeakPages], leaks: Sequence[Leak], notes: Sequence[str]
) -> Iterator[str]:
    title = html.escape(f"Who allocated the memory: {folder.absolute().name}")
    yield f'<!DOCTYPE html><html lang="en"><meta charset="utf-8"><title>{title}</title>'
    yield f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style>'
    yield f"<h1>{title}</h1>"
    yield from (f"<p>{html.escape(note)}</p>" for note in notes)
    if leaks:
        yield "<h2>What is allocated in each repetition and never freed</h2><table>"
        yield '<tr><th class="number">kB a repetition<th>Line<th>Task'
        for leak in leaks:
            size = f"{leak.bytes_per_loop / 1e3:.1f}"
            line = html.escape(f"{leak.line.function} ({leak.line.file}:{leak.line.line})")
            yield f'<tr><td class="number">{size}<td>{line}<td>{html.escape(leak.task)}'
        yield "</table>"
    yield "<h2>At its peak, each worker or task</h2><table>"
    yield '<tr><th>Flame graph<th class="number">Peak (MB)<th>Lines that held most'
    yield from map(_row, drawn)
    yield "</table></html>"


def _row(one: PeakPages) -> str:
    name = html.escape(one.peak.name)
    if one.at_peak is not None:
        name = f'<a href="{quote(one.at_peak.name)}">{name}</a>'
    if one.never_freed is not None:
        name += f'<br><a href="{quote(one.never_freed.name)}">what was not freed</a>'
    lines = "<br>".join(map(_line, one.peak.lines[:3]))
    return f'<tr><td>{name}<td class="number">{one.peak.peak_bytes / 1e6:.1f}<td>{lines}'


def _line(one: LineMemory) -> str:
    function, file = html.escape(one.line.function), html.escape(one.line.file)
    return f"{one.held_bytes / 1e6:.1f} MB {function} <small>{file}:{one.line.line}</small>"
