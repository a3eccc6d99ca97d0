"""The memory of the main process on dask, whose scheduler it also runs.

Run with ``TILES FOLDER``, it computes empty tiles and prints the memory that they took.
"""

import sys
import time
from pathlib import Path

from batuta.datasets import CarsDataset
from batuta.orchestrator import Orchestrator
from benchmarks.orchestrator.support.tiles import nothing
from benchmarks.support.figures import Figure
from benchmarks.support.measure import FOLDER, Subject, print_result, take_turns
from benchmarks.support.processes import Peak, own_bytes

WARM_UP_TILES = 300


def compute(orchestrator: Orchestrator, tiles: int) -> tuple[int, int]:
    """Compute tiles; return the bytes that declaring them took, and the most that running added."""
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


MB = 1e6


def figures(*, quick: bool) -> list[Figure]:
    """Compare what running adds to the memory of the main process, from few tiles to many."""
    sizes = (1000, 10_000) if quick else (1000, 10_000, 100_000)
    subjects = {
        str(tiles): Subject("dask_memory", (str(tiles), FOLDER), turns=1) for tiles in sizes
    }
    results = take_turns(subjects, 1)
    lines = []
    first = results[str(sizes[0])][0]
    for tiles in sizes:
        (result,) = results[str(tiles)]
        lines.append(
            Figure(
                what=f"local_dask: main process, {tiles:,} empty tiles",
                measured=f"{result['added_bytes'] / MB:.1f} MB while running"
                f" ({result['time_s'] / tiles * 1e3:.2f} ms a tile)",
                against=f"declared: {result['declared_bytes'] / MB:.1f} MB;"
                f" {sizes[0]:,} tiles: {first['added_bytes'] / MB:.1f} MB",
                ratio=result["added_bytes"] / max(first["added_bytes"], 1),
            )
        )
    return lines


if __name__ == "__main__":
    count, folder = sys.argv[1:]
    with Orchestrator({"mode": "local_dask"}, Path(folder)) as running:
        compute(running, WARM_UP_TILES)
        begun = time.perf_counter()
        declared_bytes, added_bytes = compute(running, int(count))
        took_s = time.perf_counter() - begun
    print_result(time_s=took_s, declared_bytes=declared_bytes, added_bytes=added_bytes)
