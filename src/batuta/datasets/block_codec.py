"""Blocks of a GeoTIFF, compressed by whoever computes them: the same bytes everywhere.

GDAL compresses them, in a file in memory of which the blocks are taken out.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt
from affine import Affine
from numpy.lib.mixins import NDArrayOperatorsMixin
from rasterio.enums import Resampling
from rasterio.io import MemoryFile

from batuta.datasets.array_file import RasterSpec, is_same
from batuta.datasets.grid import Window
from batuta.datasets.options import SaveOptions
from batuta.datasets.raster_file import COG_BLOCK_PX, predictor_of
from batuta.datasets.tiff_tables import block_tables

Pixels: TypeAlias = npt.NDArray[Any]
Position: TypeAlias = tuple[int, int]
"""Of a block: its row and its column among blocks."""

_MIN_OVERVIEW_PX: Final = 64
_MAX_OVERVIEW_PX: Final = 4096
_OVERVIEW_PX: Final = 128
"""Side of a block that GDAL gives to overviews where it does not take that of the file, which must
be a power of two within these bounds."""
_SOME_TRANSFORM: Final = Affine(2, 0, 0, 0, -2, 0)
"""Of files in memory: without one, rasterio warns, which threads cannot each silence."""


@dataclass(frozen=True)
class EncodedBlock:
    """A block as a file holds it, and its pixels in the first overview.

    Parameters
    ----------
    content : bytes
        The compressed block.
    half : array or None
        Its pixels halved, of shape (bands, rows, columns); None where the file has no overview.
    """

    content: bytes
    half: Pixels | None


@dataclass(frozen=True, kw_only=True)
class BlockCodec:
    """How the blocks of a cloud-optimised GeoTIFF are made.

    Parameters
    ----------
    height, width, count : int
        Rows, columns and bands of the raster.
    dtype : str
        Data type of the file.
    nodata : float or None
        As of `RasterSpec`.
    compression : str
        As of `SaveOptions`.
    predictor : int
        Of TIFF; 0 where the compression takes none.
    block_px : int
        Side of a block, in pixels.
    nbits : int or None
        As of `SaveOptions`.
    """

    height: int
    width: int
    count: int
    dtype: str
    nodata: float | None = field(compare=False)
    compression: str
    predictor: int
    block_px: int
    nbits: int | None

    @classmethod
    def of(cls, spec: RasterSpec, options: SaveOptions) -> "BlockCodec":
        """Return the codec of a file."""
        return cls(
            height=spec.height,
            width=spec.width,
            count=spec.count,
            dtype=spec.dtype,
            nodata=spec.nodata,
            compression=options.compression or "none",
            predictor=predictor_of(spec.dtype, options),
            block_px=options.block_px or COG_BLOCK_PX,
            nbits=options.nbits,
        )

    def is_like(self, other: "BlockCodec") -> bool:
        """Return whether blocks of another codec are the same."""
        return self == other and is_same(self.nodata, other.nodata)

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of blocks."""
        return math.ceil(self.height / self.block_px), math.ceil(self.width / self.block_px)

    @property
    def has_overviews(self) -> bool:
        """Whether the raster is larger than a block, so that its file has overviews."""
        return max(self.height, self.width) > self.block_px

    @property
    def overview_block_px(self) -> int:
        """Side of a block of the overviews, for which GDAL takes fewer sizes than for the file."""
        is_power_of_two = self.block_px & (self.block_px - 1) == 0
        is_taken = is_power_of_two and _MIN_OVERVIEW_PX <= self.block_px <= _MAX_OVERVIEW_PX
        return self.block_px if is_taken else _OVERVIEW_PX

    @property
    def half_shape(self) -> tuple[int, int]:
        """Rows and columns of the first overview, as GDAL has them: an odd one is left out."""
        return max(1, self.height // 2), max(1, self.width // 2)

    @property
    def averages(self) -> bool:
        """Whether overviews are averages; else nearest neighbours."""
        return np.dtype(self.dtype).kind not in "iu"

    def window_of(self, position: Position) -> Window:
        """Return what a block covers of the raster."""
        row, col = (each * self.block_px for each in position)
        return Window(
            row, min(row + self.block_px, self.height), col, min(col + self.block_px, self.width)
        )

    def positions_in(self, window: Window) -> Iterator[Position]:
        """Iterate over the blocks that a window touches, row by row."""
        side = self.block_px
        for row in range(window.row_min // side, math.ceil(window.row_max / side)):
            for col in range(window.col_min // side, math.ceil(window.col_max / side)):
                yield row, col

    def whole_blocks(self, window: Window) -> Window | None:
        """Return the part of a window that is whole blocks of the raster; None if there is none."""
        rows = self._whole(window.row_min, window.row_max, self.height)
        cols = self._whole(window.col_min, window.col_max, self.width)
        if rows[0] >= rows[1] or cols[0] >= cols[1]:
            return None
        return Window(*rows, *cols)

    def _whole(self, start: int, stop: int, size: int) -> tuple[int, int]:
        side = self.block_px
        return math.ceil(start / side) * side, size if stop == size else stop // side * side

    def encode(self, pixels: Pixels, window: Window) -> Mapping[Position, EncodedBlock]:
        """Compress whole blocks.

        Parameters
        ----------
        pixels : array of shape (bands, rows, columns)
            In the data type of the file.
        window : Window
            Where they are in the raster: whole blocks.
        """
        rows, cols = (math.ceil(side / self.block_px) for side in window.shape)
        pad_rows, pad_cols = (
            count * self.block_px - side
            for count, side in zip((rows, cols), window.shape, strict=True)
        )
        # Beyond the raster, what compresses well and changes no average.
        edges = ((0, 0), (0, pad_rows), (0, pad_cols))
        full = np.pad(pixels, edges, mode="edge") if pad_rows or pad_cols else pixels
        contents = self._contents(full)
        halves = self._halved(full) if self.has_overviews else None
        first_row, first_col = window.row_min // self.block_px, window.col_min // self.block_px
        found: dict[Position, EncodedBlock] = {}
        for rank, content in enumerate(contents):
            row, col = divmod(rank, cols)
            position = first_row + row, first_col + col
            half = None if halves is None else self._half_of(halves, row, col, position)
            found[position] = EncodedBlock(content, half)
        return found

    def half_window_of(self, position: Position) -> Window:
        """Return what a block covers of the first overview; it may be empty at the edge."""
        row, col = (each * (self.block_px // 2) for each in position)
        height, width = self.half_shape
        side = self.block_px // 2
        return Window(
            min(row, height), min(row + side, height), min(col, width), min(col + side, width)
        )

    def _half_of(self, halves: Pixels, row: int, col: int, position: Position) -> Pixels:
        side = self.block_px // 2
        rows, cols = self.half_window_of(position).shape
        part = halves[:, row * side : row * side + rows, col * side : col * side + cols]
        return np.ascontiguousarray(part)

    def _contents(self, full: Pixels) -> Iterator[bytes]:
        with MemoryFile() as memory:
            with memory.open(**self._profile(full.shape[-2:])) as raster:
                raster.write(full)
            file = memory.read()
        table = block_tables(file)[0]
        for offset, size in zip(table.offsets.tolist(), table.sizes.tolist(), strict=True):
            yield file[offset : offset + size]

    def _profile(self, shape: tuple[int, ...]) -> dict[str, Any]:
        return {
            "driver": "GTiff",
            "transform": _SOME_TRANSFORM,
            "height": shape[0],
            "width": shape[1],
            "count": self.count,
            "dtype": self.dtype,
            "tiled": True,
            "blockxsize": self.block_px,
            "blockysize": self.block_px,
            "interleave": "pixel",
            "compress": self.compression,
            **({"predictor": self.predictor} if self.predictor else {}),
            **({} if self.nbits is None else {"nbits": self.nbits}),
        }

    def _halved(self, full: Pixels) -> Pixels:
        """Return pixels of half the resolution, as GDAL makes those of overviews."""
        if not self.averages:
            return full[:, ::2, ::2]
        rows, cols = (side // 2 for side in full.shape[-2:])
        profile = {
            "driver": "MEM",
            "dtype": self.dtype,
            "count": self.count,
            "nodata": self.nodata,
            "transform": _SOME_TRANSFORM,
        }
        with (
            MemoryFile() as memory,
            memory.open(height=full.shape[1], width=full.shape[2], **profile) as raster,
        ):
            raster.write(full)
            halves: Pixels = raster.read(
                out_shape=(self.count, rows, cols), resampling=Resampling.average
            )
            return halves

    def decode(self, position: Position, content: bytes) -> Pixels:
        """Return the pixels of a compressed block, of shape (bands, rows, columns)."""
        file = bytearray(_empty_file(self))
        table = block_tables(file)[0]
        table.place(np.array([len(content)]), np.array([len(file)]))
        rows, cols = self.window_of(position).shape
        with MemoryFile(bytes(file) + content) as memory, memory.open() as raster:
            pixels: Pixels = raster.read()
            return pixels[:, :rows, :cols]


@lru_cache(maxsize=16)
def _empty_file(codec: BlockCodec) -> bytes:
    """Return a file of one block that is not there yet."""
    with MemoryFile() as memory:
        shape = (codec.block_px, codec.block_px)
        memory.open(**codec._profile(shape), SPARSE_OK=True).close()
        return bytes(memory.read())


class EncodedPixels(NDArrayOperatorsMixin):
    """The pixels of a tile, its whole blocks compressed; NumPy and xarray see an array.

    Parameters
    ----------
    pixels : array of shape (rows, columns) or (bands, rows, columns)
        In the data type of the file.
    window : Window
        Where they are in the raster.
    codec : BlockCodec
        Of the file.
    loss : str or None
        What their conversion to the data type of the file lost.

    Attributes
    ----------
    blocks : mapping of (row, column) to EncodedBlock
        The whole blocks.
    rest : list of (Window, array)
        The other pixels: where they are in the raster, and they, of shape (bands, rows, columns).
    """

    def __init__(
        self, pixels: Pixels, window: Window, codec: BlockCodec, loss: str | None = None
    ) -> None:
        self.shape = pixels.shape
        self.dtype = pixels.dtype
        self.window = window
        self.codec = codec
        self.loss = loss
        bands = pixels[np.newaxis] if pixels.ndim == 2 else pixels
        whole = codec.whole_blocks(window)
        self.blocks: Mapping[Position, EncodedBlock] = {}
        if whole is not None:
            self.blocks = codec.encode(_part(bands, window, whole), whole)
        self.rest = [
            (each, np.ascontiguousarray(_part(bands, window, each)))
            for each in _around(window, whole)
        ]

    @property
    def ndim(self) -> int:
        """The number of dimensions."""
        return len(self.shape)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Pixels:
        """Return the pixels, decompressed."""
        found = np.empty((self.codec.count, *self.window.shape), self.dtype)
        for position, block in self.blocks.items():
            where = self.codec.window_of(position)
            _part(found, self.window, where)[...] = self.codec.decode(position, block.content)
        for where, pixels in self.rest:
            _part(found, self.window, where)[...] = pixels
        shaped = found.reshape(self.shape)
        return shaped if dtype is None else shaped.astype(dtype, copy=bool(copy))

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        """Call a function of NumPy with the pixels, decompressed."""
        return function(*map(_decompressed, args), **kwargs)

    def __array_ufunc__(self, ufunc: Any, method: str, *args: Any, **kwargs: Any) -> Any:
        """Call a function of NumPy with the pixels, decompressed."""
        return getattr(ufunc, method)(*map(_decompressed, args), **kwargs)

    def transpose(self, *axes: Any) -> Pixels:
        """Return the pixels, decompressed, with their axes in another order."""
        return np.asarray(self).transpose(*axes)

    def astype(self, dtype: Any, **how: Any) -> Pixels:
        """Return the pixels, decompressed, in another data type."""
        return np.asarray(self).astype(dtype, **how)

    def __getitem__(self, key: Any) -> Pixels:
        found: Pixels = np.asarray(self)[key]
        return found


def _decompressed(value: Any) -> Any:
    return np.asarray(value) if isinstance(value, EncodedPixels) else value


def _part(pixels: Pixels, window: Window, part: Window) -> Pixels:
    """Return a view of a part of the pixels of a window."""
    rows = slice(part.row_min - window.row_min, part.row_max - window.row_min)
    cols = slice(part.col_min - window.col_min, part.col_max - window.col_min)
    return pixels[:, rows, cols]


def _around(window: Window, whole: Window | None) -> Iterator[Window]:
    """Iterate over the parts of a window above, below, left and right of its whole blocks."""
    if whole is None:
        yield window
        return
    parts = (
        (window.row_min, whole.row_min, window.col_min, window.col_max),
        (whole.row_max, window.row_max, window.col_min, window.col_max),
        (whole.row_min, whole.row_max, window.col_min, whole.col_min),
        (whole.row_min, whole.row_max, whole.col_max, window.col_max),
    )
    for top, bottom, left, right in parts:
        if top < bottom and left < right:
            yield Window(top, bottom, left, right)
