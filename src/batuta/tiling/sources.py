"""Where the pixels of an input are read, window by window, in workers."""

import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np
from rasterio.enums import MaskFlags, Resampling
from rasterio.vrt import WarpedVRT
from rasterio.windows import Window as RasterWindow

from batuta.cluster.tasks import Scattered
from batuta.datasets import Window
from batuta.datasets.axes import in_raster_order
from batuta.datasets.block_cache import block_bytes, limited_block_cache
from batuta.tiling.bucket_objects import gdal_environment, open_raster, zarr_store
from batuta.tiling.raster import Pixels, Raster

if TYPE_CHECKING:
    import xarray as xr

_MAX_OPEN: Final = 16
"""Files that a thread keeps open, to read more of their tiles."""

Version = tuple[int, ...] | None
"""Of a file of this machine, its size in bytes and the time of its last change in ns; of a Zarr
array, those of all its files, and how many they are; in a bucket, ETags too."""


class Source(Protocol):
    """An input, read window by window."""

    @property
    def raster(self) -> Raster:
        """The raster as a whole."""

    def read(self, window: Window) -> Pixels:
        """Return the pixels of a window inside the raster.

        Of shape (rows, columns), or with bands first where `raster.is_banded`; a masked array
        where the input may have pixels without a value.
        """


@dataclass(frozen=True, kw_only=True)
class FileSource:
    """A file that GDAL opens.

    Parameters
    ----------
    path : str
        Its path, or any name that GDAL takes.
    raster : Raster
        What it contains, or what it is warped to.
    is_masked : bool
        Whether it may have pixels without a value.
    resampling : str
        How it is warped to the grid of `raster`, tile by tile; empty where it has that grid.
    version : (int, int) or None
        Size in bytes and time of its last change in ns: so that a resumed run knows whether it
        is still the same.
    """

    path: str
    raster: Raster
    is_masked: bool
    resampling: str = ""
    version: Version = None

    def read(self, window: Window) -> Pixels:
        """Return the pixels of a window: see `Source.read`."""
        rows, cols = window.shape
        key = (self.path, self.version, self.resampling and self.raster)
        opened = _OPEN.get(key, self._open)
        with gdal_environment(self.path), _OPEN.block_cache(key, window):
            pixels: Pixels = opened.read(
                indexes=list(range(1, self.raster.count + 1)) if self.raster.is_banded else 1,
                window=RasterWindow(window.col_min, window.row_min, cols, rows),
                masked=self.is_masked,
            )
        return pixels

    def _open(self) -> Any:
        dataset = open_raster(self.path)
        if not self.resampling:
            return dataset
        return WarpedVRT(
            dataset,
            crs=self.raster.crs,
            transform=self.raster.transform,
            width=self.raster.width,
            height=self.raster.height,
            resampling=Resampling[self.resampling],
            # Else what lies outside would be zeros.
            add_alpha=self.raster.nodata is None and not _has_alpha(dataset),
        )


@dataclass(frozen=True, kw_only=True)
class ZarrSource:
    """An array of a Zarr group.

    Parameters
    ----------
    group : str
        Path of the group, or its URL in a bucket.
    variable : str
        Name of the array in it.
    raster : Raster
        What it contains.
    version : tuple of int or None
        As of a `FileSource`.
    """

    group: str
    variable: str
    raster: Raster
    version: Version = None

    def read(self, window: Window) -> Pixels:
        """Return the pixels of a window: see `Source.read`."""
        opened = _OPEN.get((self.group, self.variable, self.version), self._open)
        return _masked(_part(opened, window), self.raster.nodata)

    def _open(self) -> Any:
        import xarray as xr  # noqa: PLC0415 - of Zarr alone

        store = zarr_store(self.group)
        group = xr.open_zarr(store, chunks=None, mask_and_scale=False, consolidated=False)
        return in_raster_order(group[self.variable])


@dataclass(frozen=True, kw_only=True)
class ArraySource:
    """An array in memory, sent to workers once.

    Parameters
    ----------
    array : array, DataArray or Scattered
        In raster order.
    raster : Raster
        What it contains.
    """

    array: "Pixels | xr.DataArray | Scattered"
    raster: Raster

    def read(self, window: Window) -> Pixels:
        """Return the pixels of a window: see `Source.read`."""
        array = self.array.value if isinstance(self.array, Scattered) else self.array
        # A copy: a function may change what it is given, and neighbours read the same pixels.
        return _masked(_part(array, window).copy(), self.raster.nodata)


def _has_alpha(dataset: Any) -> bool:
    return any(MaskFlags.alpha in flags for flags in dataset.mask_flag_enums)


def _part(array: "Pixels | xr.DataArray", window: Window) -> Pixels:
    rows = slice(window.row_min, window.row_max)
    cols = slice(window.col_min, window.col_max)
    values: Pixels = np.asarray(array[..., rows, cols])
    return values


def _masked(pixels: Pixels, nodata: float | None) -> Pixels:
    if nodata is None or np.isnan(nodata):
        return pixels
    return np.ma.masked_equal(pixels, nodata, copy=False)


class _OpenFiles(threading.local):
    """Files that stay open in a thread, the least recently used closed first.

    GDAL's datasets are not to be shared by threads, of which a worker of dask may have several. A
    forked process opens its own: it would share the position in the file of its parent.
    """

    def __init__(self) -> None:
        self._opened: OrderedDict[Any, Any] = OrderedDict()
        self._block_bytes: dict[Any, int | None] = {}
        """Of each, what the blocks took that were read last; None where that is not known."""
        self._pid = os.getpid()

    def get(self, key: Any, open_file: Callable[[], Any]) -> Any:
        if self._pid != os.getpid():
            self._opened, self._pid = OrderedDict(), os.getpid()
            self._block_bytes = {}
        if key not in self._opened:
            self._opened[key] = open_file()
            if len(self._opened) > _MAX_OPEN:
                oldest, dataset = self._opened.popitem(last=False)
                self._block_bytes.pop(oldest, None)
                dataset.close()
        self._opened.move_to_end(key)
        return self._opened[key]

    @contextmanager
    def block_cache(self, key: Any, window: Window) -> Iterator[None]:
        """Let GDAL keep the blocks that a tile reads of each file: some are of the next one too."""
        self._block_bytes[key] = block_bytes(self._opened[key], window)
        needed = [*self._block_bytes.values()]
        known = [each for each in needed if each is not None]
        with nullcontext() if len(known) < len(needed) else limited_block_cache(sum(known)):
            yield

    def close(self) -> None:
        self._block_bytes.clear()
        while self._opened:
            _, opened = self._opened.popitem()
            opened.close()


_OPEN: Final = _OpenFiles()


def close_files() -> None:
    """Close the files that this thread has open to read tiles."""
    _OPEN.close()
