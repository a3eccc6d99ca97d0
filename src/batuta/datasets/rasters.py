"""One GeoTIFF, written window by window as tiles come.

A plain GeoTIFF is written in place: its blocks are laid out in order before the first tile, so
that it holds the same bytes in whatever order the tiles come. Blocks that are compressed, or of
odd bits, would move: such a file is first made plain, in a folder next to it, and copied at the
end.
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

from batuta.datasets.arrays import ArrayFile, RasterSpec
from batuta.datasets.durable_file import Workspace, publish, remove, reserve, sync_file, sync_folder
from batuta.datasets.errors import TileError
from batuta.datasets.grid import Window
from batuta.datasets.options import SaveOptions

BLOCK_PX: Final = 256
"""Side of a GeoTIFF block; smaller rasters are stored in strips."""

COMPARED_PX: Final = 2048
"""Side of what is compared at once of a final copy and its pixels."""

COG_BLOCK_PX: Final = 512
"""Side of a block of a cloud-optimised GeoTIFF."""


class RasterFile(ArrayFile):
    """A plain GeoTIFF, written in place.

    Parameters
    ----------
    path : path
        The file.
    spec : RasterSpec or None
        What it is. None, to resume: what is there.
    options : SaveOptions, optional
        Blocks and tags.
    resume : bool
        Whether to go on with the file that an earlier run left.

    Raises
    ------
    TileError
        If there is nothing to resume, or another raster.
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
        self._pixels = self._pixels_path(Path(path), resume=resume)
        super().__init__(
            path,
            _left(self._pixels, spec) if resume else self._laid_out(spec),
            self._options.nbits,
        )
        self._open()

    def _pixels_path(self, path: Path, *, resume: bool) -> Path:
        if not resume:
            path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def _laid_out(self, spec: RasterSpec | None) -> RasterSpec:
        if spec is None:
            raise TileError(f"{self._pixels.name}: a tile is needed to begin it")
        _lay_out(self._pixels, spec, self._options)
        return spec

    def _open(self) -> None:
        with _unplaced_is_fine():
            self.dataset = rasterio.open(self._pixels, "r+")

    def _store(self, bands: npt.NDArray[Any], window: Window) -> None:
        self.dataset.write(bands, window=_raster_window(window))

    def _load(self, window: Window) -> npt.NDArray[Any]:
        pixels: npt.NDArray[Any] = self.dataset.read(window=_raster_window(window))
        return pixels

    def checkpoint(self) -> None:
        """Have all that was written so far outlive a killed process and a power loss."""
        self._settle()
        self._open()

    def _settle(self) -> None:
        # Closing is the only way to have GDAL's cache written.
        self.dataset.close()
        sync_file(self._pixels)
        sync_folder(self._pixels.parent)

    def close(self, *, keep: bool = False) -> None:  # noqa: ARG002 - it is its own working file
        """Close the file; once is enough, more is harmless."""
        self.dataset.close()

    def suspend(self) -> None:
        """Close the file, which a later run may go on with."""
        if not self.dataset.closed:
            self._settle()

    def abandon(self) -> None:
        """Close the file, as it is."""
        self.dataset.close()


