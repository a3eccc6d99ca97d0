"""Rasters that tests read, and what is in the files that they write."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import rasterio
from affine import Affine

from batuta.datasets.raster_file import ignore_missing_georeferencing

UTM = "EPSG:32631"
PLACE = Affine(30.0, 0.0, 500_000.0, 0.0, -30.0, 5_000_000.0)


def write_raster(
    path: Path,
    pixels: npt.NDArray[Any],
    *,
    nodata: float | None = None,
    transform: Affine | None = PLACE,
    block_px: int | None = None,
    names: tuple[str, ...] = (),
    tags: dict[str, str] | None = None,
    crs: str | None = UTM,
) -> Path:
    """Write a GeoTIFF of pixels of shape (rows, columns) or (bands, rows, columns)."""
    bands = pixels if pixels.ndim == 3 else pixels[np.newaxis]
    blocks = {"tiled": True, "blockxsize": block_px, "blockysize": block_px} if block_px else {}
    profile = {
        "driver": "GTiff",
        "height": bands.shape[1],
        "width": bands.shape[2],
        "count": bands.shape[0],
        "dtype": bands.dtype,
        "nodata": nodata,
        "crs": crs,
        "transform": transform,
        **blocks,
    }
    with ignore_missing_georeferencing(), rasterio.open(path, "w", **profile) as raster:
        raster.write(bands)
        raster.update_tags(**(tags or {}))
        for index, name in enumerate(names, start=1):
            raster.set_band_description(index, name)
    return path


def heights(rows: int, cols: int, dtype: str = "float32") -> npt.NDArray[Any]:
    """Return pixels that differ from each other."""
    values = np.random.default_rng(rows * cols).permutation(rows * cols).reshape(rows, cols)
    return values.astype(dtype)


def pixels_of(path: Path | str) -> npt.NDArray[Any]:
    """Return the pixels of a GeoTIFF, of shape (rows, columns) where it has one band."""
    with ignore_missing_georeferencing(), rasterio.open(path) as raster:
        pixels: npt.NDArray[Any] = raster.read()
    return pixels[0] if len(pixels) == 1 else pixels
