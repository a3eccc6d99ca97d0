"""8192 x 8192 pixels in tiles of 1024 through three steps: time against its parts, and memory.

Run with ``batuta|memory|computing|writing FOLDER``, it runs one side and prints the time, or the
memory.
"""

import multiprocessing
import multiprocessing.synchronize
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import xarray as xr

from batuta.datasets import CarsDataset
from batuta.orchestrator import Orchestrator
from benchmarks.orchestrator.support.grids import PlainRaster, fingerprint, windows
from benchmarks.orchestrator.support.tiles import TAG, gradient, shade, terrain
from benchmarks.support.figures import Figure, Target
from benchmarks.support.measure import (
    FOLDER,
    Result,
    Subject,
    best,
    print_result,
    take_turns,
)
from benchmarks.support.processes import Peak, tree_bytes

SIZE_PX: Final = 8192
SIDE_PX: Final = 1024
PER_ROW: Final = SIZE_PX // SIDE_PX
TILES: Final = PER_ROW**2
CONF: Final = {"mode": "multiprocessing", "nb_workers": 2}


def _work() -> Iterator[tuple[int, dict[str, Any]]]:
    for seed, window in enumerate(windows(TILES, SIDE_PX, PER_ROW)):
        yield seed, {"window": window}


def _tile(seed: int, attributes: dict[str, Any]) -> xr.Dataset:
    return shade(gradient(terrain(seed, SIDE_PX)), attributes)


def _half(index: int, ready: multiprocessing.synchronize.Barrier) -> None:
    shade(gradient(terrain(0, 16)), {})  # first use of libraries
    ready.wait()
    for seed, attributes in list(_work())[index::2]:
        _tile(seed, attributes)


def computing_alone(folder: Path) -> None:  # noqa: ARG001 - called as the other sides are
    """Run the same tasks in two plain processes, dropping the results."""
    ready = multiprocessing.Barrier(3)
    halves = [multiprocessing.Process(target=_half, args=(index, ready)) for index in range(2)]
    for half in halves:
        half.start()
    ready.wait()
    begun = time.perf_counter()
    for half in halves:
        half.join()
    print_result(time_s=time.perf_counter() - begun)


def writing_alone(folder: Path) -> None:
    """Write one tile 64 times, in one process."""
    tiles = [_tile(seed, attributes) for seed, attributes in list(_work())[:4]]
    path = folder / "shade.tif"
    begun = time.perf_counter()
    raster = PlainRaster(path, SIZE_PX, SIZE_PX)
    for seed, attributes in _work():
        tile = tiles[seed % len(tiles)]
        tile.attrs = attributes
        raster.write(tile)
    raster.close()
    print_result(time_s=time.perf_counter() - begun)


def declare(orchestrator: Orchestrator, path: Path, side_px: int, per_row: int) -> CarsDataset:
    """Declare the three steps of each tile, the last of which is saved."""
    dataset = CarsDataset("arrays", name="shade")
    dataset.create_grid(side_px * per_row, side_px * per_row, side_px, side_px)
    create_task = orchestrator.cluster.create_task
    for row, col in dataset.positions():
        heights = create_task(terrain)(row * per_row + col, side_px)
        attributes = {"window": dataset.get_window_as_dict(row, col)}
        dataset[row, col] = create_task(shade)(create_task(gradient)(heights), attributes)
    orchestrator.add_to_save_lists(path, TAG, dataset)
    return dataset


def with_batuta(folder: Path, *, watching: bool = False) -> None:
    """Run all on Batuta, with `watching` sampling its memory, which takes time."""
    path = folder / "shade.tif"
    created = time.perf_counter()
    with Orchestrator(CONF, folder) as orchestrator:
        # A small product first, so that workers have started and imported libraries.
        _ = declare(orchestrator, folder / "small.tif", 256, 4)
        orchestrator.breakpoint()
        idle = tree_bytes()
        begun = time.perf_counter()
        _ = declare(orchestrator, path, SIDE_PX, PER_ROW)
        if watching:
            with Peak(whole_tree=True) as peak:
                orchestrator.breakpoint()
            print_result(idle_bytes=idle, peak_bytes=peak.bytes)
            return
        orchestrator.breakpoint()
        time_s = time.perf_counter() - begun
    in_all_s = time.perf_counter() - created
    print_result(time_s=time_s, in_all_s=in_all_s, pixels=fingerprint(path))


def with_batuta_watched(folder: Path) -> None:
    """Run all on Batuta, sampling its memory."""
    with_batuta(folder, watching=True)


SIDES: Final[dict[str, Callable[[Path], None]]] = {
    "batuta": with_batuta,
    "memory": with_batuta_watched,
    "computing": computing_alone,
    "writing": writing_alone,
}


TILE_BYTES = 4 * 1024 * 1024
TILES_IN_MEMORY = 4 * 2
MB = 1e6


def figures(*, quick: bool) -> list[Figure]:
    """Compare with computing alone and writing alone, and with the memory of the tiles."""
    subjects = {
        side: Subject("large", (side, FOLDER))
        for side in ("batuta", "computing", "writing", "memory")
    }
    results = take_turns(subjects, 2 if quick else 5)
    alone_s = {side: best(results[side]) for side in ("computing", "writing")}
    slower = max(alone_s, key=alone_s.__getitem__)
    own_s, in_all_s = best(results["batuta"]), best(results["batuta"], "in_all_s")
    parts = ", ".join(f"{side} alone: {time_s:.2f} s" for side, time_s in alone_s.items())
    return [
        Figure(
            what="8192 x 8192 through three steps, workers there",
            measured=f"{own_s:.2f} s",
            against=parts,
            ratio=own_s / alone_s[slower],
            target=Target("at most", 1.3),
        ),
        Figure(
            what="the same, in all",
            measured=f"{in_all_s:.2f} s",
            against=f"{slower} alone: {alone_s[slower]:.2f} s",
            ratio=in_all_s / alone_s[slower],
        ),
        _memory(results["memory"]),
    ]


def _memory(results: list[Result]) -> Figure:
    least = min(results, key=lambda result: float(result["peak_bytes"]))
    idle, peak = float(least["idle_bytes"]), float(least["peak_bytes"])
    allowed = idle + TILES_IN_MEMORY * TILE_BYTES
    return Figure(
        what="its memory, all processes",
        measured=f"{peak / MB:.0f} MB",
        against=f"interpreters {idle / MB:.0f} MB + 4 tiles a worker: {allowed / MB:.0f} MB",
        ratio=peak / allowed,
        target=Target("at most", 1),
    )


if __name__ == "__main__":
    SIDES[sys.argv[1]](Path(sys.argv[2]))
