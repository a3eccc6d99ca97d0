"""Makes a cloud-optimised GeoTIFF of blocks that are compressed already.

GDAL writes the directories, of a raster without pixels, and all overviews but the first; the blocks
are then placed behind them: those of the smallest overview first, as readers of such files expect.
"""

import os
import struct
import xml.etree.ElementTree as ET
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import rasterio.shutil

from batuta.datasets.array_file import RasterSpec
from batuta.datasets.block_codec import BlockCodec, EncodedBlock, Position
from batuta.datasets.block_store import BlockStore
from batuta.datasets.durable_file import remove
from batuta.datasets.grid import Window
from batuta.datasets.options import SaveOptions
from batuta.datasets.raster_file import (
    RasterFile,
    copy_options,
    copy_raster,
    ignore_missing_georeferencing,
)
from batuta.datasets.tiff_tables import BlockTable, block_tables

_LEADER: Final = struct.Struct("<I")
"""Before each block, its size: GDAL's layout of such files."""
_TRAILER_BYTES: Final = 4
"""After each block, its last bytes again."""
_MAX_BLOCKS_AT_ONCE: Final = 8


def empty_pixels(codec: BlockCodec, window: Window) -> npt.NDArray[Any]:
    """Return the pixels of a window that no tile has filled."""
    value = 0 if codec.nodata is None else codec.nodata
    return np.full((codec.count, *window.shape), value, codec.dtype)


# The blocks that no worker has compressed


def complete(
    codec: BlockCodec, blocks: BlockStore, completed: BlockStore, loose: RasterFile | None
) -> None:
    """Compress the blocks that are not in `blocks`, into `completed`.

    Parameters
    ----------
    codec : BlockCodec
        Of the file.
    blocks, completed : BlockStore
        Those that are compressed, and where the others are put.
    loose : RasterFile or None
        The pixels of the others; None where they have none.
    """
    if loose is None:
        _complete_empty(codec, blocks, completed)
        return
    threads = os.cpu_count() or 1
    with ThreadPoolExecutor(threads) as pool:
        pending: deque[Any] = deque()
        for window in _missing(codec, blocks):
            pixels = loose.read(window).reshape(codec.count, *window.shape)
            pending.append(pool.submit(codec.encode, pixels, window))
            if len(pending) > threads:
                _add(completed, pending.popleft().result())
        while pending:
            _add(completed, pending.popleft().result())


def _complete_empty(codec: BlockCodec, blocks: BlockStore, completed: BlockStore) -> None:
    made: dict[tuple[int, int], EncodedBlock] = {}
    for position in _positions(codec):
        if position in blocks:
            continue
        window = codec.window_of(position)
        if window.shape not in made:
            found = codec.encode(empty_pixels(codec, window), window)
            made[window.shape] = found[position]
        completed.add(position, made[window.shape])


def _add(completed: BlockStore, encoded: dict[Position, EncodedBlock]) -> None:
    for position, block in encoded.items():
        completed.add(position, block)


def _missing(codec: BlockCodec, blocks: BlockStore) -> Iterator[Window]:
    """Iterate over windows of a few blocks in a row that are not in `blocks`."""
    run: list[Position] = []
    for position in _positions(codec):
        follows = run and position == (run[-1][0], run[-1][1] + 1)
        if run and (position in blocks or not follows or len(run) == _MAX_BLOCKS_AT_ONCE):
            yield _around(codec, run)
            run = []
        if position not in blocks:
            run.append(position)
    if run:
        yield _around(codec, run)


def _positions(codec: BlockCodec) -> Iterator[Position]:
    rows, cols = codec.grid
    return ((row, col) for row in range(rows) for col in range(cols))


def _around(codec: BlockCodec, run: Sequence[Position]) -> Window:
    first, last = codec.window_of(run[0]), codec.window_of(run[-1])
    return replace(first, col_max=last.col_max)


# The file


@dataclass(frozen=True)
class _Image:
    """One image of the file: the raster, or an overview."""

    table: BlockTable
    """Where its blocks will be."""
    sizes: npt.NDArray[np.int64]
    contents: Iterator[bytes]


def assemble(
    codec: BlockCodec,
    stores: tuple[BlockStore, BlockStore],
    template: Path,
    draft: Path,
    options: SaveOptions,
) -> None:
    """Make the file.

    Parameters
    ----------
    codec : BlockCodec
        Of the file.
    stores : (BlockStore, BlockStore)
        Its blocks: each in one of them.
    template : Path
        A raster of its size and metadata.
    draft : Path
        The file that is made.
    options : SaveOptions
        Of the file.
    """
    header = bytearray(_directories(codec, template, options))
    tables = block_tables(header)
    blocks = [next(each for each in stores if at in each) for at in _positions(codec)]
    located = list(zip(_positions(codec), blocks, strict=True))
    sizes = np.array([store.size_of(at) for at, store in located], np.int64)
    images = [_Image(tables[0], sizes, (store.content(at) for at, store in located))]
    overviews = draft.with_name("overviews.tif")
    try:
        if codec.has_overviews:
            _make_overviews(codec, located, overviews, options)
            images += _overview_images(tables[1:], overviews)
        _write(draft, header, images[::-1])
    finally:
        remove(overviews)


