"""What a task costs: two-step chains of 256 x 256 float32 tiles, saved to one GeoTIFF.

``python benchmarks/bench_tasks.py [TILES]`` compares, in one run, each configuration with a bare
loop in one process that does the same work and writes the same file. Every time is the best of
three runs and counts everything: starting the workers, computing, saving, cleaning up. The last
rows give the cost once the workers run: the slope between two sizes.
"""

import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import xarray as xr
from rasterio.windows import Window

from batuta.datasets import CarsDataset, fill_dataset
from batuta.orchestrator import Orchestrator

TILE_PX = 256
REPEATS = 3
CONFIGURATIONS: dict[str, dict[str, Any]] = {
    "defaults, 2 workers": {},
    "workers not renewed": {"max_tasks_per_worker": 1_000_000},
    "not renewed, not fused": {"max_tasks_per_worker": 1_000_000, "factorize_tasks": False},
    "not renewed, in memory": {"max_tasks_per_worker": 1_000_000, "dump_to_disk": False},
}


def make(seed: int) -> xr.Dataset:
    """First step: a tile of noise."""
    values = np.random.default_rng(seed).random((TILE_PX, TILE_PX), dtype=np.float32)
    return xr.Dataset({"height": (("row", "col"), values)})


def smooth(tile: xr.Dataset, window: dict[str, int]) -> xr.Dataset:
    """Second step: a mean over neighbours."""
    values = tile["height"].to_numpy()
    mean = (values + np.roll(values, 1, axis=0) + np.roll(values, 1, axis=1)) / 3
    result = xr.Dataset({"height": (("row", "col"), mean)})
    fill_dataset(result, window=window)
    return result


def grid(tiles: int) -> CarsDataset:
    """Give a grid of `tiles` tiles, 32 a row."""
    dataset = CarsDataset("arrays", name="height")
    dataset.create_grid(32 * TILE_PX, -(-tiles // 32) * TILE_PX, TILE_PX, TILE_PX)
    return dataset


def bare_loop(tiles: int, folder: Path) -> None:
    """Do the same work with nothing around it."""
    dataset = grid(tiles)
    rows, cols = dataset.shape
    profile = {
        "driver": "GTiff",
        "height": rows * TILE_PX,
        "width": cols * TILE_PX,
        "count": 1,
        "dtype": "float32",
        "tiled": True,
        "blockxsize": TILE_PX,
        "blockysize": TILE_PX,
        "transform": rasterio.Affine.translation(0, 0) * rasterio.Affine.scale(2),
    }
    with rasterio.open(folder / "bare.tif", "w", **profile) as raster:
        for row, col in dataset.positions():
            tile = smooth(make(row * cols + col), dataset.get_window_as_dict(row, col))
            window = Window(col * TILE_PX, row * TILE_PX, TILE_PX, TILE_PX)
            raster.write(tile["height"].to_numpy(), 1, window=window)


def orchestrated(conf: dict[str, Any], tiles: int, folder: Path) -> None:
    """Do the work with an orchestrator."""
    with Orchestrator(conf, folder) as orchestrator:
        dataset = grid(tiles)
        create_task = orchestrator.cluster.create_task
        for row, col in dataset.positions():
            made = create_task(make)(row * dataset.shape[1] + col)
            window = dataset.get_window_as_dict(row, col)
            dataset[row, col] = create_task(smooth)(made, window)
        orchestrator.add_to_save_lists(folder / "height.tif", "height", dataset)


def best_time_s(work: Callable[[int, Path], None], tiles: int) -> float:
    """Time `work`, the best of a few runs, each in an empty folder."""
    times = []
    for _ in range(REPEATS):
        folder = Path(tempfile.mkdtemp(prefix="bench-tasks-"))
        begun = time.perf_counter()
        work(tiles, folder)
        times.append(time.perf_counter() - begun)
        shutil.rmtree(folder)
    return min(times)


def main() -> None:
    """Print the table."""
    tiles = int(sys.argv[1]) if len(sys.argv) > 1 else 1024
    works: dict[str, Callable[[int, Path], None]] = {
        "bare loop, 1 process": bare_loop,
        "sequential": lambda n, folder: orchestrated({"mode": "sequential"}, n, folder),
    }
    for name, keys in CONFIGURATIONS.items():
        conf = {"mode": "multiprocessing", "nb_workers": 2, **keys}
        works[name] = lambda n, folder, conf=conf: orchestrated(conf, n, folder)  # type: ignore[misc]
    print(f"{tiles} tiles, two tasks each; ms per task")
    print(f"{'':24} {'in all':>8} {'ratio':>7}   {'slope':>8} {'ratio':>7}")
    reference: tuple[float, float] | None = None
    for name, work in works.items():
        small, large = best_time_s(work, tiles // 2), best_time_s(work, tiles)
        costs = large / tiles / 2 * 1e3, (large - small) / tiles * 1e3
        reference = reference or costs
        print(
            f"{name:24} {costs[0]:8.3f} {costs[0] / reference[0]:7.2f}"
            f"   {costs[1]:8.3f} {costs[1] / reference[1]:7.2f}"
        )


if __name__ == "__main__":
    main()
