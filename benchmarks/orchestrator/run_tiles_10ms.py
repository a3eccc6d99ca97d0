"""Tiles of 10 ms of processor time, saved to one GeoTIFF, end to end: ``MODE TILES FOLDER``."""

import sys
import time
from pathlib import Path
from typing import Any, Final

import xarray as xr

from batuta.datasets import CarsDataset
from batuta.orchestrator import Event, Orchestrator, RunStarted, TileDone
from benchmarks.orchestrator.grids import TILES_PER_ROW
from benchmarks.orchestrator.measure import tell
from benchmarks.orchestrator.memory import Peak
from benchmarks.orchestrator.tiles import TAG, noise, spin

TILE_S: Final = 0.01
SIDE_PX: Final = 64


def tile_of_10_ms(seed: int, attributes: dict[str, Any]) -> xr.Dataset:
    """Compute for 10 ms."""
    spin(TILE_S)
    tile = noise(seed, SIDE_PX)
    tile.attrs.update(attributes)
    return tile


class FirstTile:
    """Notes when the first tile came: what was started by then is not what tiles cost."""

    def __init__(self) -> None:
        self.at = 0.0

    def on_event(self, event: Event) -> None:
        """Take an event."""
        if isinstance(event, RunStarted):
            self.at = 0.0
        elif isinstance(event, TileDone) and not self.at:
            self.at = time.perf_counter()


def run(conf: dict[str, Any], tiles: int, path: Path) -> tuple[float, float]:
    """Make the raster; give the time in all, and from the first tile on."""
    first = FirstTile()
    begun = time.perf_counter()
    with Orchestrator(conf, path.parent, observers=[first]) as orchestrator:
        dataset = CarsDataset("arrays", name=TAG)
        rows = -(-tiles // TILES_PER_ROW)
        dataset.create_grid(TILES_PER_ROW * SIDE_PX, rows * SIDE_PX, SIDE_PX, SIDE_PX)
        create_task = orchestrator.cluster.create_task
        for row, col in dataset.positions():
            attributes = {"window": dataset.get_window_as_dict(row, col)}
            dataset[row, col] = create_task(tile_of_10_ms)(row * TILES_PER_ROW + col, attributes)
        orchestrator.add_to_save_lists(path, TAG, dataset)
        orchestrator.breakpoint()
        running_s = time.perf_counter() - first.at
    return time.perf_counter() - begun, running_s


if __name__ == "__main__":
    mode, count, where = sys.argv[1:]
    keys = {"account": "bench"} if mode == "slurm_dask" else {}
    with Peak(whole_tree=False) as peak:
        in_all_s, from_first_s = run({"mode": mode, **keys}, int(count), Path(where) / "tiles.tif")
    tell(time_s=in_all_s, running_s=from_first_s, peak_bytes=peak.bytes)
