"""Three programs as functions of arrays, and the rasters that they read.

All sides call the same functions, so that what is compared is how tiles are read, passed on and
written.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[Any]

NODATA: Final = -9999.0
PIXEL_M: Final = 30.0
ZONES: Final = 16
WINDOW_PX: Final = 5
"""Side of the window of the focal mean."""
BLOCK_PX: Final = 256


def slope(heights_m: Array) -> Array:
    """Return the slope in degrees; needs 1 pixel around each."""
    north, east = np.gradient(heights_m, PIXEL_M)
    steepness: Array = np.degrees(np.arctan(np.hypot(north, east)))
    return steepness


def smooth_ndvi(red: Array, near_infrared: Array) -> Array:
    """Return the mean NDVI of 5 x 5 pixels, of those that are not NaN; needs 2 around each."""
    from scipy.ndimage import uniform_filter  # noqa: PLC0415 - of this program alone

    with np.errstate(invalid="ignore", divide="ignore"):
        ndvi = (near_infrared - red) / (near_infrared + red)
    known = np.isfinite(ndvi)
    share = uniform_filter(known.astype(np.float32), WINDOW_PX, mode="constant")
    total = uniform_filter(np.where(known, ndvi, 0), WINDOW_PX, mode="constant")
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(share > 1e-6, total / share, np.nan).astype(np.float32)


def sums_by_zone(values: Array, zones: Array) -> Array:
    """Return the count and the sum of each zone; shape (2, zones)."""
    flat = zones.ravel().astype(np.int64)
    counts = np.bincount(flat, minlength=ZONES)
    return np.stack([counts, np.bincount(flat, weights=values.ravel(), minlength=ZONES)])


INPUTS: Final = {
    "slope": ("dem.tif",),
    "ndvi": ("red.tif", "nir.tif"),
    "zonal": ("dem.tif", "zones.tif"),
}
MARGIN_PX: Final = {"slope": 1, "ndvi": WINDOW_PX // 2, "zonal": 0}
FUNCTIONS: Final[dict[str, Callable[..., Array]]] = {
    "slope": slope,
    "ndvi": smooth_ndvi,
    "zonal": sums_by_zone,
}


def write_inputs(folder: Path, side_px: int) -> None:
    """Write the rasters of all programs, of side_px x side_px pixels."""
    random = np.random.default_rng(1)
    shape = (side_px, side_px)
    heights = random.normal(500, 40, shape).astype(np.float32)
    heights[:100, :80] = NODATA
    _write(folder / "dem.tif", heights, NODATA)
    for name in ("red.tif", "nir.tif"):
        counts = random.integers(1, 4000, shape, dtype=np.uint16)
        counts[random.random(shape) < 0.02] = 0
        _write(folder / name, counts, 0)
    rows, cols = np.indices(shape, dtype=np.uint16)
    _write(folder / "zones.tif", ((rows // 97 + cols // 131) % ZONES).astype(np.uint8), None)


def _write(path: Path, pixels: Array, nodata: float | None) -> None:
    import rasterio  # noqa: PLC0415 - sides measure their own imports

    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        height=pixels.shape[0],
        width=pixels.shape[1],
        count=1,
        dtype=pixels.dtype,
        nodata=nodata,
        crs="EPSG:32631",
        transform=rasterio.Affine(PIXEL_M, 0, 500_000, 0, -PIXEL_M, 5_000_000),
        tiled=True,
        blockxsize=BLOCK_PX,
        blockysize=BLOCK_PX,
    ) as raster:
        raster.write(pixels, 1)
