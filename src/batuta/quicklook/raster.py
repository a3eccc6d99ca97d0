"""The quicklook of a GeoTIFF: an overview, stretched; clear where there is no data."""

from pathlib import Path
from typing import Any, Final

import numpy as np
import rasterio
from PIL import Image
from rasterio.enums import ColorInterp, Resampling

from batuta.quicklook.canvas import as_image, enlarged, fitted, named, with_bar
from batuta.quicklook.limits import MAX_PIXELS, SIZE_PX, CannotDrawError
from batuta.quicklook.stretch import Array, coloured, grey, scaled, value_range, with_alpha

_SMALL_PX: Final = 64_000_000
"""Up to so many pixels, each counts in the mean; of more, some are read."""
_OPTIONS: Final = {
    # No file beside it, none that it names, and no other format: it is untrusted.
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
    "GDAL_PAM_ENABLED": "NO",
    "GDAL_CACHEMAX": 128,
    "GDAL_NUM_THREADS": "1",
}


def draw(path: Path) -> Image.Image:
    """Return a raster: three bands or more as RGB, one by a bar of colours."""
    with rasterio.Env(**_OPTIONS), rasterio.open(path, driver="GTiff") as dataset:
        return _drawn(dataset)


def _drawn(dataset: Any) -> Image.Image:
    width, height = fitted(dataset.width, dataset.height, SIZE_PX)
    if not dataset.overviews(1) and dataset.width * dataset.height > MAX_PIXELS * 4:
        raise CannotDrawError(
            f"it has {dataset.width} x {dataset.height} pixels and no overview (drawn without: up "
            f"to {MAX_PIXELS * 4:,})"
        )
    interpretation = dataset.colorinterp
    has_palette = interpretation[0] == ColorInterp.palette
    bands = _bands(interpretation)
    is_small = dataset.width * dataset.height <= _SMALL_PX and not has_palette
    values = dataset.read(
        list(bands),
        out_shape=(len(bands), height, width),
        resampling=Resampling.average if is_small else Resampling.nearest,
        masked=True,
    )
    pixels = np.abs(values.data) if values.dtype.kind == "c" else values.data
    shown = ~np.ma.getmaskarray(values).all(axis=0) & np.isfinite(pixels).any(axis=0)
    if not shown.any():
        raise CannotDrawError("it has no pixel with data")
    if has_palette:
        return enlarged(as_image(with_alpha(_by_palette(pixels[0], dataset.colormap(1)), shown)))
    if len(bands) == 3:
        return enlarged(as_image(with_alpha(_rgb(pixels, shown), shown)))
    return _one_band(pixels[0], shown, dataset)


def _bands(interpretation: tuple[ColorInterp, ...]) -> tuple[int, ...]:
    """Return the bands that are shown, from 1: red, green and blue, the first three, or one."""
    wanted = (ColorInterp.red, ColorInterp.green, ColorInterp.blue)
    if all(each in interpretation for each in wanted):
        return tuple(interpretation.index(each) + 1 for each in wanted)
    data = [
        number for number, each in enumerate(interpretation, start=1) if each != ColorInterp.alpha
    ]
    return tuple(data[:3]) if len(data) >= 3 else tuple(data[:1] or [1])


def _rgb(pixels: Array, shown: Array) -> Array:
    if pixels.dtype == np.uint8:
        # Alike for all three: pictures keep their colours.
        together = value_range(pixels[:, shown])
        ranges = [together] * 3
    else:
        ranges = [value_range(band[shown]) for band in pixels]
    bands = [scaled(band, each) for band, each in zip(pixels, ranges, strict=True)]
    return (np.stack(bands, axis=-1) * 255).astype(np.uint8)


def _by_palette(indices: Array, colours: dict[int, tuple[int, ...]]) -> Array:
    table = np.zeros((256, 3), dtype=np.uint8)
    for number, colour in colours.items():
        if 0 <= number < len(table):
            table[number] = colour[:3]
    return table[np.clip(indices, 0, 255).astype(np.uint8)]


def _one_band(values: Array, shown: Array, dataset: Any) -> Image.Image:
    bounds = value_range(values[shown])
    is_measured = values.dtype.kind in "fc"
    fractions = scaled(values, bounds)
    colours = coloured(fractions) if is_measured else grey(fractions)
    picture = enlarged(as_image(with_alpha(colours, shown)))
    name = dataset.descriptions[0] or f"{dataset.width} x {dataset.height} px"
    title = named(name, dataset.units[0])
    return with_bar(picture, bounds, title, in_colour=is_measured)
