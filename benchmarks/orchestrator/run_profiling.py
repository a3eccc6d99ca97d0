"""The same tiles, profiled one way or another: ``HOW MODE WORK TILES FOLDER``.

Tells the time and the processor time of all processes between two moments when workers are there
and have nothing to do, and the time in all, the summary included.
"""

import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from batuta.datasets import CarsDataset
from batuta.orchestrator import Orchestrator
from benchmarks.orchestrator.grids import TILES_PER_ROW
from benchmarks.orchestrator.measure import tell
from benchmarks.orchestrator.profiling_off import measure_nothing
from benchmarks.orchestrator.profiling_tiles import SIDE_PX, begun, ended, spun
from benchmarks.orchestrator.run_renewal import processor_s
from benchmarks.orchestrator.tiles import TAG

NEVER: Final = 10**9
WARM_UP_TILES: Final = 64
TASKS: Final = {"pairs": 2, "10ms": 1}
"""Of a tile, by the kind of work."""

OFF: Final = "off"
PROFILING: Final[Mapping[str, Mapping[str, Any] | None]] = {
    OFF: None,
    "basic": None,
    "cars_profiling": {},
    "cprofile worker": {"mode": "cprofile", "scope": "worker"},
    "cprofile task": {"mode": "cprofile", "scope": "task"},
    "memray worker": {"mode": "memray", "scope": "worker"},
    "memray task": {"mode": "memray", "scope": "task"},
}
"""The key `profiling`, by what it is called here."""


def configuration(how: str, mode: str, work: str) -> dict[str, Any]:
    """Give the default one, but that workers of short tasks are not renewed: it costs far more."""
    conf: dict[str, Any] = {"mode": mode, "nb_workers": 2}
    if mode == "multiprocessing" and work == "pairs":
        conf["max_tasks_per_worker"] = NEVER
    profiling = PROFILING[how]
    return conf if profiling is None else {**conf, "profiling": dict(profiling)}


def compute(orchestrator: Orchestrator, work: str, tiles: int, path: Path) -> None:
    """Compute tiles; those that are no pairs are saved to one raster."""
    side_px, rows = SIDE_PX if work == "10ms" else 1, -(-tiles // TILES_PER_ROW)
    dataset = CarsDataset("arrays" if work == "10ms" else "dict", name=path.stem)
    dataset.create_grid(TILES_PER_ROW * side_px, rows * side_px, side_px, side_px)
    create_task = orchestrator.cluster.create_task
    for row, col in dataset.positions():
        seed = row * TILES_PER_ROW + col
        if work == "10ms":
            attributes = {"window": dataset.get_window_as_dict(row, col)}
            dataset[row, col] = create_task(spun)(seed, attributes)
        else:
            dataset[row, col] = create_task(ended)(create_task(begun)(seed))
    if work == "10ms":
        orchestrator.add_to_save_lists(path, TAG, dataset)
    else:
        orchestrator.add_to_compute_lists(dataset)
    orchestrator.breakpoint()


def main(how: str, mode: str, work: str, tiles: int, folder: Path) -> None:
    """Compute a few tiles, then those that count."""
    if how == OFF:
        measure_nothing(mode)
    start = time.perf_counter()
    with Orchestrator(configuration(how, mode, work), folder) as orchestrator:
        compute(orchestrator, work, WARM_UP_TILES, folder / "first.tif")
        started, used = time.perf_counter(), processor_s()
        compute(orchestrator, work, tiles, folder / "counted.tif")
        running_s, used_s = time.perf_counter() - started, processor_s() - used
    tell(
        time_s=running_s,
        processor_s=used_s,
        in_all_s=time.perf_counter() - start,
        tasks=-(-tiles // TILES_PER_ROW) * TILES_PER_ROW * TASKS[work],
    )


if __name__ == "__main__":
    how_asked, mode_asked, work_asked, count, where = sys.argv[1:]
    main(how_asked, mode_asked, work_asked, int(count), Path(where))
