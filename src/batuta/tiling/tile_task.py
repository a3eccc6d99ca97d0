"""The tasks of a tile: a function is called, and its results become tiles of datasets."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from batuta.datasets import CarsDict, TileError, Window
from batuta.datasets.array_tile import ArrayTile, ArrayVariable
from batuta.datasets.formats import ARRAYS, POINTS
from batuta.datasets.loaded_libraries import is_data_frame
from batuta.datasets.tiles import PROFILE
from batuta.tiling.adding import adds_up
from batuta.tiling.calls import TileCall
from batuta.tiling.outputs import TiledOutput
from batuta.tiling.pixels import cropped, with_nodata
from batuta.tiling.place import TilePlace
from batuta.tiling.raster import moved

PARTIAL: Final = "partial"
"""In the tile that `PartialTask` returns, the key of what the function returned."""


@dataclass(frozen=True, kw_only=True)
class TileTask:
    """Calls a function for a tile.

    Parameters
    ----------
    call : TileCall
        The function.
    outputs : tuple of TiledOutput
        What its results are saved in, in their order.
    region : Window
        What the outputs cover.
    profile : mapping
        States where they lie.
    """

    call: TileCall
    outputs: tuple[TiledOutput, ...]
    region: Window
    profile: Mapping[str, Any]

    def __post_init__(self) -> None:
        _name(self, self.call)

    def __call__(self, window: Window) -> Any:
        """Return the tiles of a window of the region: the rasters together, then the others.

        One tile, or a tuple of them.

        Raises
        ------
        TileError
            If the function returns something else than what is saved.
        """
        found, place = self.call.result(moved(window, self.region.row_min, self.region.col_min))
        results = self._listed(found)
        arrays: dict[str, ArrayVariable] = {}
        others: list[Any] = []
        for output, result in zip(self.outputs, results, strict=True):
            if output.dataset_type != ARRAYS:
                others.append(self._record(output, result))
            elif result is not None:
                arrays[output.tag] = self._variable(output, result, place)
        rasters = ArrayTile(data_vars=arrays, attrs={PROFILE: self.profile}) if arrays else None
        has_arrays = any(each.dataset_type == ARRAYS for each in self.outputs)
        tiles = (rasters, *others) if has_arrays else tuple(others)
        return tiles[0] if len(tiles) == 1 else tiles

    def _listed(self, found: Any) -> tuple[Any, ...]:
        if found is None:
            return (None,) * len(self.outputs)
        if len(self.outputs) == 1:
            return (found,)
        if not isinstance(found, tuple | list):
            raise TileError(
                f"{self.call.name} returned {type(found).__name__}, a tuple of"
                f" {len(self.outputs)} results expected"
            )
        if len(found) != len(self.outputs):
            raise TileError(
                f"{self.call.name} returned {len(found)} results, {len(self.outputs)} expected"
            )
        return tuple(found)

    def _variable(self, output: TiledOutput, result: Any, place: TilePlace) -> ArrayVariable:
        pixels, names = cropped(result, place, self.call.name)
        pixels = with_nodata(pixels, output.nodata, self.call.name)
        # Each raster has bands of its own.
        band = "band" if len(self.outputs) == 1 else f"{output.tag}_band"
        dims = (band, "row", "col")[-pixels.ndim :]
        if not names and pixels.ndim == 3 and len(pixels) == len(self.call.raster.bands):
            names = self.call.raster.bands
        window = moved(place.window, -self.region.row_min, -self.region.col_min)
        encoded = output.encoded(pixels, window, self.region.shape)
        return ArrayVariable(dims=dims, data=pixels if encoded is None else encoded, bands=names)

    def _record(self, output: TiledOutput, result: Any) -> Any:
        if result is None:
            return None
        if output.dataset_type == POINTS:
            if not is_data_frame(result):
                raise TileError(f"{self._returned(result)}, a DataFrame for {output.path} expected")
            return result
        if isinstance(result, CarsDict):
            return result
        if not isinstance(result, Mapping):
            raise TileError(f"{self._returned(result)}, a dictionary for {output.path} expected")
        return CarsDict(result)

    def _returned(self, result: Any) -> str:
        return f"{self.call.name} returned {type(result).__name__}"


@dataclass(frozen=True, kw_only=True)
class PartialTask:
    """Calls a function for a tile; its result may be any object.

    Parameters
    ----------
    call : TileCall
        The function.
    region : Window
        What is computed.
    added : bool
        Whether its results are added up.
    """

    call: TileCall
    region: Window
    added: bool

    def __post_init__(self) -> None:
        _name(self, self.call)

    def __call__(self, window: Window) -> CarsDict | None:
        """Return the result for a window of the region; None for none.

        Raises
        ------
        TileError
            If it is to be added up, and has no sum.
        """
        result, _ = self.call.result(moved(window, self.region.row_min, self.region.col_min))
        if result is None:
            return None
        if self.added and not adds_up(result):
            raise TileError(
                f"{self.call.name} returned {type(result).__name__}, which does not add up; a"
                " function is expected as combine"
            )
        return CarsDict({PARTIAL: result})


def _name(task: TileTask | PartialTask, call: TileCall) -> None:
    """Name a task after its function: in messages and profiles, and for workers to import it."""
    object.__setattr__(task, "__qualname__", call.name)
    object.__setattr__(task, "__module__", getattr(call.function, "__module__", __name__))
