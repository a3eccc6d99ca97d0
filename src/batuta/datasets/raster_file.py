"""GeoTIFF, written window by window as tiles arrive.

A plain GeoTIFF is written in place: its blocks are allocated in order before the first tile, so
that the file has the same bytes in whatever order tiles arrive. Compressed blocks, or those of an
odd number of bits, would move: such a file is first written uncompressed in a hidden folder next
to it, and copied at the end.
"""

import errno
import os
import shutil
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import rasterio
import rasterio.shutil
from rasterio.errors import NotGeoreferencedWarning
from rasterio.windows import Window as RasterWindow

from batuta.datasets.array_file import ArrayFile, RasterSpec
from batuta.datasets.block_cache import WriteCache
from batuta.datasets.durable_file import (
    Workspace,
    allocate,
    remove,
    replace_file,
    sync_file,
)
from batuta.datasets.errors import TileError
from batuta.datasets.grid import Window
from batuta.datasets.options import SaveOptions
from batuta.durable_folders import sync_folder

BLOCK_PX: Final = 256
"""Default side of a GeoTIFF block; smaller rasters are stored in strips."""

COMPARE_WINDOW_PX: Final = 2048
"""Side of the windows in which the final copy is compared with its source."""

COG_BLOCK_PX: Final = 512
"""Default side of a block of a cloud-optimised GeoTIFF."""