class CopiedRasterFile(RasterFile):
    """A GeoTIFF that is compressed, cloud-optimised or of odd bits, made when all tiles are in.

    Raises
    ------
    TileError
        If there is nothing to resume, or another raster.
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
            self._settle()
        else:
            self.dataset.close()
        draft = self._pixels.with_name("unfinished.tif")
        _copy(self._pixels, draft, copy_options(self.spec, self._options))
        publish(draft, self.path)
        self._final = True
        if not keep:
            self._workspace.remove()

    def abandon(self) -> None:
        """Remove the pixels; what was at the path of the file is as it was."""
        self.dataset.close()
        self._workspace.remove()


def raster_file(
    path: str | os.PathLike[str],
    spec: RasterSpec | None,
    options: SaveOptions | None = None,
    *,
    resume: bool = False,
) -> RasterFile:
    """Open the GeoTIFF that the options ask for."""
    made = RasterFile if is_plain(options) else CopiedRasterFile
    return made(path, spec, options, resume=resume)


def is_plain(options: SaveOptions | None) -> bool:
    """Tell whether a GeoTIFF is written in place."""
    return options is None or not (
        options.compression not in {None, "none"}
        or options.cloud_optimized
        or options.nbits is not None
    )


def _lay_out(path: Path, spec: RasterSpec, options: SaveOptions) -> None:
    named = {
        "height": spec.height,
        "width": spec.width,
        "count": spec.count,
        "dtype": spec.dtype,
        "nodata": spec.nodata,
        "transform": spec.transform,
        "crs": spec.crs,
    }
    profile = {key: value for key, value in named.items() if value is not None}
    profile |= _blocks(spec, options)
    with (
        _unplaced_is_fine(),
        rasterio.open(path, "w", driver="GTiff", BIGTIFF="IF_SAFER", **profile) as laid_out,
    ):
        laid_out.update_tags(**options.tags)
        for index, name in enumerate(spec.bands, start=1):
            laid_out.set_band_description(index, name)
    reserve(path, spec.nbytes)


def _blocks(spec: RasterSpec, options: SaveOptions) -> dict[str, Any]:
    side = options.block_px or BLOCK_PX
    if min(spec.height, spec.width) < side:
        return {}
    return {"tiled": True, "blockxsize": side, "blockysize": side}


def copy_options(spec: RasterSpec, options: SaveOptions) -> Mapping[str, Any]:
    """Return the driver of GDAL and its creation options for the final copy."""
    compression = options.compression or "none"
    chosen: dict[str, Any] = {"COMPRESS": compression.upper(), "BIGTIFF": "IF_SAFER"}
    if options.nbits is not None:
        chosen["NBITS"] = options.nbits
    if compression != "none":
        chosen["NUM_THREADS"] = "ALL_CPUS"
    predictor = _predictor(spec, options)
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


def _copy(pixels: Path, draft: Path, how: Mapping[str, Any]) -> None:
    """Copy a raster, and make sure of it: GDAL does not tell of every write that fails.

    Raises
    ------
    OSError
        If the copy is not whole, with ``ENOSPC`` where the disk may be full.
    """
    try:
        with _unplaced_is_fine():
            rasterio.shutil.copy(pixels, draft, strict=True, **how)
            same = _same_pixels(pixels, draft)
    except Exception as exc:
        remove(draft)
        raise _copy_error(pixels, str(exc)) from exc
    if not same:
        remove(draft)
        raise _copy_error(pixels, "it does not hold what was written")


def _copy_error(pixels: Path, reason: str) -> OSError:
    free = shutil.disk_usage(pixels.parent).free
    code = errno.ENOSPC if free < pixels.stat().st_size else errno.EIO
    return OSError(code, f"the final copy failed, {free >> 20} MB are free: {reason}")


def _same_pixels(left: Path, right: Path) -> bool:
    with rasterio.open(left) as one, rasterio.open(right) as other:
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
    for row in range(0, height, COMPARED_PX):
        for col in range(0, width, COMPARED_PX):
            yield RasterWindow(
                col, row, min(COMPARED_PX, width - col), min(COMPARED_PX, height - row)
            )


def _predictor(spec: RasterSpec, options: SaveOptions) -> int:
    """Return the one with which neighbours, being alike, take less room; 0 where there is none."""
    if options.compression not in {"deflate", "lzw", "zstd"} or options.nbits is not None:
        return 0
    return {"i": 2, "u": 2, "f": 3}.get(np.dtype(spec.dtype).kind, 1)


def _left(path: Path, spec: RasterSpec | None) -> RasterSpec:
    """Describe what an earlier run left, and check that it is `spec`."""
    try:
        with _unplaced_is_fine(), rasterio.open(path) as raster:
            found = RasterSpec(
                height=raster.height,
                width=raster.width,
                count=raster.count,
                dtype=raster.dtypes[0],
                nodata=raster.nodata,
            )
    except rasterio.errors.RasterioIOError as exc:
        raise TileError(f"{path.name}: an earlier run left no raster to resume") from exc
    if spec is None:
        return found
    spec.check_same(found, path.name)
    return spec


@contextmanager
def _unplaced_is_fine() -> Iterator[None]:
    """Let rasters without georeferencing be made in silence: many have none."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        yield


def _raster_window(window: Window) -> RasterWindow:
    height, width = window.shape
    return RasterWindow(window.col_min, window.row_min, width, height)
