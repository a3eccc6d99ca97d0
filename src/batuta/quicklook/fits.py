"""The quicklook of FITS: a light curve of events, a chart of a table, or an image."""

import gzip
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from astropy.io import fits
from PIL import Image

from batuta.quicklook.canvas import as_image, enlarged, fitted, named, with_bar
from batuta.quicklook.chart import Quantity, draw_chart
from batuta.quicklook.limits import (
    MAX_INFLATED_BYTES,
    MAX_PIXELS,
    MAX_ROWS,
    SIZE_PX,
    CannotDrawError,
)
from batuta.quicklook.series import draw_table
from batuta.quicklook.stretch import coloured, scaled, value_range, with_alpha

Array = npt.NDArray[Any]

_MAX_HDUS: Final = 200
_BINS: Final = 240
_MAX_SHOWN: Final = 12
_NOT_SHOWN: Final = ("GTI", "STDGTI", "BADPIX")
"""Tables that accompany what a file is about."""
_NUMBER: Final = re.compile(r"(?:[1-9]|1[0-6])?[BIJKED]")
"""One number in each row, or one for each of some bands (FITS 4.0, 7.3.1)."""
_MEASURED: Final = ("RATE", "COUNTS", "FLUX", "COUNT", "POWER", "SIGNAL", "MAG")


def draw(path: Path) -> Image.Image:
    """Return the picture of the first extension that has something to show."""
    # Mapped to be read alone: it takes no memory, whatever its size.
    with _opened(path) as file:
        shown = [*_shown(file)]
        for hdu in sorted(shown, key=lambda each: each.name in _NOT_SHOWN):
            return _draw_image(hdu) if hdu.is_image else _draw_table(hdu)
    raise CannotDrawError("none of its extensions has an image or a table with rows")


def _opened(path: Path) -> Any:
    with path.open("rb") as file:
        if file.read(2) != b"\x1f\x8b":
            return fits.open(path, mode="denywrite", memmap=True, lazy_load_hdus=True)
    with gzip.open(path) as packed:
        content = packed.read(MAX_INFLATED_BYTES + 1)
    if len(content) > MAX_INFLATED_BYTES:
        raise CannotDrawError(f"it is larger than {MAX_INFLATED_BYTES} bytes once unpacked")
    return fits.open(io.BytesIO(content), memmap=False, lazy_load_hdus=True)


def _shown(file: Any) -> Iterator[Any]:
    for number, hdu in enumerate(file):
        if number >= _MAX_HDUS:
            return
        if hdu.is_image:
            if hdu.header.get("NAXIS", 0) >= 2 and all(hdu.shape) and min(hdu.shape[-2:]) > 1:
                yield hdu
        elif hdu.header.get("NAXIS2", 0) > 0 and hdu.columns.names:
            yield hdu


def _draw_table(hdu: Any) -> Image.Image:
    rows = hdu.header["NAXIS2"]
    step = -(-rows // MAX_ROWS)
    columns = {
        each.name: each for each in hdu.columns if _is_number(each.format) and each.name is not None
    }
    data = hdu.data[::step]
    by_name = {name.upper(): name for name in columns}
    time = by_name.get("TIME")
    if time is not None and not any(name.startswith(_MEASURED) for name in by_name):
        return _draw_events(np.asarray(data[time], np.float64), step, columns[time].unit or "s")
    names = [*columns][:_MAX_SHOWN]
    if time is not None and time not in names:
        names.append(time)
    values = {name: _first(data[name]) for name in names}
    return draw_table(values, {name: columns[name].unit for name in names if columns[name].unit})


def _is_number(form: str) -> bool:
    return _NUMBER.fullmatch(form) is not None


def _native(values: Any) -> Array:
    array = np.asarray(values)
    return array.astype(array.dtype.newbyteorder("="))


def _first(values: Any) -> Array:
    """Return the numbers of a column; of a column with several bands, those of the first."""
    array = _native(values)
    return array if array.ndim == 1 else array[:, 0]


def _draw_events(times: Array, step: int, unit: str) -> Image.Image:
    """Return the light curve of a list of events: how many come in each bin."""
    times = times[np.isfinite(times)]
    if not times.size:
        raise CannotDrawError("its events have no times")
    start, end = float(times.min()), float(times.max())
    if not end > start:
        raise CannotDrawError("all its events have one time")
    counts, edges = np.histogram(times, min(_BINS, max(10, times.size // 20)), (start, end))
    width = (end - start) / len(counts)
    along = Quantity(f"TIME since {start:.10g}", (edges[:-1] + edges[1:]) / 2 - start, unit)
    name = f"events, bins of {width:.3g} {unit}"
    return draw_chart(along, [Quantity(name, counts * step / width, f"1/{unit}")])


def _draw_image(hdu: Any) -> Image.Image:
    """Return the first plane of an image, north as it comes: its first row is the lowest."""
    height, width = hdu.shape[-2:]
    if width * height > MAX_PIXELS:
        raise CannotDrawError(f"it has {width} x {height} pixels (drawn: up to {MAX_PIXELS:,})")
    step = max(1, max(height, width) // SIZE_PX)
    plane = (0,) * (len(hdu.shape) - 2)
    values = _native(hdu.section[(*plane, slice(None), slice(None))])
    if values.dtype.kind not in "iufb":
        raise CannotDrawError(f"its pixels are {values.dtype} (drawn: numbers)")
    values = _averaged(values, step)
    shown = np.isfinite(values)
    if not shown.any():
        raise CannotDrawError("it has no pixel with data")
    bounds = value_range(values[shown])
    fractions = scaled(values, bounds)
    if np.median(fractions[shown]) in {0.0, 1.0}:
        # Few pixels have all there is to see, as in an image of sources: their logarithm.
        bounds = value_range(values[shown], 0.0, 99.9)
        fractions = np.log1p(1000 * scaled(values, bounds)) / np.log1p(1000)
    picture = as_image(with_alpha(coloured(fractions), shown)[::-1])
    size = fitted(picture.width, picture.height, SIZE_PX)
    picture = enlarged(picture.resize(size, Image.Resampling.BOX))
    title = named(f"{hdu.name.title()}, {width} x {height} px", hdu.header.get("BUNIT"))
    return with_bar(picture, bounds, title)


def _averaged(values: Array, step: int) -> Array:
    """Return the means of squares of pixels; what is left over at two borders is left out."""
    values = values.astype(np.float32)
    if step == 1:
        return values
    rows, columns = (length // step for length in values.shape)
    squares = values[: rows * step, : columns * step].reshape(rows, step, columns, step)
    with np.errstate(all="ignore"):
        means: Array = np.nanmean(squares, axis=(1, 3))
    return means
