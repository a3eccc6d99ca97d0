"""Two-step chains of 256 x 256 tiles saved to one GeoTIFF: ``WHO TILES FOLDER``."""

import importlib
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

from benchmarks.orchestrator.grids import TILES_PER_ROW, PlainRaster, fingerprint, windows
from benchmarks.orchestrator.measure import tell
from benchmarks.orchestrator.tiles import TAG, noise, smooth

SIDE_PX: Final = 256


def bare(tiles: int, path: Path) -> None:
    """Do the work in a plain loop."""
    raster = _raster(tiles, path)
    for seed, window in enumerate(windows(tiles, SIDE_PX)):
        raster.write(smooth(noise(seed), {"window": window}))
    raster.close()


def with_distributed(tiles: int, path: Path) -> None:
    """Have distributed do it, and write what comes."""
    from distributed import Client, LocalCluster, as_completed  # noqa: PLC0415 - this side alone

    local = LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None)  # type: ignore[no-untyped-call]
    with local, Client(local) as client:  # type: ignore[no-untyped-call]
        raster = _raster(tiles, path)
        made = client.map(noise, range(tiles), pure=False)
        attributes = [{"window": window} for window in windows(tiles, SIDE_PX)]
        wanted = client.map(smooth, made, attributes, pure=False)
        came = as_completed(wanted, with_results=True)  # type: ignore[no-untyped-call]
        del made, wanted
        for _, tile in came:
            raster.write(tile)
        raster.close()


def with_batuta(tiles: int, path: Path, **keys: int) -> None:
    """Have an orchestrator do it, with the default configuration but for `keys`."""
    from batuta.datasets import CarsDataset  # noqa: PLC0415 - this side alone
    from batuta.orchestrator import Orchestrator  # noqa: PLC0415

    conf = {"mode": "multiprocessing", "nb_workers": 2, **keys}
    with Orchestrator(conf, path.parent) as orchestrator:
        dataset = CarsDataset("arrays", name=TAG)
        rows = -(-tiles // TILES_PER_ROW)
        dataset.create_grid(TILES_PER_ROW * SIDE_PX, rows * SIDE_PX, SIDE_PX, SIDE_PX)
        create_task = orchestrator.cluster.create_task
        for row, col in dataset.positions():
            made = create_task(noise)(row * TILES_PER_ROW + col)
            attributes = {"window": dataset.get_window_as_dict(row, col)}
            dataset[row, col] = create_task(smooth)(made, attributes)
        orchestrator.add_to_save_lists(path, TAG, dataset)


def _raster(tiles: int, path: Path) -> PlainRaster:
    return PlainRaster(path, -(-tiles // TILES_PER_ROW) * SIDE_PX, TILES_PER_ROW * SIDE_PX)


SIDES: Final[dict[str, tuple[str, Callable[[int, Path], None]]]] = {
    "bare": ("rasterio", bare),
    "distributed": ("distributed", with_distributed),
    "batuta": ("batuta.orchestrator", with_batuta),
    "kept": ("batuta.orchestrator", partial(with_batuta, max_tasks_per_worker=1_000_000)),
}


if __name__ == "__main__":
    who, count, folder = sys.argv[1:]
    needed, side = SIDES[who]
    importlib.import_module(needed)  # imports are measured elsewhere
    begun = time.perf_counter()
    side(int(count), Path(folder) / "height.tif")
    took_s = time.perf_counter() - begun
    tell(time_s=took_s, pixels=fingerprint(Path(folder) / "height.tif"))
