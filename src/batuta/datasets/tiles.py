"""Tile types, and the attributes that a tile carries.

A tile is an `xarray.Dataset` (arrays), a `pandas.DataFrame` (points) or a `CarsDict` (dict). Its
window, its overlaps and the raster that it belongs to are in its ``attrs``, under the keys below.
"""

from collections.abc import Iterator, Mapping, MutableMapping
from typing import TYPE_CHECKING, Any, Final, Protocol

from batuta.datasets.grid import Overlaps, Window

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

PROFILE: Final = "profile"
WINDOW: Final = "window"
OVERLAPS: Final = "overlaps"
ATTRIBUTES: Final = "attributes"
SAVING_INFO: Final = "saving_info"


class CarsDict(MutableMapping[str, Any]):
    """A dictionary with attributes, like the other types of tiles.

    Parameters
    ----------
    data_dict : mapping
        The content; kept in `data`, copied one level deep.
    attributes : mapping, optional
        Stored under ``attrs["attributes"]``.
    """

    def __init__(
        self, data_dict: Mapping[str, Any], attributes: Mapping[str, Any] | None = None
    ) -> None:
        self.data: dict[str, Any] = dict(data_dict)
        self.attrs: dict[str, Any] = {}
        if attributes is not None:
            self.attrs[ATTRIBUTES] = dict(attributes)

    def __getitem__(self, key: str) -> Any:
        return self.data[key]

    def __setitem__(self, key: str, value: Any) -> None:
        self.data[key] = value

    def __delitem__(self, key: str) -> None:
        del self.data[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self.data)

    def __len__(self) -> int:
        return len(self.data)

    def __repr__(self) -> str:
        return f"CarsDict({self.data!r}, attrs={self.attrs!r})"


class HasAttributes(Protocol):
    """A tile of any type."""

    @property
    def attrs(self) -> Any:
        """Its attributes, a dictionary that may be changed."""


def fill_dataset(
    dataset: "xr.Dataset",
    saving_info: Mapping[str, Any] | None = None,
    window: Mapping[str, int] | None = None,
    profile: Mapping[str, Any] | None = None,
    attributes: Mapping[str, Any] | None = None,
    overlaps: Mapping[str, int] | None = None,
) -> None:
    """Set the attributes that saving a tile needs; arguments that are None change nothing.

    Parameters
    ----------
    dataset : xarray.Dataset
        The tile, changed in place.
    saving_info : mapping, optional
        As given by `Orchestrator.get_saving_infos` and `update_saving_infos`.
    window : mapping, optional
        ``row_min, row_max, col_min, col_max`` in pixels, half-open, without the overlaps.
    profile : mapping, optional
        rasterio profile of the whole raster: ``width, height, transform, crs`` are used.
    attributes : mapping, optional
        Any other metadata of the tile.
    overlaps : mapping, optional
        ``up, down, left, right`` in pixels: the margins of the tile beyond its window.
    """
    given = {
        SAVING_INFO: saving_info,
        WINDOW: window,
        PROFILE: profile,
        ATTRIBUTES: attributes,
        OVERLAPS: overlaps,
    }
    dataset.attrs.update({key: value for key, value in given.items() if value is not None})


def fill_dataframe(
    dataframe: "pd.DataFrame",
    saving_info: Mapping[str, Any] | None = None,
    attributes: Mapping[str, Any] | None = None,
) -> None:
    """Set the attributes that saving a tile of points needs; see `fill_dataset`."""
    _fill(dataframe.attrs, saving_info, attributes)


def fill_dict(
    data_dict: CarsDict | dict[str, Any],
    saving_info: Mapping[str, Any] | None = None,
    attributes: Mapping[str, Any] | None = None,
) -> None:
    """Set the attributes that saving a dict tile needs; in a plain dict, as keys of its own."""
    target = data_dict.attrs if isinstance(data_dict, CarsDict) else data_dict
    _fill(target, saving_info, attributes)


def _fill(
    attrs: MutableMapping[Any, Any],
    saving_info: Mapping[str, Any] | None,
    attributes: Mapping[str, Any] | None,
) -> None:
    if saving_info is not None:
        attrs[SAVING_INFO] = saving_info
    if attributes is not None:
        attrs[ATTRIBUTES] = attributes


def window_of(tile: HasAttributes) -> Window | None:
    """Return the window in the attributes of a tile, if any."""
    window = tile.attrs.get(WINDOW)
    return None if window is None else Window.from_mapping(window)


def overlaps_of(tile: HasAttributes) -> Overlaps | None:
    """Return the overlaps in the attributes of a tile, if any."""
    overlaps = tile.attrs.get(OVERLAPS)
    return None if overlaps is None else Overlaps.from_mapping(overlaps)
