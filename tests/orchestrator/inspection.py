"""What the tests inspect: events, files and manifests."""

import json
from pathlib import Path
from typing import Any

import rasterio

from batuta.datasets import CarsDataset
from batuta.orchestrator import Event, Progress

PRODUCTS = ("map.tif", "mask.tif", "points.parquet", "points.csv")


class EventRecorder:
    """An observer that records events."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def on_event(self, event: Event) -> None:
        self.events.append(event)

    def of(self, kind: type[Any]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]

    def count(self, kind: type[Any]) -> int:
        return len(self.of(kind))

    @property
    def progress(self) -> Progress:
        progress = Progress()
        for event in self.events:
            progress = progress.after(event)
        return progress


def raster(path: Path, band: int = 1) -> Any:
    with rasterio.open(path) as dataset:
        return dataset.read(band)


def manifest(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Path(f"{path}.manifest.json").read_text())
    return found


def one_tile(dataset_type: str) -> CarsDataset:
    dataset = CarsDataset(dataset_type, name="one")
    dataset.create_grid(4, 4, 4, 4)
    return dataset


def two_tiles() -> CarsDataset:
    dataset = CarsDataset("dict", name="two")
    dataset.create_grid(2, 1, 1, 1)
    return dataset