class RasterFile(ArrayFile):
    """A plain GeoTIFF, written in place.

    Parameters
    ----------
    path : path
        The file.
    spec : RasterSpec or None
        The raster; None to resume the existing one.
    options : SaveOptions, optional
        Blocks and tags.
    resume : bool
        Whether to resume the file of an earlier run.

    Raises
    ------
    TileError
        If there is nothing to resume, or it is another raster.
    OSError
        If the disk has no room for the whole file.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        spec: RasterSpec | None,
        options: SaveOptions | None = None,
        *,
        resume: bool = False,
    ) -> None:
        self._options = options or SaveOptions()
        self._cache = WriteCache()
        self._pixels = self._pixels_path(Path(path), resume=resume)
        super().__init__(
            path,
            existing_spec(self._pixels, spec) if resume else self._created(spec),
            self._options,
        )
        self._open()

    def _pixels_path(self, path: Path, *, resume: bool) -> Path:
        if not resume:
            path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def _created(self, spec: RasterSpec | None) -> RasterSpec:
        if spec is None:
            raise TileError(f"{self._pixels.name}: a tile is needed to create the file")
        try:
            create_raster(self._pixels, spec, self._options)
        except (TypeError, ValueError):
            remove(self._pixels)  # GDAL refused it half-way: it is no raster of any tile
            raise
        return spec

    def _open(self) -> None:
        with ignore_missing_georeferencing():
            self.dataset = rasterio.open(self._pixels, "r+")

    def _store(self, bands: npt.NDArray[Any], window: Window) -> None:
        self.dataset.write(bands, window=_raster_window(window))
        self._cache.record(bands.nbytes)

    def _load(self, window: Window) -> npt.NDArray[Any]:
        pixels: npt.NDArray[Any] = self.dataset.read(window=_raster_window(window))
        return pixels

    def checkpoint(self) -> None:
        """Make everything written so far durable against a killed process and a power loss."""
        self._flush()
        self._open()

    def _flush(self) -> None:
        # Only closing makes GDAL write out its cache.
        self.dataset.close()
        sync_file(self._pixels)
        sync_folder(self._pixels.parent)

    def close(self, *, keep: bool = False) -> None:  # noqa: ARG002 - it is its own working file
        """Close the file; idempotent."""
        self.dataset.close()

    def suspend(self) -> None:
        """Close the file, which a later run may resume."""
        if not self.dataset.closed:
            self._flush()

    def abandon(self) -> None:
        """Close the file as it is."""
        self.dataset.close()


class CopiedRasterFile(RasterFile):
    """A GeoTIFF that is compressed, or of few bits, created once all tiles are in.

    Raises
    ------
    TileError
        If there is nothing to resume, or it is another raster.
    OSError
        If the disk has no room for all pixels, uncompressed.
    """

    def _pixels_path(self, path: Path, *, resume: bool) -> Path:
        self._final = False
        self._workspace = Workspace(path, resume=resume)
        return self._workspace.folder / "pixels.tif"

    def close(self, *, keep: bool = False) -> None:
        """Copy the pixels to the final file."""
        if self._final:
            return
        if keep:
            self._flush()
        else:
            self.dataset.close()
        draft = self._pixels.with_name("unfinished.tif")
        with making_final(draft, self._pixels.stat().st_size):
            copy_raster(self._pixels, draft, copy_options(self.spec, self._options))
        replace_file(draft, self.path)
        self._final = True
        if not keep:
            self._workspace.remove()

    def abandon(self) -> None:
        """Delete the pixels; an earlier file at the path is left as it was."""
        self.dataset.close()
        self._workspace.remove()


def raster_file(
    path: str | os.PathLike[str],
    spec: RasterSpec | None,
    options: SaveOptions | None = None,
    *,
    resume: bool = False,
) -> RasterFile:
    """Open a GeoTIFF, written in place or copied at the end as the options require."""
    made = RasterFile if is_plain(options) else CopiedRasterFile
    return made(path, spec, options, resume=resume)


def is_plain(options: SaveOptions | None) -> bool:
    """Return whether a GeoTIFF of these options is written in place."""
    return options is None or not (
        options.compression not in {None, "none"}
        or options.cloud_optimized
        or options.nbits is not None
    )


def create_raster(
    path: Path, spec: RasterSpec, options: SaveOptions, *, sparse: bool = False
) -> None:
    """Create a GeoTIFF without compression, and allocate its disk space unless it is sparse.

    Raises
    ------
    OSError
        If the disk has no room for it.
    """
    named = {
        "height": spec.height,
        "width": spec.width,
        "count": spec.count,
        "dtype": spec.dtype,
        "nodata": spec.nodata,
        "transform": spec.transform,
        "crs": spec.crs,
        "rpcs": spec.rpcs,
    }
    profile = {key: value for key, value in named.items() if value is not None}
    profile |= _blocks(spec, options)
    with (
        ignore_missing_georeferencing(),
        rasterio.open(
            path, "w", driver="GTiff", BIGTIFF="IF_SAFER", SPARSE_OK=sparse, **profile
        ) as raster,
    ):
        raster.update_tags(**options.tags)
        for index, name in enumerate(spec.bands, start=1):
            raster.set_band_description(index, name)
    if not sparse:
        allocate(path, spec.nbytes)


def _blocks(spec: RasterSpec, options: SaveOptions) -> dict[str, Any]:
    side = options.block_px or BLOCK_PX
    if min(spec.height, spec.width) < side:
        return {}
    return {"tiled": True, "blockxsize": side, "blockysize": side}


def copy_options(spec: RasterSpec, options: SaveOptions) -> Mapping[str, Any]:
    """Return the GDAL driver and its creation options for the final copy."""
    compression = options.compression or "none"
    chosen: dict[str, Any] = {"COMPRESS": compression.upper(), "BIGTIFF": "IF_SAFER"}
    if options.nbits is not None:
        chosen["NBITS"] = options.nbits
    if compression != "none" or options.cloud_optimized:
        # Blocks and overviews; their bytes do not depend on it.
        chosen["NUM_THREADS"] = "ALL_CPUS"
    predictor = predictor_of(spec.dtype, options)
    if options.cloud_optimized:
        whole = np.dtype(spec.dtype).kind in "iu"
        chosen |= {
            "driver": "COG",
            "BLOCKSIZE": options.block_px or COG_BLOCK_PX,
            "OVERVIEW_RESAMPLING": "NEAREST" if whole else "AVERAGE",
        }
        names = {1: "NO", 2: "STANDARD", 3: "FLOATING_POINT"}
        return chosen | ({"PREDICTOR": names[predictor]} if predictor else {})
    blocks = {key: str(value) for key, value in _blocks(spec, options).items()}
    return {"driver": "GTiff", **chosen, **blocks} | ({"PREDICTOR": predictor} if predictor else {})


def copy_raster(pixels: Path, draft: Path, how: Mapping[str, Any]) -> None:
    """Copy a raster and verify the copy: GDAL does not report every failed write.

    Raises
    ------
    OSError
        If pixels of the copy differ.
    """
    with ignore_missing_georeferencing():
        rasterio.shutil.copy(pixels, draft, strict=True, **how)
        if not _same_pixels(pixels, draft):
            raise OSError(errno.EIO, "its pixels differ from those written")


@contextmanager
def making_final(draft: Path, needed_bytes: int) -> Iterator[None]:
    """Remove an incomplete file, and tell what it lacked, if the block fails to make it.

    Raises
    ------
    OSError
        With ``ENOSPC`` if the disk may be full.
    """
    try:
        yield
    except Exception as exc:
        free = shutil.disk_usage(draft.parent).free
        remove(draft)
        code = exc.errno if isinstance(exc, OSError) and exc.errno else errno.EIO
        code = errno.ENOSPC if free < needed_bytes else code
        reason = f"the final copy failed ({free >> 20} MB free): {exc}"
        raise OSError(code, reason) from exc


def _same_pixels(left: Path, right: Path) -> bool:
    with (
        rasterio.Env(GDAL_NUM_THREADS="ALL_CPUS"),  # to decompress
        rasterio.open(left) as one,
        rasterio.open(right) as other,
    ):
        return all(
            np.array_equal(
                one.read(band, window=window),
                other.read(band, window=window),
                equal_nan=one.dtypes[0].startswith(("float", "complex")),
            )
            for window in _windows(one.height, one.width)
            for band in one.indexes
        )


def _windows(height: int, width: int) -> Iterator[RasterWindow]:
    for row in range(0, height, COMPARE_WINDOW_PX):
        for col in range(0, width, COMPARE_WINDOW_PX):
            yield RasterWindow(
                col, row, min(COMPARE_WINDOW_PX, width - col), min(COMPARE_WINDOW_PX, height - row)
            )


def predictor_of(dtype: str, options: SaveOptions) -> int:
    """Return the TIFF predictor that suits a data type; 0 if the compression takes none."""
    if options.compression not in {"deflate", "lzw", "zstd"} or options.nbits is not None:
        return 0
    return {"i": 2, "u": 2, "f": 3}.get(np.dtype(dtype).kind, 1)


def existing_spec(path: Path, spec: RasterSpec | None) -> RasterSpec:
    """Return the raster of an existing file, or `spec`, which it must match.

    Raises
    ------
    TileError
        If it is another raster, or none.
    """
    try:
        with ignore_missing_georeferencing(), rasterio.open(path) as raster:
            found = RasterSpec(
                height=raster.height,
                width=raster.width,
                count=raster.count,
                dtype=raster.dtypes[0],
                nodata=raster.nodata,
                bands=tuple(name for name in raster.descriptions if name is not None),
            )
    except rasterio.errors.RasterioIOError as exc:
        raise TileError(f"{path.name}: nothing to resume: not a readable raster") from exc
    if spec is None:
        return found
    spec.check_matches(found, path.name)
    return spec


@contextmanager
def ignore_missing_georeferencing() -> Iterator[None]:
    """Silence rasterio's warning: many rasters have no georeferencing."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        yield


def _raster_window(window: Window) -> RasterWindow:
    height, width = window.shape
    return RasterWindow(window.col_min, window.row_min, width, height)