def _write(draft: Path, header: bytearray, images: Sequence[_Image]) -> None:
    end = len(header)
    for image in images:
        ends = end + np.cumsum(image.sizes + (_LEADER.size + _TRAILER_BYTES))
        image.table.place(image.sizes, ends - image.sizes - _TRAILER_BYTES)
        end = int(ends[-1])
    with draft.open("wb", buffering=2**20) as file:
        file.write(header)
        for image in images:
            for content in image.contents:
                file.write(_LEADER.pack(len(content)))
                file.write(content)
                file.write(content[-_TRAILER_BYTES:])
    if (written := draft.stat().st_size) != end:
        raise OSError(f"{written} of {end} bytes written")


def _directories(codec: BlockCodec, template: Path, options: SaveOptions) -> bytes:
    """Return the directories of the file, as GDAL makes them, without any block."""
    virtual, empty = template.with_name("virtual.vrt"), template.with_name("empty.tif")
    spec = RasterSpec(height=codec.height, width=codec.width, count=codec.count, dtype=codec.dtype)
    try:
        with ignore_missing_georeferencing():
            rasterio.shutil.copy(template, virtual, driver="VRT")
            _make_hollow(virtual, _levels(codec), "average" if codec.averages else "nearest")
            how = copy_options(spec, options)
            rasterio.shutil.copy(virtual, empty, strict=False, SPARSE_OK="YES", **how)
        return empty.read_bytes()
    finally:
        remove(virtual)
        remove(empty)


def _levels(codec: BlockCodec) -> list[int]:
    """Return by what each overview is smaller than the raster: the last one fits in a block."""
    side, level, found = max(codec.height, codec.width), 1, list[int]()
    while side > codec.block_px:
        side, level = side // 2, level * 2
        found.append(level)
    return found


def _make_hollow(virtual: Path, levels: Sequence[int], resampling: str) -> None:
    """Take the pixels out of a virtual raster, and give it overviews: only their sizes matter."""
    tree = ET.parse(virtual)  # noqa: S314 - GDAL wrote it just now
    root = tree.getroot()
    for band in root.iter("VRTRasterBand"):
        for source in [each for each in band if each.tag.endswith("Source")]:
            band.remove(source)
    if levels:
        overviews = ET.SubElement(root, "OverviewList", resampling=resampling)
        overviews.text = " ".join(map(str, levels))
    tree.write(virtual)


def _make_overviews(
    codec: BlockCodec,
    located: Sequence[tuple[Position, BlockStore]],
    path: Path,
    options: SaveOptions,
) -> None:
    """Make a file of the first overview, whose own overviews are the others."""
    halves = path.with_name("halves.tif")
    height, width = codec.half_shape
    spec = RasterSpec(
        height=height,
        width=width,
        count=codec.count,
        dtype=codec.dtype,
        nodata=codec.nodata,
    )
    raster = RasterFile(halves, spec, SaveOptions(block_px=codec.block_px))
    try:
        for position, store in located:
            window = codec.half_window_of(position)
            if 0 not in window.shape:
                pixels = store.half(position, codec.dtype)
                raster.write(pixels.reshape(codec.count, *window.shape), window)
        raster.close()
        copy_raster(halves, path, _overview_options(codec, spec, options))
    finally:
        raster.close()
        remove(halves)


def _overview_options(
    codec: BlockCodec, spec: RasterSpec, options: SaveOptions
) -> Mapping[str, Any]:
    """Return how overviews are made: in blocks as the directories of the file have them."""
    side = codec.overview_block_px
    how = dict(copy_options(spec, replace(options, cloud_optimized=True, block_px=side)))
    others = len(_levels(codec)) - 1
    return how | ({"OVERVIEW_COUNT": others} if others else {"OVERVIEWS": "NONE"})


def _overview_images(tables: Sequence[BlockTable], path: Path) -> Iterator[_Image]:
    content = np.memmap(path, np.uint8, mode="r")
    for table, source in zip(tables, block_tables(content), strict=True):  # type: ignore[arg-type]  # a buffer like bytes
        places = list(zip(source.offsets.tolist(), source.sizes.tolist(), strict=True))
        sizes = np.array([size for _, size in places], np.int64)
        yield _Image(table, sizes, (content[at : at + size].tobytes() for at, size in places))
