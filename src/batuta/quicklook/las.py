"""The quicklook of a LAS or LAZ file: points from all over it, seen from above."""

from pathlib import Path
from typing import Any, Final

import laspy
import numpy as np
from PIL import Image

from batuta.quicklook.limits import MAX_ROWS, CannotDrawError
from batuta.quicklook.points import draw_points

_PLACES: Final = 100
_CHUNK: Final = 50_000
"""The points that a LAZ file has in one chunk, by default: it is read by chunks."""


def draw(path: Path) -> Image.Image:
    """Return the plan view of its points; of a large file, of some parts of it."""
    with laspy.open(path) as reader:
        total = reader.header.point_count
        if not total:
            raise CannotDrawError("it has no point")
        parts = [_coordinates(reader, *each) for each in _parts(total)]
    x, y, z = np.concatenate(parts, axis=1)
    return draw_points(x, y, z, unit="m", total=total)


def _parts(total: int) -> list[tuple[int, int]]:
    """Return where to begin to read, and how many points."""
    if total <= MAX_ROWS:
        return [(start, min(_CHUNK, total - start)) for start in range(0, total, _CHUNK)]
    starts = np.linspace(0, total - _CHUNK, _PLACES).astype(np.int64) // _CHUNK * _CHUNK
    return [(int(start), MAX_ROWS // _PLACES) for start in np.unique(starts)]


def _coordinates(reader: Any, start: int, count: int) -> Any:
    reader.seek(start)
    points = reader.read_points(count)
    return np.stack([np.asarray(points.x), np.asarray(points.y), np.asarray(points.z)])
