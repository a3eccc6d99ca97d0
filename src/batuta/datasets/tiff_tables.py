"""Where a TIFF file says that its blocks are: read from the file, and changed in it.

GDAL writes the directories of files; blocks that were compressed elsewhere are then entered in
them, which it has no call for.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from batuta.errors import BatutaError

Buffer: TypeAlias = bytes | bytearray

_TILE_OFFSETS: Final = 324
_TILE_BYTE_COUNTS: Final = 325
_TYPES: Final = {3: "u2", 4: "u4", 16: "u8"}
"""Data types by their number in TIFF: SHORT, LONG, LONG8."""


@dataclass(frozen=True)
class _Form:
    """How a directory is laid out: in classic TIFF, or in BigTIFF."""

    count: str
    """Type of the number of entries."""
    word: str
    """Type of an offset, and of the number of values of an entry."""

    @property
    def entry(self) -> np.dtype[Any]:
        fields = [("tag", "u2"), ("type", "u2"), ("count", self.word), ("value", self.word)]
        return np.dtype(fields)


_FORMS: Final = {42: _Form("u2", "u4"), 43: _Form("u8", "u8")}


@dataclass(frozen=True)
class BlockTable:
    """The blocks of one image of a file, row by row.

    Attributes
    ----------
    offsets, sizes : array
        Of each block, in bytes. Views of the content of the file: what is assigned to elements of
        them is changed there, if that is a bytearray.
    """

    offsets: npt.NDArray[Any]
    sizes: npt.NDArray[Any]

    def place(self, sizes: npt.NDArray[np.int64], offsets: npt.NDArray[np.int64]) -> None:
        """Enter where blocks are.

        Raises
        ------
        BatutaError
            If the table cannot hold it.
        """
        for table, values in ((self.sizes, sizes), (self.offsets, offsets)):
            if values.size and values.max() > np.iinfo(table.dtype).max:
                raise BatutaError(f"a block at {values.max()} bytes is beyond a TIFF of this kind")
            table[:] = values


def block_tables(content: Buffer) -> list[BlockTable]:
    """Return the tables of all images of a file, in the order of its directories.

    Parameters
    ----------
    content : bytes or bytearray
        The file, or its beginning as far as the end of its directories.

    Raises
    ------
    BatutaError
        If it is no tiled TIFF in the byte order of this machine.
    """
    magic = int(np.frombuffer(content, "u2", 1, 2)[0])
    order = b"II" if np.little_endian else b"MM"
    if bytes(content[:2]) != order or magic not in _FORMS:
        raise BatutaError("no TIFF in the byte order of this machine")
    form = _FORMS[magic]
    return [_table(content, form, start) for start in _directories(content, form)]


def _directories(content: Buffer, form: _Form) -> Iterator[int]:
    """Iterate over the positions of the entries of each directory."""
    count_size = np.dtype(form.count).itemsize
    at = 4 if form.word == "u4" else 8
    while position := int(np.frombuffer(content, form.word, 1, at)[0]):
        yield position
        entries = int(np.frombuffer(content, form.count, 1, position)[0])
        at = position + count_size + entries * form.entry.itemsize


def _table(content: Buffer, form: _Form, position: int) -> BlockTable:
    count_size = np.dtype(form.count).itemsize
    number = int(np.frombuffer(content, form.count, 1, position)[0])
    start = position + count_size
    entries = np.frombuffer(content, form.entry, number, start)
    found: dict[int, npt.NDArray[Any]] = {}
    for rank, entry in enumerate(entries):
        if entry["tag"] not in {_TILE_OFFSETS, _TILE_BYTE_COUNTS}:
            continue
        values = np.dtype(_TYPES[int(entry["type"])])
        count = int(entry["count"])
        inline = count * values.itemsize <= np.dtype(form.word).itemsize
        value_at = start + rank * form.entry.itemsize + form.entry.fields["value"][1]  # type: ignore[index]  # it has fields
        at = value_at if inline else int(entry["value"])
        found[int(entry["tag"])] = np.frombuffer(content, values, count, at)
    if len(found) != 2:
        raise BatutaError("a TIFF without tiles")
    return BlockTable(found[_TILE_OFFSETS], found[_TILE_BYTE_COUNTS])
