"""Many tiles on dask, and what the main process holds for them: ``TILES FOLDER``."""

import sys
import time
from pathlib import Path

from batuta.datasets import CarsDataset
from batuta.orchestrator import Orchestrator
from benchmarks.orchestrator.measure import tell
from benchmarks.orchestrator.memory import Peak, own_bytes
from benchmarks.orchestrator.tiles import nothing

WARM_UP_TILES = 300


def compute(orchestrator: Orchestrator, tiles: int) -> tuple[int, int]:
    """Compute tiles; give what their declaration holds, and the most that running adds to it."""
    before = own_bytes()
    dataset = CarsDataset("dict", name="nothing")
    dataset.create_grid(100, tiles // 100, 1, 1)
    for row, col in dataset.positions():
        dataset[row, col] = orchestrator.cluster.create_task(nothing)()
    declared = own_bytes()
    with Peak(whole_tree=False) as peak:
        orchestrator.add_to_compute_lists(dataset)
        orchestrator.breakpoint()
    return declared - before, peak.bytes - declared


if __name__ == "__main__":
    count, folder = sys.argv[1:]
    with Orchestrator({"mode": "local_dask"}, Path(folder)) as running:
        compute(running, WARM_UP_TILES)
        begun = time.perf_counter()
        declared_bytes, added_bytes = compute(running, int(count))
        took_s = time.perf_counter() - begun
    tell(time_s=took_s, declared_bytes=declared_bytes, added_bytes=added_bytes)
