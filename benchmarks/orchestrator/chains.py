"""What a task costs: two-step chains of tiles of 256 x 256, saved to one GeoTIFF.

Run with ``bare|distributed|batuta|kept|cars TILES FOLDER``, it makes the GeoTIFF and prints the
time; ``cars`` needs the Python of `make install-cars`.
"""

import importlib
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final

from benchmarks.orchestrator.support.grids import TILES_PER_ROW, PlainRaster, fingerprint, windows
from benchmarks.orchestrator.support.tiles import TAG, noise, smooth
from benchmarks.support.figures import Figure, Target, not_measured
from benchmarks.support.measure import (
    FOLDER,
    ROOT,
    Result,
    Subject,
    best,
    print_result,
    take_turns,
)

SIDE_PX: Final = 256


def with_cars(tiles: int, path: Path) -> None:
    """Run all on the orchestrator of CARS, with its default configuration."""
    from cars.data_structures.cars_dataset import CarsDataset  # noqa: PLC0415 - this side alone
    from cars.orchestrator.orchestrator import (  # noqa: PLC0415
        Orchestrator,
        update_saving_infos,
    )

    conf = {"mode": "multiprocessing", "nb_workers": 2}
    with Orchestrator(conf, out_dir=str(path.parent)) as orchestrator:
        dataset = CarsDataset("arrays", name=TAG)
        rows, cols = -(-tiles // TILES_PER_ROW), min(tiles, TILES_PER_ROW)
        dataset.create_grid(cols * SIDE_PX, rows * SIDE_PX, SIDE_PX, SIDE_PX, 0, 0)
        (info,) = orchestrator.get_saving_infos([dataset])
        orchestrator.add_to_save_lists(str(path), TAG, dataset)
        create_task = orchestrator.cluster.create_task
        for index in range(tiles):
            row, col = divmod(index, TILES_PER_ROW)
            attributes = {
                "window": dataset.get_window_as_dict(row, col),
                "saving_info": update_saving_infos(info, row=row, col=col),
            }
            dataset[row, col] = create_task(smooth)(create_task(noise)(index), attributes)


def bare(tiles: int, path: Path) -> None:
    """Run both steps and write in a plain loop."""
    raster = _raster(tiles, path)
    for seed, window in enumerate(windows(tiles, SIDE_PX)):
        raster.write(smooth(noise(seed), {"window": window}))
    raster.close()


def with_distributed(tiles: int, path: Path) -> None:
    """Run the steps on distributed, and write the results as they come."""
    from distributed import Client, LocalCluster, as_completed  # noqa: PLC0415 - this side alone

    local = LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None)
    with local, Client(local) as client:
        raster = _raster(tiles, path)
        made = client.map(noise, range(tiles), pure=False)
        attributes = [{"window": window} for window in windows(tiles, SIDE_PX)]
        wanted = client.map(smooth, made, attributes, pure=False)
        completed = as_completed(wanted, with_results=True)
        del made, wanted
        for _, tile in completed:
            raster.write(tile)
        raster.close()


def with_batuta(tiles: int, path: Path, **keys: int) -> None:
    """Run all on Batuta, with the default configuration but for `keys`."""
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


SIDES: Final[dict[str, tuple[Sequence[str], Callable[[int, Path], None]]]] = {
    "bare": (("rasterio",), bare),
    "distributed": (("distributed",), with_distributed),
    "batuta": (("batuta.orchestrator",), with_batuta),
    "kept": (
        ("batuta.orchestrator",),
        partial(with_batuta, max_tasks_per_worker=1_000_000),
    ),
    "cars": (("cars.data_structures.cars_dataset", "cars.orchestrator.orchestrator"), with_cars),
}


PEERS: Final = ROOT / ".venv-peers" / "bin" / "python"
TASKS_PER_TILE: Final = 2
WHAT: Final = "a task of two-step chains"


