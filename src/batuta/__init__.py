"""Batuta conducts scientific processing, from the arrival of data to the archived product."""

from typing import TYPE_CHECKING, Any

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


def __getattr__(name: str) -> Any:
    """Import `batuta.tiling` when something of it is first used: the services do without."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from batuta import tiling  # noqa: PLC0415

    return getattr(tiling, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
