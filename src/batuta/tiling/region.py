"""The part of a raster that is computed: a window, a box or what a polygon touches."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from affine import Affine
from rasterio.features import geometry_mask
from rasterio.windows import from_bounds

from batuta.datasets import Window
from batuta.errors import ConfigurationError, describe_value, one_line
from batuta.tiling.raster import Raster


@dataclass(frozen=True, kw_only=True)
class Region:
    """The part of a raster that is computed.

    Parameters
    ----------
    window : Window
        What the outputs cover.
    polygon : mapping or None
        A GeoJSON geometry in the coordinates of the raster: only tiles that it touches are
        computed.
    """

    window: Window
    polygon: Mapping[str, Any] | None = None

    def touched(self, raster: Raster, tile: tuple[int, int]) -> npt.NDArray[np.bool_]:
        """Return which tiles are computed; shape (rows, columns) of the grid of tiles.

        Parameters
        ----------
        raster : Raster
            The whole raster.
        tile : (int, int)
            Rows and columns of a tile.
        """
        shape = tuple(-(-side // step) for side, step in zip(self.window.shape, tile, strict=True))
        corner = raster.transform_of(self.window)
        if self.polygon is None or corner is None:
            return np.ones(shape, dtype=bool)
        # A raster whose pixels are the tiles.
        place = corner @ Affine.scale(tile[1], tile[0])
        touched: npt.NDArray[np.bool_] = geometry_mask(
            [self.polygon], shape, place, all_touched=True, invert=True
        )
        return touched


def region_of(given: Any, raster: Raster) -> Region:
    """Return the region that is asked for, checked.

    Parameters
    ----------
    given : None, Window, (left, bottom, right, top) or geometry
        All of the raster; pixels; a box in its coordinates, of which the pixels inside or cut
        count; or a polygon in its coordinates: GeoJSON, or any object with `__geo_interface__`,
        such as those of shapely.
    raster : Raster
        The raster.

    Raises
    ------
    ConfigurationError
        If it is none of these, or outside of the raster.
    """
    if given is None:
        return Region(window=raster.window)
    if isinstance(given, Window):
        return Region(window=_inside(given, raster))
    if raster.transform is None:
        raise ConfigurationError(
            f"region: {raster.name} has no georeferencing: a Window of pixels expected"
        )
    polygon = _geometry_of(given)
    if polygon is None:
        return Region(window=_inside(_window_of(_box_of(given), raster), raster))
    try:
        window = _window_of(_bounds_of(polygon), raster)
    except (KeyError, TypeError, ValueError) as exc:
        raise ConfigurationError(f"region: not a GeoJSON polygon: {one_line(exc)}") from exc
    return Region(window=_inside(window, raster), polygon=polygon)


def _geometry_of(given: Any) -> Mapping[str, Any] | None:
    found = getattr(given, "__geo_interface__", given)
    if not isinstance(found, Mapping):
        return None
    geometry = found.get("geometry", found)
    if geometry.get("type") not in {"Polygon", "MultiPolygon"}:
        raise ConfigurationError(
            f"region: a geometry {geometry.get('type')!r} given, Polygon or MultiPolygon expected"
        )
    polygon: Mapping[str, Any] = geometry
    return polygon


def _bounds_of(polygon: Mapping[str, Any]) -> tuple[float, float, float, float]:
    rings = polygon["coordinates"]
    if polygon["type"] == "MultiPolygon":
        rings = [ring for each in rings for ring in each]
    points = np.array([point[:2] for ring in rings for point in ring], dtype=np.float64)
    if not points.size or not np.isfinite(points).all():
        raise ValueError("it has no points, or some without coordinates")
    left, bottom = points.min(axis=0)
    right, top = points.max(axis=0)
    return float(left), float(bottom), float(right), float(top)


def _box_of(given: Any) -> tuple[float, float, float, float]:
    try:
        left, bottom, right, top = (float(each) for each in given)
    except (TypeError, ValueError):
        raise ConfigurationError(
            f"region: {describe_value(given)} given, a Window, (left, bottom, right, top) or a"
            " polygon expected"
        ) from None
    if not (left < right and bottom < top):
        raise ConfigurationError(
            f"region: {(left, bottom, right, top)} given, left < right and bottom < top expected"
        )
    return left, bottom, right, top


def _window_of(box: tuple[float, float, float, float], raster: Raster) -> Window:
    place = raster.transform
    if place is None or place.b or place.d:
        raise ConfigurationError(f"region: {raster.name} is rotated: a Window of pixels expected")
    left, bottom, right, top = box
    if place.e > 0:  # rows go north
        bottom, top = top, bottom
    found = from_bounds(left, bottom, right, top, transform=place)
    # Half a millionth of a pixel: boxes on the edges of pixels are rounded numbers.
    first_row, first_col = (int(np.floor(each + 5e-7)) for each in (found.row_off, found.col_off))
    last_row = int(np.ceil(found.row_off + found.height - 5e-7))
    last_col = int(np.ceil(found.col_off + found.width - 5e-7))
    return Window(
        max(first_row, 0),
        min(last_row, raster.height),
        max(first_col, 0),
        min(last_col, raster.width),
    )


def _inside(window: Window, raster: Raster) -> Window:
    rows_fit = 0 <= window.row_min < window.row_max <= raster.height
    if not (rows_fit and 0 <= window.col_min < window.col_max <= raster.width):
        raise ConfigurationError(
            f"region: outside of {raster.name}, which has {raster.height} rows and"
            f" {raster.width} columns{_bounds_text(raster)}"
        )
    return window


def _bounds_text(raster: Raster) -> str:
    if raster.transform is None:
        return ""
    left, top = raster.transform @ (0, 0)
    right, bottom = raster.transform @ (raster.width, raster.height)
    return f" from ({left:g}, {bottom:g}) to ({right:g}, {top:g})"
