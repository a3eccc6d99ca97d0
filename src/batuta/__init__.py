"""Batuta conducts scientific processing, from the arrival of data to the archived product."""

from typing import TYPE_CHECKING

from batuta.lazy_exports import lazy_exports

if TYPE_CHECKING:
    from batuta.tiling import (
        MappedTiles,
        Percentiles,
        Statistics,
        TiledOutput,
        TilePlace,
        map_tiles,
        reduce_tiles,
    )

__version__ = "0.1.0"

__all__ = [
    "MappedTiles",
    "Percentiles",
    "Statistics",
    "TilePlace",
    "TiledOutput",
    "__version__",
    "map_tiles",
    "reduce_tiles",
]


# The services do without.
__getattr__ = lazy_exports(
    __name__, {name: "batuta.tiling" for name in __all__ if name != "__version__"}
)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
