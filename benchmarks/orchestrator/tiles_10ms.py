"""Thousands of tiles of 10 ms, saved to one GeoTIFF: how near to what the cores can do.

Run with ``MODE TILES FOLDER``, it makes the GeoTIFF and prints the time.
"""

import os
import sys
import time
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final
from unittest.mock import patch

import xarray as xr

from batuta.datasets import CarsDataset
from batuta.orchestrator import Event, Orchestrator, RunStarted, TileDone
from benchmarks.orchestrator.support.grids import TILES_PER_ROW
from benchmarks.orchestrator.support.tiles import TAG, noise, spin
from benchmarks.support.figures import Figure, not_measured
from benchmarks.support.measure import FOLDER, Subject, best, print_result, take_turns
from benchmarks.support.processes import Peak
from tools.slurm import INSTALL, LocalSlurm, missing_programs

TILE_S: Final = 0.01
SIDE_PX: Final = 64


def tile_of_10_ms(seed: int, attributes: dict[str, Any]) -> xr.Dataset:
    """Compute for 10 ms."""
    spin(TILE_S)
    tile = noise(seed, SIDE_PX)
    tile.attrs.update(attributes)
    return tile


class FirstTile:
    """Records when the first tile was done: starting workers is no cost of tiles."""

    def __init__(self) -> None:
        self.at = 0.0

    def on_event(self, event: Event) -> None:
        """Record the time of the first `TileDone`."""
        if isinstance(event, RunStarted):
            self.at = 0.0
        elif isinstance(event, TileDone) and not self.at:
            self.at = time.perf_counter()


def run(conf: dict[str, Any], tiles: int, path: Path) -> tuple[float, float]:
    """Make the raster; return the time in all, and from the first tile on."""
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


WORKERS = 2
WHAT = "tiles of 10 ms, end to end"


def figures(*, quick: bool) -> list[Figure]:
    """Compare two workers with the time that the tiles take on two cores."""
    tiles = 500 if quick else 5000
    lines = []
    for mode in ("multiprocessing", "local_dask", "slurm_dask"):
        if mode == "slurm_dask" and missing_programs():
            lines.append(not_measured(f"{mode}: {tiles} {WHAT}", INSTALL))
            continue
        lines += _measure(mode, tiles, 1 if quick else 3)
    return lines


def _measure(mode: str, tiles: int, turns: int) -> list[Figure]:
    with TemporaryDirectory(prefix="bench-") as folder, _environment(mode, Path(folder)):
        subject = Subject("tiles_10ms", (mode, str(tiles), FOLDER))
        results = take_turns({mode: subject}, turns)[mode]
    ideal_s = tiles * TILE_S / WORKERS
    parts = {"time_s": WHAT, "running_s": "the same, from the first tile on"}
    return [
        Figure(
            what=f"{mode}: {tiles} {words}",
            measured=f"{best(results, key):.2f} s",
            against=f"two cores: {ideal_s:.2f} s",
            ratio=best(results, key) / ideal_s,
        )
        for key, words in parts.items()
    ]


def _environment(mode: str, folder: Path) -> AbstractContextManager[object]:
    """Run a Slurm while `slurm_dask` is measured."""
    if mode != "slurm_dask":
        return nullcontext()
    return _Slurm(folder / "slurm")


class _Slurm:
    """A local Slurm, in the environment of the programs that this process starts."""

    def __init__(self, folder: Path) -> None:
        self._slurm = LocalSlurm(folder)
        self._patch = patch.dict(os.environ)

    def __enter__(self) -> None:
        self._slurm.start()
        self._patch.start()
        os.environ.update(self._slurm.environment)

    def __exit__(self, *_: object) -> None:
        self._patch.stop()
        self._slurm.stop()


if __name__ == "__main__":
    mode, count, where = sys.argv[1:]
    keys = {"account": "bench"} if mode == "slurm_dask" else {}
    with Peak(whole_tree=False) as peak:
        in_all_s, from_first_s = run({"mode": mode, **keys}, int(count), Path(where) / "tiles.tif")
    print_result(time_s=in_all_s, running_s=from_first_s, peak_bytes=peak.bytes)
