"""What each way of profiling adds to the same run.

Run with ``PROFILING MODE WORK TILES FOLDER``, it computes the tiles, and prints the time and the
processor time of all processes between two moments when workers have started and are idle, and the
time in all, the summary included.
"""

import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from batuta.datasets import CarsDataset
from batuta.orchestrator import Orchestrator
from benchmarks.orchestrator.support.grids import TILES_PER_ROW
from benchmarks.orchestrator.support.profiling_off import measure_nothing
from benchmarks.orchestrator.support.profiling_tiles import SIDE_PX, begun, ended, spun
from benchmarks.orchestrator.support.tiles import TAG
from benchmarks.support.figures import (
    MEASURING_LIMIT,
    Figure,
    Target,
    not_measured,
    table,
)
from benchmarks.support.measure import (
    FOLDER,
    Result,
    Subject,
    best,
    print_result,
    take_turns,
)
from benchmarks.support.processes import processor_s

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
"""The value of the key `profiling`, by its name in this benchmark."""


def configuration(how: str, mode: str, work: str) -> dict[str, Any]:
    """Return the default one, without renewals where tasks are short: they cost far more."""
    conf: dict[str, Any] = {"mode": mode, "nb_workers": 2}
    if mode == "multiprocessing" and work == "pairs":
        conf["max_tasks_per_worker"] = NEVER
    profiling = PROFILING[how]
    return conf if profiling is None else {**conf, "profiling": dict(profiling)}


def compute(orchestrator: Orchestrator, work: str, tiles: int, path: Path) -> None:
    """Compute tiles; those of 10 ms are saved to one raster."""
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
    """Compute a few tiles to warm up, then those that count."""
    if how == OFF:
        measure_nothing(mode)
    start = time.perf_counter()
    with Orchestrator(configuration(how, mode, work), folder) as orchestrator:
        compute(orchestrator, work, WARM_UP_TILES, folder / "first.tif")
        started, used = time.perf_counter(), processor_s()
        compute(orchestrator, work, tiles, folder / "counted.tif")
        running_s, used_s = time.perf_counter() - started, processor_s() - used
    print_result(
        time_s=running_s,
        processor_s=used_s,
        in_all_s=time.perf_counter() - start,
        tasks=-(-tiles // TILES_PER_ROW) * TILES_PER_ROW * TASKS[work],
    )


AGAIN: Final = "off, once more"
"""Shows which differences are noise."""
LIGHT: Final = (OFF, "basic", "cars_profiling", AGAIN)
"""Their differences are small: they take many turns."""
FEWER: Final = {"memray task": 8}
"""By what share of the tiles is left out: these take so long."""
WORDS: Final = {
    "basic": "the default",
    "cprofile worker": "cprofile, per worker",
    "cprofile task": "cprofile, per task",
    "memray worker": "memray, per worker",
    "memray task": "memray, per task",
}


@dataclass(frozen=True)
class Comparison:
    """Rows of tiles of one kind of work, on one mode, profiled in every way."""

    mode: str
    work: str
    rows: int
    what: str
    targets: Mapping[str, Target]
    """Where a task is short enough for 50 us to be visible."""

    def subject(self, name: str) -> Subject:
        """Return the program that profiles it in one way."""
        tiles = self.rows * TILES_PER_ROW // FEWER.get(name, 1)
        how = OFF if name == AGAIN else name
        return Subject("profiling", (how, self.mode, self.work, str(tiles), FOLDER))


def figures(*, quick: bool) -> list[Figure]:
    """Compare with measuring nothing: turn by turn, the best of each."""
    pairs, longer, dask = (32, 8, 32) if quick else (160, 32, 32)
    targets = {"basic": MEASURING_LIMIT, "cars_profiling": MEASURING_LIMIT}
    runs = (
        Comparison("multiprocessing", "pairs", pairs, "two of 1 ms", targets),
        Comparison("multiprocessing", "10ms", longer, "one of 10 ms", {}),
        Comparison("local_dask", "pairs", dask, "two of 1 ms", {}),
    )
    return [figure for run in runs for figure in _figures(run, (5, 2) if quick else (7, 2))]


def _figures(run: Comparison, turns: tuple[int, int]) -> list[Figure]:
    many, few = turns
    light = take_turns({name: run.subject(name) for name in LIGHT}, many)
    heavy = {name: _heavy(run, name, few) for name in PROFILING if name not in LIGHT}
    off = light.pop(OFF)
    lines = [_figure(run, name, results, off) for name, results in (light | heavy).items()]
    print(table(lines), file=sys.stderr, flush=True)
    return lines


def _heavy(run: Comparison, name: str, turns: int) -> list[Result]:
    """Measure a profiler; one that crashes workers does not cost the others their figures."""
    try:
        return take_turns({name: run.subject(name)}, turns)[name]
    except RuntimeError as exc:
        print(exc, file=sys.stderr)
        return []


def _figure(run: Comparison, name: str, own: Sequence[Result], off: Sequence[Result]) -> Figure:
    what = f"{run.mode}, {run.rows * TILES_PER_ROW:,} tiles of {run.what}: {WORDS.get(name, name)}"
    if not own:
        return not_measured(what, "the run failed")
    own_s, off_s = (_of_a_task(each, "time_s") for each in (own, off))
    added_s = _of_a_task(own, "processor_s") - _of_a_task(off, "processor_s")
    return Figure(
        what=what,
        measured=f"{own_s * 1e3:.3f} ms a task, {own_s / off_s:.2f} x as long",
        against=f"off: {off_s * 1e3:.3f} ms",
        ratio=added_s * 1e6,
        unit="us of processor more",
        target=run.targets.get(name),
    )


def _of_a_task(results: Sequence[Result], key: str) -> float:
    """Return the best of all turns, for one task: other use of the machine only adds to it."""
    return best(results, key) / int(results[0]["tasks"])


if __name__ == "__main__":
    how_asked, mode_asked, work_asked, count, where = sys.argv[1:]
    main(how_asked, mode_asked, work_asked, int(count), Path(where))
