"""Writes the profile of a run while it runs, so that a run that is killed has one too."""

import logging
import re
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

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
"""What a killed run may lack at its end..."""
WRITE_EVERY_MAX_S: Final = 10.0
"""... and after hours: so that a day has thousands of files, not a hundred thousand."""
_PARTS_AIMED_AT: Final = 300
_SAFE_NAME: Final = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*")
_FOLDERS: Final = (CPROFILE_FOLDER, MEMRAY_FOLDER)


@dataclass(frozen=True)
class _Kind:
    """One of the tables of a profile."""

    stem: str
    tabled: Callable[[Sequence[Any]], Any]


def _kinds() -> tuple[_Kind, ...]:
    # Arrow takes a fifth of a second to import: in the thread that writes.
    from batuta.profiling.files.schemas import (  # noqa: PLC0415
        leak_table,
        loop_table,
        place_table,
        task_table,
    )

    return (
        _Kind(TASKS, task_table),
        _Kind(PLACES, place_table),
        _Kind(LOOPS, loop_table),
        _Kind(LEAKS, leak_table),
    )


class Recorder:
    """Takes what is measured, and writes it once a second in a thread of its own.

    Parameters
    ----------
    folder : Path
        ``OUT/profile``, which is there.
    info : RunInfo
        Of the run that begins.
    """

    detailed = True

    def __init__(self, folder: Path, info: "RunInfo") -> None:
        self.problem: Exception | None = None
        """What keeps the profile from being written, if something does."""
        self._folder = folder
        self._told = ""
        """What was last written of the run."""
        self._pending: dict[str, list[Any]] = {TASKS: [], PLACES: [], LOOPS: [], LEAKS: []}
        self._lock = threading.Lock()
        self._parts = 0
        self._began_s = time.monotonic()
        self._closing = threading.Event()
        self._write_info(info)
        self._thread = threading.Thread(target=self._run, name="batuta-profile", daemon=True)
        self._thread.start()

    def take(self, rows: Sequence[TaskRow]) -> None:
        """Take attempts at tasks that ended; from any thread."""
        self._keep(TASKS, rows)

    def take_places(self, places: Sequence[tuple[int, str, int, int]]) -> None:
        """Take which task gives which tile: its number, the dataset, the row and the column."""
        self._keep(PLACES, places)

    def take_repeats(self, repeats: Repeats) -> None:
        """Take what repeating tasks has shown."""
        self._keep(LOOPS, repeats.loops)
        self._keep(LEAKS, repeats.leaks)

    def take_file(self, folder: str, name: str, content: bytes) -> None:
        """Take a file of a profiler of another machine; its name leads nowhere else."""
        if folder not in _FOLDERS or not _SAFE_NAME.fullmatch(name):
            self.problem = ValueError(f"{folder}/{name}: not the name of a file of a profiler")
            return
        path = self._folder / folder / name
        try:
            path.parent.mkdir(exist_ok=True)
            _written(path, lambda draft: draft.write_bytes(content))
        except OSError as exc:
            self.problem = exc

    def _keep(self, stem: str, rows: Iterable[Any]) -> None:
        if self.problem is not None:
            return  # nobody would write them
        with self._lock:
            self._pending[stem] += rows

    # The thread

    def _run(self) -> None:
        try:
            kinds = _kinds()
            while not self._closing.wait(self._rest_s()):
                self._write_parts(kinds)
            self._write_parts(kinds)
        except Exception as exc:
            LOG.exception("the profile cannot be written")
            self.problem = exc

    def _rest_s(self) -> float:
        ran_s = time.monotonic() - self._began_s
        return min(WRITE_EVERY_MAX_S, max(WRITE_EVERY_S, ran_s / _PARTS_AIMED_AT))

    def _write_parts(self, kinds: Sequence[_Kind]) -> None:
        with self._lock:
            taken, self._pending = self._pending, {stem: [] for stem in self._pending}
        if any(taken.values()):
            self._parts += 1
        for kind in kinds:
            if taken[kind.stem]:
                name = f"{kind.stem}-{self._parts:06d}.parquet"
                _write_table(self._folder / name, kind.tabled(taken[kind.stem]))

    # The end

    def close(self, info: "RunInfo") -> None:
        """Write what is left; then each table whole, in the place of its parts.

        Parameters
        ----------
        info : RunInfo
            Of the run that ended.
        """
        self._closing.set()
        self._thread.join()
        if (self._folder / RUN_FILE).read_text(encoding="utf-8") != self._told:
            LOG.error("%s: another run has written its profile there, over this one", self._folder)
            return
        try:
            if self.problem is None:
                self._write_whole()
        except Exception as exc:
            LOG.exception("the profile cannot be written")
            self.problem = exc
        self._write_info(info)
        if self.problem is not None:
            self.note(f"the profile is not whole: {self.problem}")

    def note(self, text: str) -> None:
        """Add to what whoever reads the profile must know."""
        info = self._info
        self._write_info(info.model_copy(update={"notes": (*info.notes, text)}))

    def _write_whole(self) -> None:
        from batuta.profiling.files.reader import whole_tables  # noqa: PLC0415

        tables = whole_tables(self._folder)
        for stem, table in tables.items():
            _write_table(self._folder / f"{stem}.parquet", table)
        for stem in self._pending:
            for part in self._folder.glob(f"{stem}-*.parquet"):
                part.unlink()

    def _write_info(self, info: "RunInfo") -> None:
        self._info = info
        self._told = text = info.model_dump_json(indent=1)
        _written(self._folder / RUN_FILE, lambda draft: draft.write_text(text, encoding="utf-8"))


def _write_table(path: Path, table: Any) -> None:
    from pyarrow import parquet  # noqa: PLC0415

    _written(path, lambda draft: parquet.write_table(table, draft))


def _written(path: Path, write: Callable[[Path], object]) -> None:
    """Have a file written whole or not at all."""
    draft = path.with_name(f".{path.name}.draft")
    write(draft)
    draft.replace(path)
