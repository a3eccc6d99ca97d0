"""8192 x 8192 pixels in tiles of 1024 through three steps: ``WHO FOLDER``."""

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
from benchmarks.orchestrator.grids import PlainRaster, fingerprint, windows
from benchmarks.orchestrator.measure import tell
from benchmarks.orchestrator.memory import Peak, tree_bytes
from benchmarks.orchestrator.tiles import TAG, gradient, shade, terrain

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
    shade(gradient(terrain(0, 16)), {})  # what libraries do when first used
    ready.wait()
    for seed, attributes in list(_work())[index::2]:
        _tile(seed, attributes)


def computing_alone(folder: Path) -> None:  # noqa: ARG001 - called as the other sides are
    """Run the same tasks in two plain processes and drop the results."""
    ready = multiprocessing.Barrier(3)
    halves = [multiprocessing.Process(target=_half, args=(index, ready)) for index in range(2)]
    for half in halves:
        half.start()
    ready.wait()
    begun = time.perf_counter()
    for half in halves:
        half.join()
    tell(time_s=time.perf_counter() - begun)


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
    tell(time_s=time.perf_counter() - begun)


def declared(orchestrator: Orchestrator, path: Path, side_px: int, per_row: int) -> CarsDataset:
    """Declare the three steps of each tile and have the last one saved."""
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
    """Have an orchestrator do it; `watching` its memory, which takes time."""
    path = folder / "shade.tif"
    created = time.perf_counter()
    with Orchestrator(CONF, folder) as orchestrator:
        # A small product first: workers have started, libraries are in use.
        _ = declared(orchestrator, folder / "small.tif", 256, 4)
        orchestrator.breakpoint()
        idle = tree_bytes()
        begun = time.perf_counter()
        _ = declared(orchestrator, path, SIDE_PX, PER_ROW)
        if watching:
            with Peak(whole_tree=True) as peak:
                orchestrator.breakpoint()
            tell(idle_bytes=idle, peak_bytes=peak.bytes)
            return
        orchestrator.breakpoint()
        time_s = time.perf_counter() - begun
    in_all_s = time.perf_counter() - created
    tell(time_s=time_s, in_all_s=in_all_s, pixels=fingerprint(path))


def watched(folder: Path) -> None:
    """Have an orchestrator do it, and look at the memory."""
    with_batuta(folder, watching=True)


SIDES: Final[dict[str, Callable[[Path], None]]] = {
    "batuta": with_batuta,
    "memory": watched,
    "computing": computing_alone,
    "writing": writing_alone,
}


if __name__ == "__main__":
    SIDES[sys.argv[1]](Path(sys.argv[2]))
