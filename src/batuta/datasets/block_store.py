"""Compressed blocks of a file, kept in the order in which they come, until the file is made.

One file of records: a block, and its pixels in the first overview. What was synced outlives a
killed process and a power loss; a record that was cut short is dropped when it is opened again.
"""

import os
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from batuta.datasets.block_codec import EncodedBlock, Position
from batuta.durable_folders import sync_folder

_HEADER: Final = struct.Struct("<QQQQII")
"""Row and column of the block, bytes of it and of its half, their checksum, that of the header."""
_HEADER_CHECKED: Final = struct.Struct("<QQQQI")


@dataclass(frozen=True)
class _Record:
    start: int
    """Where the block begins in the file."""
    size: int
    half_size: int


class BlockStore:
    """The blocks of a raster, by their positions; the last one written counts.

    Parameters
    ----------
    path : Path
        The file of records.
    resume : bool
        Whether to keep the records that are there.
    """

    def __init__(self, path: Path, *, resume: bool = False) -> None:
        self._path = path
        self._records: dict[Position, _Record] = {}
        self._opened: int | None = os.open(
            path, os.O_RDWR | os.O_CREAT | (0 if resume else os.O_TRUNC), 0o666
        )
        self._end = 0
        if resume:
            self._scan()
            os.ftruncate(self._descriptor, self._end)

    def __contains__(self, position: object) -> bool:
        return position in self._records

    def __len__(self) -> int:
        return len(self._records)

    def positions(self) -> Iterator[Position]:
        """Iterate over the positions of the blocks that are there, row by row."""
        return iter(sorted(self._records))

    def add(self, position: Position, block: EncodedBlock) -> None:
        """Append a block."""
        half = b"" if block.half is None else block.half.tobytes()
        self._append(position, block.content, half)
        self._records[position] = _Record(
            self._end - len(half) - len(block.content), len(block.content), len(half)
        )

    def discard(self, position: Position) -> None:
        """Forget a block, also when the file is opened again."""
        if self._records.pop(position, None) is not None:
            self._append(position, b"", b"")

    def _append(self, position: Position, content: bytes, half: bytes) -> None:
        checksum = zlib.crc32(half, zlib.crc32(content))
        checked = (*position, len(content), len(half), checksum)
        header = _HEADER.pack(*checked, zlib.crc32(_HEADER_CHECKED.pack(*checked)))
        at = self._end
        for part in (header, content, half):
            _write_at(self._descriptor, part, at)
            at += len(part)
        self._end = at

    def size_of(self, position: Position) -> int:
        """Return the size of a block, in bytes."""
        return self._records[position].size

    def content(self, position: Position) -> bytes:
        """Return a block as it is in the file that is made."""
        found = self._records[position]
        return os.pread(self._descriptor, found.size, found.start)

    def half(self, position: Position, dtype: str) -> npt.NDArray[Any]:
        """Return the pixels of a block in the first overview, without their shape."""
        found = self._records[position]
        return np.frombuffer(
            os.pread(self._descriptor, found.half_size, found.start + found.size), dtype
        )

    def sync(self) -> None:
        """Make the blocks durable."""
        os.fsync(self._descriptor)
        sync_folder(self._path.parent)

    def close(self) -> None:
        """Close the file; whatever needs it opens it again."""
        if self._opened is not None:
            os.close(self._opened)
            self._opened = None

    @property
    def _descriptor(self) -> int:
        if self._opened is None:
            self._opened = os.open(self._path, os.O_RDWR)
        return self._opened

    def _scan(self) -> None:
        """Read the records, up to the first one that is not whole."""
        while len(header := os.pread(self._descriptor, _HEADER.size, self._end)) == _HEADER.size:
            *checked, header_checksum = _HEADER.unpack(header)
            row, col, size, half_size, checksum = checked
            if zlib.crc32(_HEADER_CHECKED.pack(*checked)) != header_checksum:
                return
            start = self._end + _HEADER.size
            held = os.pread(self._descriptor, size + half_size, start)
            if len(held) != size + half_size or zlib.crc32(held) != checksum:
                return
            self._end = start + len(held)
            if size:
                self._records[row, col] = _Record(start, size, half_size)
            else:
                self._records.pop((row, col), None)


def _write_at(descriptor: int, content: bytes, at: int) -> None:
    view = memoryview(content)
    while view:
        written = os.pwrite(descriptor, view, at)
        view, at = view[written:], at + written
