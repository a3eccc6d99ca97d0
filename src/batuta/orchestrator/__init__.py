"""Making one product, tile by tile."""

from batuta.orchestrator.errors import TileFailure, TilesFailedError
from batuta.orchestrator.events import (
    Event,
    Observer,
    Progress,
    RunEnded,
    RunStarted,
    TileDone,
    TileFailed,
    TileOutcome,
    TileRetried,
)
from batuta.orchestrator.orchestrator import Orchestrator, flatten_object, update_saving_infos
from batuta.orchestrator.registry import CarsDatasetRegistry
from batuta.orchestrator.saver import SingleCarsDatasetSaver

__all__ = [
    "CarsDatasetRegistry",
    "Event",
    "Observer",
    "Orchestrator",
    "Progress",
    "RunEnded",
    "RunStarted",
    "SingleCarsDatasetSaver",
    "TileDone",
    "TileFailed",
    "TileFailure",
    "TileOutcome",
    "TileRetried",
    "TilesFailedError",
    "flatten_object",
    "update_saving_infos",
]
