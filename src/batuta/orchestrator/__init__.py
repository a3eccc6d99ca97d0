"""Computes the products of a program tile by tile, and saves them."""

from batuta.orchestrator.errors import (
    DiskFullError,
    MissingVariableError,
    TileFailure,
    TilesFailedError,
)
from batuta.orchestrator.events import (
    Event,
    Observer,
    Progress,
    RunEnded,
    RunStarted,
    TileDone,
    TileFailed,
    TileKept,
    TileLayout,
    TileOutcome,
    TileRetried,
    TileStarted,
    WorkersPresent,
)
from batuta.orchestrator.orchestrator import Orchestrator, flatten_object, update_saving_infos
from batuta.orchestrator.registry import CarsDatasetRegistry
from batuta.orchestrator.saver import SingleCarsDatasetSaver

__all__ = [
    "CarsDatasetRegistry",
    "DiskFullError",
    "Event",
    "MissingVariableError",
    "Observer",
    "Orchestrator",
    "Progress",
    "RunEnded",
    "RunStarted",
    "SingleCarsDatasetSaver",
    "TileDone",
    "TileFailed",
    "TileFailure",
    "TileKept",
    "TileLayout",
    "TileOutcome",
    "TileRetried",
    "TileStarted",
    "TilesFailedError",
    "WorkersPresent",
    "flatten_object",
    "update_saving_infos",
]
