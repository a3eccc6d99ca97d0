"""Arrays of a tile, as files take them: those of an xarray Dataset, or without xarray.

What maps functions over rasters passes NumPy arrays from workers to files. An xarray Dataset around
them would take xarray and pandas in the main process and in every worker: half a second, and most
of their memory.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias, TypeGuard

import numpy as np
import numpy.typing as npt

from batuta.datasets.axes import band_names, in_raster_order
from batuta.datasets.loaded_libraries import is_dataset

if TYPE_CHECKING:
    import xarray as xr


@dataclass(frozen=True, kw_only=True)
class ArrayVariable:
    """An array in raster order.

    Parameters
    ----------
    dims : tuple of str
        Its dimensions: bands where it has any, rows, columns.
    data : array
        Its values: a NumPy array, or what `numpy.asarray` takes.
    bands : tuple of str
        Names of the bands; empty where they have none.
    """

    dims: tuple[str, ...]
    data: Any
    bands: tuple[str, ...] = ()

    @property
    def dtype(self) -> np.dtype[Any]:
        """The data type of the values."""
        found: np.dtype[Any] = self.data.dtype
        return found

    @property
    def shape(self) -> tuple[int, ...]:
        """Rows and columns, bands first where it has any."""
        found: tuple[int, ...] = self.data.shape
        return found

    @property
    def values(self) -> npt.NDArray[Any]:
        """The values, as a NumPy array."""
        found: npt.NDArray[Any] = np.asarray(self.data)
        return found


@dataclass(kw_only=True)
class ArrayTile:
    """A tile of arrays without xarray: what `map_tiles` makes of the results of its function.

    Parameters
    ----------
    data_vars : mapping of str to ArrayVariable
        The arrays, by their names.
    attrs : dict
        As those of other tiles: see `batuta.datasets.tiles`.
    """

    data_vars: Mapping[str, ArrayVariable]
    attrs: dict[str, Any] = field(default_factory=dict)

    def __contains__(self, name: object) -> bool:
        return name in self.data_vars

    def __getitem__(self, name: str) -> ArrayVariable:
        return self.data_vars[name]

    def to_dataset(self) -> "xr.Dataset":
        """Return the same as a Dataset of xarray."""
        import xarray as xr  # noqa: PLC0415 - for whoever needs one

        return xr.Dataset(
            {name: (each.dims, each.values) for name, each in self.data_vars.items()},
            coords={
                each.dims[0]: list(each.bands) for each in self.data_vars.values() if each.bands
            },
            attrs=self.attrs,
        )


AnyArrayTile: TypeAlias = "xr.Dataset | ArrayTile"
"""A tile of a dataset of arrays."""


def is_array_tile(value: object) -> TypeGuard[AnyArrayTile]:
    """Return whether a value is a tile of arrays."""
    return isinstance(value, ArrayTile) or is_dataset(value)


def variable_of(tile: AnyArrayTile, name: str) -> ArrayVariable:
    """Return an array of a tile.

    Raises
    ------
    TileError
        If its dimensions are not those of a raster.
    """
    if isinstance(tile, ArrayTile):
        return tile[name]
    ordered = in_raster_order(tile[name])
    return ArrayVariable(
        dims=tuple(map(str, ordered.dims)),
        data=ordered.variable.data,
        bands=band_names(ordered),
    )
