"""The tasks that are profiled; their module takes measuring out of workers where asked to."""

from typing import Any, Final

import xarray as xr

from batuta.datasets import CarsDict
from benchmarks.orchestrator import profiling_off  # noqa: F401 - acts when it is imported
from benchmarks.orchestrator.tiles import noise, spin

SHORT_S: Final = 0.001
"""Long enough for memory to be looked at."""
TILE_S: Final = 0.01
SIDE_PX: Final = 64


# Each takes the same processor time whoever else uses the machine: what is left is what it costs
# to have it run.


def begun(seed: int) -> int:
    """Compute for 1 ms, the first task of a pair."""
    spin(SHORT_S)
    return seed


def ended(seed: int) -> CarsDict:
    """Compute for 1 ms, the second."""
    spin(SHORT_S)
    return CarsDict({"seed": seed})


def spun(seed: int, attributes: dict[str, Any]) -> xr.Dataset:
    """Compute for 10 ms."""
    spin(TILE_S)
    tile = noise(seed, SIDE_PX)
    tile.attrs.update(attributes)
    return tile
