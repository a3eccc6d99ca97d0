"""What was done of one dataset, on disk, so that it outlives the process.

A journal is a folder, private to the user: a file of lines, each a JSON object, and the values of
tiles that the program needs again. Its first line says what the dataset is made from; each other
line, a tile that is done. A line is written once all that it tells of is on disk itself.
"""

import json
import os
import pickle
import stat
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Final

from batuta.datasets.durable_file import remove, replace_file, sync_file, sync_folder
from batuta.errors import ConfigurationError
from batuta.orchestrator.events import TileOutcome

JOURNAL_FILE: Final = "journal"
_WRITABLE_BY_OTHERS: Final = stat.S_IWGRP | stat.S_IWOTH


@dataclass(frozen=True)
class TileLine:
    """A tile that is done.

    Parameters
    ----------
    row, col : int
        Its place in the grid.
    outcome : str
        What became of it: saved, replaced, computed or empty.
    without : tuple of int
        Ranks of the files whose tag it lacks.
    """

    row: int
    col: int
    outcome: str
    without: tuple[int, ...] = ()

    def line(self) -> dict[str, Any]:
        """Return what is written."""
        bare = {"row": self.row, "col": self.col, "outcome": self.outcome}
        return bare | ({"without": self.without} if self.without else {})


@dataclass
class Record:
    """What a journal says."""

    header: dict[str, Any]
    tiles: dict[tuple[int, int], TileLine] = field(default_factory=dict)
    files: list[dict[str, int]] | None = None
    """Once the dataset is whole: the final files of each output, and their sizes in bytes."""
    nbytes: int = 0
    """How much of the file can be read."""
    damaged_line: int | None = None
    """The first line that cannot be read, from 1, unless it is the last, torn by a kill."""


class Journal:
    """Keeps account of one dataset in `folder`; opened by `begin` or `go_on`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._stream: IO[bytes] | None = None
        self._to_sync: list[Path] = []

    @property
    def path(self) -> Path:
        """The file of lines."""
        return self.folder / JOURNAL_FILE

    def read(self) -> Record | None:
        """Read what an earlier run wrote, but for a last line that it was killed in.

        Returns
        -------
        Record or None
            None where there is no journal.
        """
        if not self.folder.is_dir():
            return None
        check_private(self.folder)
        try:
            lines = self.path.read_bytes().splitlines(keepends=True)
        except FileNotFoundError:
            return None
        return _record_of(lines)

    def drop(self) -> None:
        """Forget all that an earlier run wrote, for good."""
        self.path.unlink(missing_ok=True)
        if self.folder.exists():
            sync_folder(self.folder)
            remove(self.folder)

    def begin(self, header: Mapping[str, Any]) -> None:
        """Start a journal of what `header` says, with no tile."""
        make_private(self.folder)
        draft = self.folder / "draft"
        draft.write_bytes(_encoded(header))
        replace_file(draft, self.path)
        sync_folder(self.folder.parent)
        self._stream = self.path.open("ab")

    def go_on(self, record: Record) -> None:
        """Write after what was read."""
        self._stream = self.path.open("r+b")
        self._stream.truncate(record.nbytes)
        self._stream.seek(record.nbytes)

    def append(self, lines: Iterable[Mapping[str, Any]]) -> None:
        """Write lines, and return when they are on disk, after the values that were kept."""
        if self._stream is None:
            raise RuntimeError(f"{self.path} is not open")
        for path in self._to_sync:
            sync_file(path)
        if self._to_sync:
            sync_folder(self.folder)
            self._to_sync.clear()
        self._stream.write(b"".join(map(_encoded, lines)))
        self._stream.flush()
        os.fsync(self._stream.fileno())

    def close(self) -> None:
        """Close the file; harmless when done before."""
        if self._stream is not None:
            self._stream.close()

    # Values of tiles

    def keep(self, row: int, col: int, value: Any) -> None:
        """Keep the value of a tile; on disk when the next line is."""
        path = self._value_path(row, col)
        with path.open("wb") as stream:
            pickle.dump(value, stream, protocol=5)
        self._to_sync.append(path)

    def value(self, row: int, col: int) -> Any:
        """Return the value of a tile that was kept.

        Raises
        ------
        ConfigurationError
            If others than this user may have written it.
        """
        check_private(self.folder)
        with open(self._value_path(row, col), "rb", opener=_without_links) as stream:
            _check_ours(self._value_path(row, col), os.fstat(stream.fileno()))
            return pickle.load(stream)  # noqa: S301 - in a folder and a file of this user alone

    def lacks_value(self, row: int, col: int) -> bool:
        """Whether the value of a tile is not there."""
        return not self._value_path(row, col).is_file()

    def _value_path(self, row: int, col: int) -> Path:
        return self.folder / f"{row:08d}_{col:08d}.tile"


def _record_of(lines: Sequence[bytes]) -> Record:
    """Read up to the first line that is not whole; with no header where that cannot be read."""
    record = Record({})
    for number, line in enumerate(lines, 1):
        try:
            _take(record, json.loads(line), is_first=number == 1)
            is_whole = line.endswith(b"\n")
        except (ValueError, TypeError, KeyError):
            is_whole = False
        if not is_whole:
            is_torn = number == len(lines) and not line.endswith(b"\n")
            record.damaged_line = None if is_torn else number
            break
        record.nbytes += len(line)
    return record


def _take(record: Record, content: dict[str, Any], *, is_first: bool) -> None:
    if is_first:
        record.header = dict(content)
    elif "files" in content:
        record.files = [
            {str(name): int(size) for name, size in files.items()} for files in content["files"]
        ]
    else:
        tile = TileLine(**{**content, "without": tuple(map(int, content.get("without", ())))})
        if not all(type(each) is int and each >= 0 for each in (tile.row, tile.col)):
            raise ValueError(tile)
        TileOutcome(tile.outcome)
        record.tiles[tile.row, tile.col] = tile


def _encoded(line: Mapping[str, Any]) -> bytes:
    return json.dumps(line, separators=(",", ":")).encode() + b"\n"


def make_private(folder: Path) -> None:
    """Make a folder that this user alone may enter; one that is there must be so.

    Raises
    ------
    ConfigurationError
        If it belongs to another user, or others may write to it.
    """
    folder.mkdir(mode=0o700, exist_ok=True)
    check_private(folder)


def check_private(folder: Path) -> None:
    """Refuse a folder in which another user may have written."""
    _check_ours(folder, folder.lstat())


def _check_ours(path: Path, found: os.stat_result) -> None:
    link = stat.S_ISLNK(found.st_mode)
    if link or found.st_uid != os.getuid() or found.st_mode & _WRITABLE_BY_OTHERS:
        raise ConfigurationError(
            f"resume: {path} is not this user's alone, and is not trusted; remove it"
        )


def _without_links(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW)
