"""The three programs on each side, as its users write them."""

import functools
import itertools
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks.mapping.programs import FUNCTIONS, INPUTS, MARGIN_PX, NODATA, Array

TILE_PX: Final = 1024
WORKERS: Final = 2


# By hand: rasterio's windows, in a loop or in a pool of processes


def read(path: Path, top: int, left: int, margin: int) -> Array:
    """Return the pixels of a tile with what is around it, NaN where there are none."""
    import rasterio  # noqa: PLC0415 - each side measures its own imports
    from rasterio.windows import Window  # noqa: PLC0415

    with rasterio.open(path) as raster:
        first_row, first_col = max(0, top - margin), max(0, left - margin)
        last_row = min(raster.height, top + TILE_PX + margin)
        last_col = min(raster.width, left + TILE_PX + margin)
        window = Window(first_col, first_row, last_col - first_col, last_row - first_row)
        pixels = raster.read(1, window=window, masked=raster.nodata is not None)
        if raster.nodata is None:
            return np.asarray(pixels)
        return np.asarray(pixels.astype(np.float32).filled(np.nan))


def tile_by_hand(folder: Path, program: str, top: int, left: int) -> Array:
    """Compute a tile, overlaps cut off; of the zonal program, its sums."""
    margin = MARGIN_PX[program]
    arrays = [read(folder / name, top, left, margin) for name in INPUTS[program]]
    if program == "zonal":
        known = ~np.isnan(arrays[0])
        return FUNCTIONS[program](arrays[0][known], arrays[1][known])
    result = FUNCTIONS[program](*arrays)
    up, from_left = min(margin, top), min(margin, left)
    cropped = result[up : up + TILE_PX, from_left : from_left + TILE_PX]
    return np.where(np.isnan(cropped), NODATA, cropped).astype(np.float32)


def corners(side_px: int) -> Iterator[tuple[int, int]]:
    """Iterate over the first row and column of each tile."""
    starts = range(0, side_px, TILE_PX)
    return itertools.product(starts, starts)


def write_all(
    folder: Path, program: str, tiles: Iterator[tuple[tuple[int, int], Array]]
) -> Array | None:
    """Write the tiles as they come; of the zonal program, return the sum of all."""
    import rasterio  # noqa: PLC0415 - each side measures its own imports
    from rasterio.windows import Window  # noqa: PLC0415

    if program == "zonal":
        total: Array = np.sum([sums for _, sums in tiles], axis=0)
        return total
    with rasterio.open(folder / "dem.tif") as raster:
        profile = {**raster.profile, "dtype": "float32", "nodata": NODATA}
    with rasterio.open(folder / "out.tif", "w", **profile) as out:
        for (top, left), pixels in tiles:
            rows, cols = pixels.shape
            out.write(pixels, 1, window=Window(left, top, cols, rows))
    return None


def loop(folder: Path, program: str, side_px: int) -> Array | None:
    """Compute tile by tile in this process."""
    tiles = (
        ((top, left), tile_by_hand(folder, program, top, left)) for top, left in corners(side_px)
    )
    return write_all(folder, program, tiles)


def pool(folder: Path, program: str, side_px: int) -> Array | None:
    """Compute tiles in processes, and write them in this one."""
    from concurrent.futures import ProcessPoolExecutor, as_completed  # noqa: PLC0415

    with ProcessPoolExecutor(WORKERS) as executor:
        futures = {
            executor.submit(tile_by_hand, folder, program, *corner): corner
            for corner in corners(side_px)
        }
        # Each is forgotten once it is written: else all results stay in memory.
        tiles = ((futures.pop(each), each.result()) for each in as_completed([*futures]))
        return write_all(folder, program, tiles)


# dask: arrays of chunks, exchanged at their edges


