"""Tiles on two dask workers, taken as they come: ``WHO SHAPE TILES FOLDER``."""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from benchmarks.orchestrator.measure import tell
from benchmarks.orchestrator.tiles import TAG, noise, smooth

WARM_UP_TILES: Final = 50
CHAINS: Final = "chains"
"""Two tasks a tile; the other shape is one."""

Seconds = float


def plain(shape: str, tiles: int, folder: Path) -> tuple[Seconds, float]:
    """Have distributed do it, as its users write it."""
    from distributed import Client, LocalCluster  # noqa: PLC0415 - this side alone

    local = LocalCluster(  # type: ignore[no-untyped-call]
        n_workers=2, threads_per_worker=1, dashboard_address=None, local_directory=str(folder)
    )
    with local, Client(local) as client:  # type: ignore[no-untyped-call]
        _plain_tiles(client, shape, range(-WARM_UP_TILES, 0))
        begun = time.perf_counter()
        found = _plain_tiles(client, shape, range(tiles))
        return time.perf_counter() - begun, found


def _plain_tiles(client: Any, shape: str, seeds: range) -> float:
    from distributed import as_completed  # noqa: PLC0415

    wanted = client.map(noise, [abs(seed) for seed in seeds], pure=False)
    if shape == CHAINS:
        wanted = client.map(smooth, wanted, [{}] * len(seeds), pure=False)
    came = as_completed(wanted, with_results=True)  # type: ignore[no-untyped-call]
    del wanted
    return sum(float(tile[TAG][0, 0]) for _, tile in came)


def with_batuta(shape: str, tiles: int, folder: Path) -> tuple[Seconds, float]:
    """Have a cluster do it, with the default configuration."""
    from batuta.cluster import check_configuration, create_cluster  # noqa: PLC0415

    cluster = create_cluster(check_configuration({"mode": "local_dask"}), folder)
    try:
        _batuta_tiles(cluster, shape, range(-WARM_UP_TILES, 0))
        begun = time.perf_counter()
        found = _batuta_tiles(cluster, shape, range(tiles))
        return time.perf_counter() - begun, found
    finally:
        cluster.cleanup()


def _batuta_tiles(cluster: Any, shape: str, seeds: range) -> float:
    wanted = [cluster.create_task(noise)(abs(seed)) for seed in seeds]
    if shape == CHAINS:
        wanted = [cluster.create_task(smooth)(each, {}) for each in wanted]
    tiles = cluster.future_iterator(cluster.start_tasks(wanted))
    return sum(float(tile[TAG][0, 0]) for tile in tiles)


SIDES: Final[dict[str, Callable[[str, int, Path], tuple[Seconds, float]]]] = {
    "distributed": plain,
    "batuta": with_batuta,
}


if __name__ == "__main__":
    who, of_shape, count, where = sys.argv[1:]
    took_s, total = SIDES[who](of_shape, int(count), Path(where))
    tell(time_s=took_s, total=round(total, 2))
