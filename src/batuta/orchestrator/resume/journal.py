"""The journal of one dataset: the tiles that are done, on disk, safe from a kill and a power loss.

A journal is a folder that only its user may write in. It holds a file of lines, each a JSON
object, and the values of tiles that the program needs again. The first line is a header: what the
dataset is made from. Each other line is a tile that is done. A line is written only after
everything that it vouches for was synced to disk, so that a line that can be read is always true.
"""

import json
import os
import pickle
import stat
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Final

from batuta.datasets.durable_file import remove, replace_file, sync_file
from batuta.durable_folders import sync_folder
from batuta.errors import ConfigurationError
from batuta.orchestrator.events import TileOutcome

JOURNAL_FILE: Final = "journal"
_WRITABLE_BY_OTHERS: Final = stat.S_IWGRP | stat.S_IWOTH


@dataclass(frozen=True)
class TileRecord:
    """A tile that is done. The fields are the keys of a line of the journal.

    Parameters
    ----------
    row, col : int
        Its position in the grid.
    outcome : str
        A `TileOutcome`: saved, replaced, computed or empty.
    without : tuple of int
        Ranks of the files whose tag it lacks.
    """

    row: int
    col: int
    outcome: str
    without: tuple[int, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the line, without an empty `without`."""
        required = {"row": self.row, "col": self.col, "outcome": self.outcome}
        return required | ({"without": self.without} if self.without else {})


@dataclass
class JournalContent:
    """What was read from a journal."""

    header: dict[str, Any]
    tiles: dict[tuple[int, int], TileRecord] = field(default_factory=dict)
    files: list[dict[str, int]] | None = None
    """Once the dataset is complete: the final files of each output, with their sizes in bytes."""
    valid_bytes: int = 0
    """Length of the part of the file that can be read."""
    damaged_line: int | None = None
    """The first line that cannot be read, from 1; None too for a last line torn by a kill."""


class Journal:
    """The journal in `folder`; to be opened by `create` or `resume` before anything is appended."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._stream: IO[bytes] | None = None
        self._values_to_sync: list[Path] = []

    @property
    def path(self) -> Path:
        """The file of lines."""
        return self.folder / JOURNAL_FILE

    def read(self) -> JournalContent | None:
        """Read what an earlier run wrote, up to the first line that cannot be read.

        Returns
        -------
        JournalContent or None
            None if there is no journal.
        """
        if not self.folder.is_dir():
            return None
        check_private(self.folder)
        try:
            lines = self.path.read_bytes().splitlines(keepends=True)
        except FileNotFoundError:
            return None
        return _parse(lines)

    def delete(self) -> None:
        """Delete the journal and the values of its tiles, durably."""
        # The file of lines first, and synced: a kill in the middle of the removal must not leave
        # lines whose values are gone.
        self.path.unlink(missing_ok=True)
        if self.folder.exists():
            sync_folder(self.folder)
            remove(self.folder)

    def create(self, header: Mapping[str, Any]) -> None:
        """Create a journal with `header` and no tile."""
        make_private_folder(self.folder)
        # By a synced draft and a rename: a journal without its whole header never exists.
        draft = self.folder / "draft"
        draft.write_bytes(_encode(header))
        replace_file(draft, self.path)
        sync_folder(self.folder.parent)
        self._stream = self.path.open("ab")

    def resume(self, content: JournalContent) -> None:
        """Open the journal to append after what was read, and cut off the rest."""
        # Cut off, not skipped: appended to a torn line, the next one could not be read either.
        self._stream = self.path.open("r+b")
        self._stream.truncate(content.valid_bytes)
        self._stream.seek(content.valid_bytes)

    def append(self, lines: Iterable[Mapping[str, Any]]) -> None:
        """Write lines, and return once they are on disk."""
        if self._stream is None:
            raise RuntimeError(f"{self.path} is not open")
        # The values first, then the names that lead to them, then the lines: the system may write
        # to disk in any order what was not synced, and a line vouches for the value of its tile.
        for path in self._values_to_sync:
            sync_file(path)
        if self._values_to_sync:
            sync_folder(self.folder)
            self._values_to_sync.clear()
        self._stream.write(b"".join(map(_encode, lines)))
        self._stream.flush()
        os.fsync(self._stream.fileno())

    def close(self) -> None:
        """Close the file. Idempotent."""
        if self._stream is not None:
            self._stream.close()

    # Values of tiles

    def write_value(self, row: int, col: int, value: Any) -> None:
        """Write the value of a tile; the next `append` syncs it to disk."""
        path = self._value_path(row, col)
        with path.open("wb") as stream:
            pickle.dump(value, stream, protocol=5)
        self._values_to_sync.append(path)

    def read_value(self, row: int, col: int) -> Any:
        """Read the value of a tile.

        Raises
        ------
        ConfigurationError
            If other users may have written it.
        """
        # Unpickling runs what the file says. So the folder is checked again now, no link is
        # followed, and it is the open file that is checked: what is checked is what is read.
        check_private(self.folder)
        with open(self._value_path(row, col), "rb", opener=_open_no_follow) as stream:
            _check_owner(self._value_path(row, col), os.fstat(stream.fileno()))
            return pickle.load(stream)  # noqa: S301 - in a folder and a file of this user alone

    def has_value(self, row: int, col: int) -> bool:
        """Whether the value of a tile exists."""
        return self._value_path(row, col).is_file()

    def _value_path(self, row: int, col: int) -> Path:
        return self.folder / f"{row:08d}_{col:08d}.tile"


def _parse(lines: Sequence[bytes]) -> JournalContent:
    """Parse lines up to the first that cannot be read; without a header if that is the first."""
    content = JournalContent({})
    for number, line in enumerate(lines, 1):
        try:
            _parse_line(content, json.loads(line), is_header=number == 1)
            # A line without its end was torn, even if what there is of it can be read.
            is_readable = line.endswith(b"\n")
        except (ValueError, TypeError, KeyError):
            is_readable = False
        if not is_readable:
            is_torn = number == len(lines) and not line.endswith(b"\n")
            content.damaged_line = None if is_torn else number
            break
        content.valid_bytes += len(line)
    return content


def _parse_line(content: JournalContent, line: dict[str, Any], *, is_header: bool) -> None:
    if is_header:
        content.header = dict(line)
    elif "files" in line:
        content.files = [
            {str(name): int(size) for name, size in files.items()} for files in line["files"]
        ]
    else:
        tile = TileRecord(**{**line, "without": tuple(map(int, line.get("without", ())))})
        if not all(type(each) is int and each >= 0 for each in (tile.row, tile.col)):
            raise ValueError(tile)
        TileOutcome(tile.outcome)
        content.tiles[tile.row, tile.col] = tile


def _encode(line: Mapping[str, Any]) -> bytes:
    return json.dumps(line, separators=(",", ":")).encode() + b"\n"


def make_private_folder(folder: Path) -> None:
    """Make a folder that only this user may enter, or check one that exists.

    Raises
    ------
    ConfigurationError
        If it belongs to another user, or others may write in it.
    """
    folder.mkdir(mode=0o700, exist_ok=True)
    check_private(folder)


def check_private(folder: Path) -> None:
    """Refuse a folder in which another user may have written."""
    _check_owner(folder, folder.lstat())


def _check_owner(path: Path, status: os.stat_result) -> None:
    is_link = stat.S_ISLNK(status.st_mode)
    if is_link or status.st_uid != os.getuid() or status.st_mode & _WRITABLE_BY_OTHERS:
        raise ConfigurationError(
            f"resume: {path} is not trusted, as other users may have written it; remove it"
        )


def _open_no_follow(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW)
