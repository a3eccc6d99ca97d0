"""What a task costs on `local_dask`, against distributed alone.

Run with ``distributed|batuta one|chains TILES FOLDER``, it computes tiles on two workers and prints
the time.
"""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from benchmarks.orchestrator.support.tiles import TAG, noise, smooth
from benchmarks.support.figures import Figure, Target
from benchmarks.support.measure import FOLDER, Subject, best, print_result, take_turns

WARM_UP_TILES: Final = 50
CHAINS: Final = "chains"
"""Two tasks a tile; the other shape is one."""

Seconds = float


def plain(shape: str, tiles: int, folder: Path) -> tuple[Seconds, float]:
    """Compute them on distributed, as its users write it."""
    from distributed import Client, LocalCluster  # noqa: PLC0415 - this side alone

    local = LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=None, local_directory=str(folder)
    )
    with local, Client(local) as client:
        _plain_tiles(client, shape, range(-WARM_UP_TILES, 0))
        begun = time.perf_counter()
        found = _plain_tiles(client, shape, range(tiles))
        return time.perf_counter() - begun, found


def _plain_tiles(client: Any, shape: str, seeds: range) -> float:
    from distributed import as_completed  # noqa: PLC0415

    wanted = client.map(noise, [abs(seed) for seed in seeds], pure=False)
    if shape == CHAINS:
        wanted = client.map(smooth, wanted, [{}] * len(seeds), pure=False)
    completed = as_completed(wanted, with_results=True)
    del wanted
    return sum(float(tile[TAG][0, 0]) for _, tile in completed)


def with_batuta(shape: str, tiles: int, folder: Path) -> tuple[Seconds, float]:
    """Compute them on a cluster, with the default configuration."""
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


SHAPES = {"one": "of one task", "chains": "of two-step chains"}


def figures(*, quick: bool) -> list[Figure]:
    """Compare with distributed alone, on the same graph: tiles of 256 x 256, read as they come."""
    tiles = 500 if quick else 2000
    subjects = {
        f"{side} {shape}": Subject("dask", (side, shape, str(tiles), FOLDER))
        for shape in SHAPES
        for side in ("batuta", "distributed")
    }
    results = take_turns(subjects, 2 if quick else 5)
    lines = []
    for shape, words in SHAPES.items():
        own, other = results[f"batuta {shape}"], results[f"distributed {shape}"]
        if len({each["total"] for each in own + other}) > 1:
            raise RuntimeError(f"the tiles differ: {own} {other}")
        own_ms, other_ms = (best(each) / tiles * 1e3 for each in (own, other))
        lines.append(
            Figure(
                what=f"local_dask: a tile {words}, running",
                measured=f"{own_ms:.3f} ms",
                against=f"distributed: {other_ms:.3f} ms",
                ratio=own_ms / other_ms,
                target=Target("at most", 1.1),
            )
        )
    return lines


if __name__ == "__main__":
    who, of_shape, count, where = sys.argv[1:]
    took_s, total = SIDES[who](of_shape, int(count), Path(where))
    print_result(time_s=took_s, total=round(total, 2))
