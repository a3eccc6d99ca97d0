"""How the states of tiles travel: from the process that computes to its service, and over REST.

A tile is a number: its place in the grids of its processing, one after the other, row by row. What
is known of it takes five bytes: its state, its worker, and its time and memory as codes on a
logarithmic scale. docs/reference/tiles.md describes it for other readers.
"""

import base64
import binascii
import math
import struct
from collections.abc import Iterator
from enum import IntEnum
from typing import Annotated, Final, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

MAX_TILES: Final = 1_000_000
"""Of one processing; the grids beyond are not told."""
MAX_GRIDS: Final = 256
MAX_BOUNDS: Final = 20_000
"""Rows and columns of a grid whose bounds are told; tiles of others are drawn alike."""
MAX_WINDOWS: Final = 16_384
"""Tiles of a grid whose windows are told one by one, where they are not in rows and columns."""
MAX_WORKERS: Final = 10_000
"""Workers that are told by name; later ones have no name."""

AGAIN: Final = 0x40
"""Bit of the state of a tile that failed before and was computed once more."""
TIME_UNIT_S: Final = 0.001
STEPS_PER_DOUBLING: Final = 8
MEMORY_UNIT_BYTES: Final = 2**20

_CHANGE: Final = struct.Struct("<IHBBB")


class TileState(IntEnum):
    """What is known of a tile."""

    ABSENT = 0
    """Its place in the grid is empty."""
    WAITING = 1
    RUNNING = 2
    RETRIED = 3
    """It failed, and waits to be computed once more."""
    DONE = 4
    EMPTY = 5
    """Its task returned None."""
    KEPT = 6
    """An earlier run did it (`resume`)."""
    FAILED = 7


class TileChange(NamedTuple):
    """What is known of a tile from now on."""

    tile: int
    worker: int
    """1 for the first name that was told; 0: not known."""
    state: int
    """A `TileState`, perhaps with the bit `AGAIN`."""
    time: int
    memory: int


class TileGridRecord(BaseModel):
    """Where the tiles of a dataset lie.

    Attributes
    ----------
    dataset : str
        Its name.
    rows, cols : int
        Of the grid.
    row_bounds, col_bounds : tuple or None
        The first pixel of each row (or column) of tiles and the one after its last, in pairs; None
        where tiles do not lie in rows and columns, or where there are none.
    windows : str or None
        Base64 of four 32-bit integers a tile, little-endian: its first row, the end of its rows,
        its first column, the end of its columns.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    dataset: Annotated[str, StringConstraints(max_length=200)]
    rows: int = Field(ge=0, le=MAX_TILES)
    cols: int = Field(ge=0, le=MAX_TILES)
    row_bounds: tuple[int, ...] | None = Field(None, max_length=2 * MAX_BOUNDS)
    col_bounds: tuple[int, ...] | None = Field(None, max_length=2 * MAX_BOUNDS)
    windows: Annotated[str, StringConstraints(max_length=22 * MAX_WINDOWS)] | None = None


def encode_changes(changes: list[TileChange]) -> str:
    """Encode changes, nine bytes each, as base64."""
    return encode_bytes(b"".join(_CHANGE.pack(*change) for change in changes))


def decode_changes(text: str) -> Iterator[TileChange]:
    """Decode what `encode_changes` has encoded.

    Raises
    ------
    ValueError
        If it is anything else.
    """
    data = decode_bytes(text)
    if len(data) % _CHANGE.size:
        raise ValueError(f"changes of tiles: {len(data)} bytes, not a multiple of {_CHANGE.size}")
    return map(TileChange._make, _CHANGE.iter_unpack(data))


def encode_bytes(data: bytes | bytearray) -> str:
    """Encode bytes as base64."""
    return base64.b64encode(data).decode("ascii")


def decode_bytes(text: str) -> bytes:
    """Decode base64.

    Raises
    ------
    ValueError
        If it is not.
    """
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as exc:
        raise ValueError(f"not base64: {exc}") from exc


def time_code(seconds: float | None) -> int:
    """Return the code of a time: 0 for None, and each doubling from 1 ms on is eight more."""
    return 0 if seconds is None else _code(seconds / TIME_UNIT_S)


def memory_code(size_bytes: int | None) -> int:
    """Return the code of a memory: 0 for None, and each doubling from 1 MiB on is eight more."""
    return 0 if size_bytes is None else _code(size_bytes / MEMORY_UNIT_BYTES)


def _code(units: float) -> int:
    if units <= 1:
        return 1
    return min(255, 1 + round(STEPS_PER_DOUBLING * math.log2(units)))


_BITS: Final = tuple(bytes(byte >> bit & 1 for bit in range(8)) for byte in range(256))


def encode_present(present: bytes) -> str | None:
    """Encode which cells of a grid have a tile, a bit each; None if all have."""
    if 0 not in present:
        return None
    packed = bytearray(-(-len(present) // 8))
    for place, is_there in enumerate(present):
        packed[place >> 3] |= is_there << (place & 7)
    return encode_bytes(packed)


def decode_present(text: str | None, cells: int) -> bytes:
    """Decode which cells of a grid have a tile, a byte each.

    Raises
    ------
    ValueError
        If it is not for so many cells.
    """
    if text is None:
        return b"\1" * cells
    packed = decode_bytes(text)
    if len(packed) != -(-cells // 8):
        raise ValueError(f"present: {len(packed)} bytes for {cells} tiles")
    return b"".join(_BITS[byte] for byte in packed)[:cells]