@dataclass(frozen=True)
class Cost:
    """What a task costs, in ms, with and without what starts and ends a run."""

    in_all: float
    running: float


def figures(*, quick: bool) -> list[Figure]:
    """Compare with a bare loop, distributed and CARS."""
    sizes = (256, 1024) if quick else (512, 2048)
    turns = 2 if quick else 5
    subjects = {
        f"{side} {tiles}": Subject("chains", (side, str(tiles), FOLDER))
        for tiles in sizes
        for side in ("batuta", "kept", "bare", "distributed")
    }
    few = (32, 64)  # a task takes a tenth of a second in CARS
    if PEERS.exists():
        for tiles in few:
            arguments = ("cars", str(tiles), FOLDER)
            subjects[f"cars {tiles}"] = Subject("chains", arguments, PEERS, turns=2)
    results = take_turns(subjects, turns)
    _check_same_pixels(results, sizes)
    own = _cost(results, "batuta", sizes)
    lines = [
        *_compared("CARS 1.3.0", own, _cost(results, "cars", few), at_least=100),
        *_compared("distributed", own, _cost(results, "distributed", sizes), at_least=3),
    ]
    bare = _cost(results, "bare", sizes)
    if bare is not None and own is not None:
        limit = Target("at most", 1.5)
        lines += [
            _line("a bare loop", "in all", own.in_all, bare.in_all, limit),
            _line("a bare loop", "running", own.running, bare.running, limit),
        ]
    kept = _cost(results, "kept", sizes)
    if bare is not None and kept is not None:
        lines.append(
            replace(
                _line("a bare loop", "running", kept.running, bare.running, limit),
                what=f"{WHAT}, running, workers not renewed",
                target=None,
            )
        )
    return lines


def _check_same_pixels(results: dict[str, list[Result]], sizes: Sequence[int]) -> None:
    for tiles in sizes:
        found = {
            result["pixels"]
            for name, each in results.items()
            for result in each
            if name.endswith(f" {tiles}")
        }
        if len(found) > 1:
            raise RuntimeError(f"the rasters of {tiles} tiles differ: {results}")


def _cost(results: dict[str, list[Result]], side: str, sizes: Sequence[int]) -> Cost | None:
    if f"{side} {sizes[0]}" not in results:
        return None
    small_s, large_s = (best(results[f"{side} {tiles}"]) for tiles in sizes)
    tasks = [tiles * TASKS_PER_TILE for tiles in sizes]
    return Cost(
        in_all=large_s / tasks[1] * 1e3,
        running=(large_s - small_s) / (tasks[1] - tasks[0]) * 1e3,
    )


def _compared(peer: str, own: Cost | None, other: Cost | None, *, at_least: float) -> list[Figure]:
    """Compare the cost of a task with that of a peer."""
    target = Target("at least", at_least)
    if own is None or other is None:
        return [not_measured(f"{WHAT}, {peer}", "make install-cars", target)]
    return [
        _line(peer, "in all", own.in_all, other.in_all, target),
        _line(peer, "running", own.running, other.running, target),
    ]


def _line(peer: str, part: str, own_ms: float, other_ms: float, target: Target) -> Figure:
    less = target.side == "at least"
    return Figure(
        what=f"{WHAT}, {part}",
        measured=f"{own_ms:.3f} ms",
        against=f"{peer}: {other_ms:.3f} ms",
        ratio=other_ms / own_ms if less else own_ms / other_ms,
        unit="times less" if less else "x",
        target=target,
    )


if __name__ == "__main__":
    who, count, folder = sys.argv[1:]
    needed, side = SIDES[who]
    for name in needed:  # imports are measured elsewhere
        importlib.import_module(name)
    begun = time.perf_counter()
    side(int(count), Path(folder) / "height.tif")
    took_s = time.perf_counter() - begun
    print_result(time_s=took_s, pixels=fingerprint(Path(folder) / "height.tif"))
