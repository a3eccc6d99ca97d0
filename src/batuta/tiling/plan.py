"""The plan of a run: the size of its tiles, and what a worker will hold at most."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
import numpy.typing as npt

from batuta.datasets import GridSpec
from batuta.errors import ConfigurationError, describe_value
from batuta.formatting import format_count
from batuta.tiling.calls import CallSource, TileCall
from batuta.tiling.raster import Raster
from batuta.tiling.region import Region

MB: Final = 1_000_000

_DEFAULT_SIDE_PX: Final = 1024
_SMALLEST_SIDE_PX: Final = 128
_TILES_PER_WORKER: Final = 4
"""So that workers end at about the same time, and the first tiles are seen soon."""
_SHARE_OF_LIMIT: Final = 0.5
"""Of the memory of a worker, for the arrays that are known: its function makes others."""
_UNKNOWN_BYTES: Final = 8
"""Of a value of a function that has not run yet."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What the configuration gives to a run.

    Parameters
    ----------
    workers : int
        How many compute at a time.
    ram_mb : float or None
        Memory of a worker, in MB; None where there is no limit.
    """

    workers: int = 1
    ram_mb: float | None = None


@dataclass(frozen=True, kw_only=True)
class TilePlan:
    """How a raster is divided, and what that takes.

    Parameters
    ----------
    tile : (int, int)
        Rows and columns of a tile, without overlaps.
    grid : (int, int)
        Rows and columns of the grid of tiles.
    tiles : int
        How many of them are computed.
    ram_mb : float
        What a worker holds at least for one of them, in MB: the arrays that its function takes
        and returns. What the function needs besides is known once a tile was computed.
    limits : Limits
        Of the configuration.
    reason : str
        Why tiles have this size.
    touched : array of bool, of the shape of the grid
        Which tiles are computed.
    """

    tile: tuple[int, int]
    grid: tuple[int, int]
    tiles: int
    ram_mb: float
    limits: Limits
    reason: str
    touched: npt.NDArray[np.bool_] = field(repr=False, compare=False)

    def __str__(self) -> str:
        limit = "" if self.limits.ram_mb is None else f" of {self.limits.ram_mb:g} MB"
        return (
            f"{format_count(self.tiles, 'tile')} of {self.tile[0]} x {self.tile[1]} pixels"
            f" ({self.reason}),"
            f" {self.limits.workers} at a time; each holds at least {self.ram_mb:.3g} MB{limit}"
        )

    def fitting(self, measured_mb: float) -> tuple[int, int] | None:
        """Return the size of tile of which a worker can hold one.

        Parameters
        ----------
        measured_mb : float
            What a tile of this plan took, in MB.

        Returns
        -------
        (int, int) or None
            None if these fit.
        """
        limit = self.limits.ram_mb
        if limit is None or measured_mb <= limit:
            return None
        return _scaled(self.tile, _SHARE_OF_LIMIT * limit / measured_mb)


def plan_tiles(
    call: TileCall,
    region: Region,
    tile: int | tuple[int, int] | None,
    limits: Limits,
    output_block_px: int = 1,
) -> TilePlan:
    """Divide a region into tiles.

    Parameters
    ----------
    call : TileCall
        What is computed for each.
    region : Region
        What is computed.
    tile : int, (int, int) or None
        Side, or rows and columns, in pixels; None chooses.
    limits : Limits
        Of the configuration.
    output_block_px : int
        Side of the blocks of the output that workers compress: tiles that are chosen are whole
        blocks of it, where memory allows.

    Raises
    ------
    ConfigurationError
        If tiles are smaller than their overlaps, or need more memory than a worker has.
    """
    extent = region.window.shape
    size, reason = (
        _chosen(call, extent, limits, output_block_px)
        if tile is None
        else (_checked(tile), "as asked")
    )
    size = min(size[0], extent[0]), min(size[1], extent[1])
    if call.overlap > min(size):
        raise ConfigurationError(
            f"overlap: {call.overlap} given, tiles are of {size[0]} x {size[1]} pixels: at most"
            f" {min(size)} expected"
        )
    touched = region.touched(call.raster, size)
    if not touched.any():
        raise ConfigurationError("region: the polygon touches no pixel")
    plan = TilePlan(
        tile=size,
        grid=(touched.shape[0], touched.shape[1]),
        tiles=int(touched.sum()),
        ram_mb=_bytes_of(call, size) / MB,
        limits=limits,
        reason=reason,
        touched=touched,
    )
    if (smaller := plan.fitting(plan.ram_mb)) is not None:
        raise ConfigurationError(
            f"tile: {size[0]} x {size[1]} pixels take at least {plan.ram_mb:.0f} MB, a worker has"
            f" {limits.ram_mb:g} MB (max_ram_per_worker): {smaller[0]} x {smaller[1]} fit"
        )
    return plan


def grid_spec(plan: TilePlan, region: Region) -> GridSpec:
    """Return the grid of a plan."""
    rows, cols = region.window.shape
    return GridSpec(rows=rows, cols=cols, row_split=plan.tile[0], col_split=plan.tile[1])


def _checked(tile: object) -> tuple[int, int]:
    sides = tile if isinstance(tile, tuple | list) else (tile, tile)
    whole = [each for each in sides if isinstance(each, int | np.integer) and each >= 1]
    if len(sides) != 2 or len(whole) != 2 or any(isinstance(each, bool) for each in sides):
        raise ConfigurationError(
            f"tile: {tile if isinstance(tile, tuple | list) else describe_value(tile)} given,"
            " a whole number of pixels, or (rows, columns), expected"
        )
    return int(whole[0]), int(whole[1])


# The choice


def _chosen(
    call: TileCall, extent: tuple[int, int], limits: Limits, output_block_px: int
) -> tuple[tuple[int, int], str]:
    """Choose whole blocks of the input: small enough to fit and to keep all workers busy."""
    pixels = min(_DEFAULT_SIDE_PX**2, math.prod(extent) / (_TILES_PER_WORKER * limits.workers))
    smallest = max(_SMALLEST_SIDE_PX, call.overlap)
    fitting = math.inf
    if limits.ram_mb is not None:
        fitting = _SHARE_OF_LIMIT * limits.ram_mb * MB / _bytes_of_pixel(call)
        pixels = min(pixels, fitting)
    side = max(math.isqrt(max(1, int(pixels))), smallest)
    block = next((each.raster.block for each in _files(call) if each.raster.block), None)
    (rows, cols), reason = _whole_blocks(side, smallest, block, extent)
    aligned = _aligned(rows, output_block_px), _aligned(cols, output_block_px)
    if cols >= extent[1]:
        aligned = aligned[0], cols
    if aligned == (rows, cols) or math.prod(aligned) > fitting:
        return (rows, cols), reason
    return aligned, f"blocks of {output_block_px} x {output_block_px} of the output"


def _whole_blocks(
    side: int, smallest: int, block: tuple[int, int] | None, extent: tuple[int, int]
) -> tuple[tuple[int, int], str]:
    if block is None:
        return (side, side), "chosen"
    if block[1] >= extent[1] and block[0] < block[1]:
        # Strips: whoever reads a part of one reads all of it.
        rows = _rounded(max(int(side * side / extent[1]), smallest), block[0])
        return (rows, extent[1]), f"strips of {block[0]} rows of the input"
    size = _rounded(side, block[0]), _rounded(side, block[1])
    return size, f"blocks of {block[0]} x {block[1]} of the input"


def _aligned(side: int, block: int) -> int:
    return math.ceil(side / block) * block


def _rounded(side: int, block: int) -> int:
    return max(1, round(side / block)) * block


def _scaled(tile: tuple[int, int], share: float) -> tuple[int, int]:
    factor = math.sqrt(share)
    rows, cols = (max(1, int(side * factor)) for side in tile)
    # A multiple of 16, as blocks are, where that is no great loss.
    return tuple(side // 16 * 16 if side >= 32 else side for side in (rows, cols))  # type: ignore[return-value]  # two of two


# Memory


def _files(call: TileCall) -> Iterator["_Read"]:
    """Iterate over what a call reads, and those that it is chained to."""
    for source in call.sources:
        if isinstance(source, CallSource):
            yield from (
                replace(each, margin_px=each.margin_px + call.overlap)
                for each in _files(source.call)
            )
        else:
            yield _Read(source.raster, call.overlap)


@dataclass(frozen=True)
class _Read:
    raster: Raster
    margin_px: int


def _bytes_of(call: TileCall, tile: tuple[int, int]) -> float:
    """Return what the arrays of a tile take, those that are read and those that are returned."""
    rows, cols = tile
    read = sum(
        (rows + 2 * each.margin_px) * (cols + 2 * each.margin_px) * _bytes_per_pixel(each.raster)
        for each in _files(call)
    )
    return read + rows * cols * _UNKNOWN_BYTES


def _bytes_of_pixel(call: TileCall) -> float:
    return _bytes_of(call, (1024, 1024)) / 1024**2


def _bytes_per_pixel(raster: Raster) -> float:
    item = np.dtype(raster.dtype).itemsize if raster.dtype else _UNKNOWN_BYTES
    # Beside what is read, its mask and a copy as floats.
    with_copy = item + (1 + max(4, item) if raster.nodata is not None else 0)
    return raster.count * with_copy
