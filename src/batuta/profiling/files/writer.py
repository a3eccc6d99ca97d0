"""Writes the profile of a run while it runs, so that a run that is killed has one too.

A Parquet file can be read only once it is complete. So rows are written as parts, a small file for
each second, and the parts are joined into one table when the run ends.
"""

import logging
import re
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from batuta.errors import one_line
from batuta.profiling.capture.layout import (
    CPROFILE_FOLDER,
    LEAKS,
    LOOPS,
    MEMRAY_FOLDER,
    PLACES,
    RUN_FILE,
    TASKS,
)
from batuta.profiling.capture.records import Repeats, TaskRow

if TYPE_CHECKING:
    from batuta.profiling.files.run_info import RunInfo

LOG: Final = logging.getLogger(__name__)

WRITE_EVERY_S: Final = 1.0
"""What the profile of a killed run may lack at its end..."""
WRITE_EVERY_MAX_S: Final = 10.0
"""... and after hours: so that a day has thousands of files, not a hundred thousand."""
_TARGET_PARTS: Final = 300
_SAFE_NAME: Final = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*")
_FOLDERS: Final = (CPROFILE_FOLDER, MEMRAY_FOLDER)


@dataclass(frozen=True)
class _TableKind:
    """One of the tables of a profile."""

    stem: str
    to_table: Callable[[Sequence[Any]], Any]


def _table_kinds() -> tuple[_TableKind, ...]:
    # Arrow takes a fifth of a second to import: the thread that writes does it, not the run.
    from batuta.profiling.files.schemas import (  # noqa: PLC0415
        leak_table,
        loop_table,
        place_table,
        task_table,
    )

    return (
        _TableKind(TASKS, task_table),
        _TableKind(PLACES, place_table),
        _TableKind(LOOPS, loop_table),
        _TableKind(LEAKS, leak_table),
    )


class ProfileWriter:
    """Records measurements from any thread, and writes them once a second in a thread of its own.

    Parameters
    ----------
    folder : Path
        ``OUT/profile``, which exists.
    info : RunInfo
        Of the run that starts.
    """

    detailed = True

    def __init__(self, folder: Path, info: "RunInfo") -> None:
        self.problem: Exception | None = None
        """Why the profile is incomplete, if it is."""
        self._folder = folder
        self._run_file_text = ""
        """What this writer last wrote to `RUN_FILE`."""
        self._pending: dict[str, list[Any]] = {TASKS: [], PLACES: [], LOOPS: [], LEAKS: []}
        self._lock = threading.Lock()
        self._parts = 0
        self._started_s = time.monotonic()
        self._closing = threading.Event()
        self._write_info(info)
        self._thread = threading.Thread(
            target=self._write_until_closed, name="batuta-profile", daemon=True
        )
        self._thread.start()

    def record_tasks(self, rows: Sequence[TaskRow]) -> None:
        """Record attempts at tasks that ended."""
        self._record(TASKS, rows)

    def record_places(self, places: Sequence[tuple[int, str, int, int]]) -> None:
        """Record which task makes which tile: its number, the dataset, the row and the column."""
        self._record(PLACES, places)

    def record_repeats(self, repeats: Repeats) -> None:
        """Record the measurements of repeated tasks."""
        self._record(LOOPS, repeats.loops)
        self._record(LEAKS, repeats.leaks)

    def record_file(self, folder: str, name: str, content: bytes) -> None:
        """Write a file that a profiler made on another machine.

        Its name comes from outside: one that would leave the folders of profilers is refused.
        """
        if folder not in _FOLDERS or not _SAFE_NAME.fullmatch(name):
            self.problem = ValueError(f"{folder}/{name}: not a valid name for a file of a profiler")
            return
        path = self._folder / folder / name
        try:
            path.parent.mkdir(exist_ok=True)
            _write_atomically(path, lambda draft: draft.write_bytes(content))
        except OSError as exc:
            self.problem = exc

    def _record(self, stem: str, rows: Iterable[Any]) -> None:
        if self.problem is not None:
            return  # the thread may have ended: rows would only fill the memory
        with self._lock:
            self._pending[stem] += rows

    # In the thread that writes

    def _write_until_closed(self) -> None:
        try:
            kinds = _table_kinds()
            while not self._closing.wait(self._interval_s()):
                self._write_parts(kinds)
            self._write_parts(kinds)  # what was recorded since the last time
        except Exception as exc:
            LOG.exception("profiling: cannot write the profile")
            self.problem = exc

    def _interval_s(self) -> float:
        ran_s = time.monotonic() - self._started_s
        return min(WRITE_EVERY_MAX_S, max(WRITE_EVERY_S, ran_s / _TARGET_PARTS))

    def _write_parts(self, kinds: Sequence[_TableKind]) -> None:
        # Swapped under the lock and written outside of it: threads that record never wait for the
        # disk.
        with self._lock:
            pending, self._pending = self._pending, {stem: [] for stem in self._pending}
        if any(pending.values()):
            self._parts += 1
        for kind in kinds:
            if pending[kind.stem]:
                name = f"{kind.stem}-{self._parts:06d}.parquet"
                _write_table(self._folder / name, kind.to_table(pending[kind.stem]))

    # The end

    def close(self, info: "RunInfo") -> None:
        """Write what is left; then replace the parts of each table by the table.

        Parameters
        ----------
        info : RunInfo
            Of the run that ended.
        """
        self._closing.set()
        self._thread.join()
        # Two runs may have the same output folder: joining would mix their parts, and remove those
        # of the run that goes on.
        if (self._folder / RUN_FILE).read_text(encoding="utf-8") != self._run_file_text:
            LOG.error(
                "profiling: another run has overwritten the profile of this one in %s", self._folder
            )
            return
        try:
            if self.problem is None:
                self._join_parts()
        except Exception as exc:
            LOG.exception("profiling: cannot write the profile")
            self.problem = exc
        self._write_info(info)
        if self.problem is not None:
            self.note(f"the profile is incomplete: {one_line(self.problem)}")

    def note(self, text: str) -> None:
        """Add a note for the readers of the profile."""
        info = self._info
        self._write_info(replace(info, notes=(*info.notes, text)))

    def _join_parts(self) -> None:
        from batuta.profiling.files.reader import read_final_tables  # noqa: PLC0415

        tables = read_final_tables(self._folder)
        # Readers prefer a table to its parts: parts are removed once all tables are there.
        for stem, table in tables.items():
            _write_table(self._folder / f"{stem}.parquet", table)
        for stem in self._pending:
            for part in self._folder.glob(f"{stem}-*.parquet"):
                part.unlink()

    def _write_info(self, info: "RunInfo") -> None:
        self._info = info
        self._run_file_text = text = info.as_json()
        _write_atomically(
            self._folder / RUN_FILE, lambda draft: draft.write_text(text, encoding="utf-8")
        )


def _write_table(path: Path, table: Any) -> None:
    from pyarrow import parquet  # noqa: PLC0415

    _write_atomically(path, lambda draft: parquet.write_table(table, draft))


def _write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file so that readers find all of it, or none."""
    draft = path.with_name(f".{path.name}.draft")
    write(draft)
    draft.replace(path)
