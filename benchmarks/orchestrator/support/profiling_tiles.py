"""The tasks of the profiling benchmark; importing them also applies `profiling_off` in workers."""

from typing import Any, Final

import xarray as xr

from batuta.datasets import CarsDict
from benchmarks.orchestrator.support import profiling_off  # noqa: F401 - acts when it is imported
from benchmarks.orchestrator.support.tiles import noise, spin

SHORT_S: Final = 0.001
"""Long enough for the memory of a task to be read."""
TILE_S: Final = 0.01
SIDE_PX: Final = 64


# Each takes the same processor time however busy the machine is: the rest of a run's time is what
# running and measuring them costs.


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