class _Raster:
    """What dask reads a raster through, a chunk at a time."""

    def __init__(self, path: Path) -> None:
        import rasterio  # noqa: PLC0415 - each side measures its own imports

        with rasterio.open(path) as raster:
            self.shape, self.nodata = raster.shape, raster.nodata
            self.dtype = np.dtype(raster.dtypes[0] if self.nodata is None else "float32")
        self.ndim, self.path = 2, path

    def __getitem__(self, key: tuple[slice, slice]) -> Array:
        import rasterio  # noqa: PLC0415 - the same
        from rasterio.windows import Window  # noqa: PLC0415

        rows, cols = key
        window = Window.from_slices(rows, cols, height=self.shape[0], width=self.shape[1])
        with rasterio.open(self.path) as raster:
            pixels = raster.read(1, window=window, masked=self.nodata is not None)
        filled = pixels if self.nodata is None else pixels.astype(np.float32).filled(np.nan)
        return np.asarray(filled)


class _Written:
    """What dask stores an array in."""

    def __init__(self, raster: Any) -> None:
        self._raster = raster

    def __setitem__(self, key: tuple[slice, slice], pixels: Array) -> None:
        from rasterio.windows import Window  # noqa: PLC0415 - each side measures its own imports

        rows, cols = key
        filled = np.where(np.isnan(pixels), NODATA, pixels).astype(np.float32)
        window = Window(cols.start, rows.start, filled.shape[1], filled.shape[0])
        self._raster.write(filled, 1, window=window)


def dask(folder: Path, program: str, side_px: int) -> Array | None:  # noqa: ARG001 - as others
    """Compute with dask.array, by threads, as is its default."""
    import dask as dask_config  # noqa: PLC0415 - each side measures its own imports
    import dask.array as da  # noqa: PLC0415
    import rasterio  # noqa: PLC0415

    arrays = [da.from_array(_Raster(folder / name), chunks=TILE_PX) for name in INPUTS[program]]
    with dask_config.config.set(scheduler="threads", num_workers=WORKERS):
        if program == "zonal":
            return dask_sums(arrays)
        result = da.map_overlap(
            FUNCTIONS[program],
            *arrays,
            depth=MARGIN_PX[program],
            boundary="none",
            dtype=np.float32,
            meta=np.empty((0, 0), np.float32),
        )
        with rasterio.open(folder / "dem.tif") as raster:
            profile = {**raster.profile, "dtype": "float32", "nodata": NODATA}
        with rasterio.open(folder / "out.tif", "w", **profile) as out:
            target: Any = _Written(out)
            da.store(result, target, lock=threading.Lock())
    return None


def dask_sums(arrays: list[Any]) -> Array:
    """Return the sums by zone of two arrays of dask."""
    from dask.base import compute  # noqa: PLC0415 - each side measures its own imports
    from dask.delayed import delayed  # noqa: PLC0415

    def sums(values: Array, zones: Array) -> Array:
        known = ~np.isnan(values)
        return FUNCTIONS["zonal"](values[known], zones[known])

    parts = [
        delayed(sums)(*blocks)
        for blocks in zip(*(each.to_delayed().ravel() for each in arrays), strict=True)
    ]
    total: Array = np.sum(compute(*parts), axis=0)
    return total


# Batuta


def _known_sums(values: Array, zones: Array) -> Array:
    known = ~np.isnan(values)
    return FUNCTIONS["zonal"](values[known], zones[known])


def batuta(
    folder: Path,
    program: str,
    side_px: int,  # noqa: ARG001 - as others
    tile: int | None = None,
) -> Array | None:
    """Compute with map_tiles and reduce_tiles."""
    from batuta import map_tiles, reduce_tiles  # noqa: PLC0415 - each side measures its own imports

    inputs = [folder / name for name in INPUTS[program]]
    conf = {"mode": "multiprocessing", "nb_workers": WORKERS}
    if program == "zonal":
        total: Array = reduce_tiles(_known_sums, *inputs, tile=tile, mode=conf)
        return total
    map_tiles(
        FUNCTIONS[program],
        *inputs,
        out=folder / "out.tif",
        overlap=MARGIN_PX[program],
        nodata=NODATA,
        dtype="float32",
        tile=tile,
        mode=conf,
    )
    return None


SIDES: Final[dict[str, Callable[[Path, str, int], Array | None]]] = {
    "batuta": batuta,
    "batuta, tiles as others": functools.partial(batuta, tile=TILE_PX),
    "loop": loop,
    "pool": pool,
    "dask": dask,
}
