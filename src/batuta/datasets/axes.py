"""The axes of arrays, found by the names of their dimensions: bands, rows, columns."""

from collections.abc import Hashable
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from batuta.datasets.errors import TileError

if TYPE_CHECKING:
    import xarray as xr

ROW_NAMES: Final = ("row", "y", "lat", "latitude", "northing", "line")
"""Names of the dimension of rows; case and a final s do not matter."""

COL_NAMES: Final = ("col", "column", "x", "lon", "longitude", "easting", "sample")
"""Names of the dimension of columns; case and a final s do not matter."""


def in_raster_order(variable: "xr.DataArray") -> "xr.DataArray":
    """Return `variable` with its dimensions in the order of a raster: bands, rows, columns.

    Rows and columns are found by their names, `ROW_NAMES` and `COL_NAMES`; a third dimension, of
    any other name, holds the bands. A variable that has this order already is returned as it is.

    Raises
    ------
    TileError
        If a dimension is missing, or there is one too many; with the names.
    """
    order = _raster_order(variable.dims)
    if order is None:
        given = ", ".join(map(str, variable.dims))
        raise TileError(
            f"{variable.name}: dimensions ({given}) given; rows ({', '.join(ROW_NAMES)}),"
            f" columns ({', '.join(COL_NAMES)}) and at most one more, of bands, expected"
        )
    return variable if order == variable.dims else variable.transpose(*order)


def band_names(variable: "xr.DataArray") -> tuple[str, ...]:
    """Return the names of the bands of a variable in raster order, where it has a coordinate."""
    if variable.ndim != 3 or variable.dims[0] not in variable.coords:
        return ()
    return tuple(str(name) for name in variable.coords[variable.dims[0]].values)


@lru_cache(maxsize=256)  # the tiles of a dataset all have the same few
def _raster_order(dims: tuple[Hashable, ...]) -> tuple[Hashable, ...] | None:
    rows = [name for name in dims if _is_one_of(name, ROW_NAMES)]
    cols = [name for name in dims if _is_one_of(name, COL_NAMES)]
    bands = [name for name in dims if name not in rows and name not in cols]
    if len(rows) != 1 or len(cols) != 1 or len(bands) > 1:
        return None
    return (*bands, *rows, *cols)


def _is_one_of(name: Hashable, names: tuple[str, ...]) -> bool:
    plain = str(name).lower()
    return plain in names or (plain[-1:] == "s" and plain[:-1] in names)
