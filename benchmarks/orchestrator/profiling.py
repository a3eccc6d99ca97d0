"""What each way of profiling adds to the same run."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from benchmarks.orchestrator.figures import Figure, Target, not_measured, table
from benchmarks.orchestrator.grids import TILES_PER_ROW
from benchmarks.orchestrator.measure import FOLDER, Result, Subject, best, take_turns
from benchmarks.orchestrator.profiling_probe import LIMIT
from benchmarks.orchestrator.run_profiling import OFF, PROFILING

AGAIN: Final = "off, once more"
"""Measures what the machine tells apart, and what it does not."""
LIGHT: Final = (OFF, "basic", "cars_profiling", AGAIN)
"""Told apart by what is hard to see: these take many turns."""
FEWER: Final = {"memray task": 8}
"""What takes so long that it has a part of the tiles."""
WORDS: Final = {
    "basic": "the default",
    "cprofile worker": "cprofile, per worker",
    "cprofile task": "cprofile, per task",
    "memray worker": "memray, per worker",
    "memray task": "memray, per task",
}


@dataclass(frozen=True)
class Run:
    """What is profiled one way and another: so many rows of tiles of a kind of work, on a mode."""

    mode: str
    work: str
    rows: int
    what: str
    targets: Mapping[str, Target]
    """Where a task is short enough for 50 us to be seen."""

    def subject(self, name: str) -> Subject:
        """Give the program of one way."""
        tiles = self.rows * TILES_PER_ROW // FEWER.get(name, 1)
        how = OFF if name == AGAIN else name
        return Subject("run_profiling", (how, self.mode, self.work, str(tiles), FOLDER))


def figures(*, quick: bool) -> list[Figure]:
    """Compare with measuring nothing: turn by turn, the best of each."""
    pairs, longer, dask = (32, 8, 32) if quick else (160, 32, 32)
    targets = {"basic": LIMIT, "cars_profiling": LIMIT}
    runs = (
        Run("multiprocessing", "pairs", pairs, "two of 1 ms", targets),
        Run("multiprocessing", "10ms", longer, "one of 10 ms", {}),
        Run("local_dask", "pairs", dask, "two of 1 ms", {}),
    )
    return [figure for run in runs for figure in _figures(run, (5, 2) if quick else (7, 2))]


def _figures(run: Run, turns: tuple[int, int]) -> list[Figure]:
    many, few = turns
    light = take_turns({name: run.subject(name) for name in LIGHT}, many)
    heavy = {name: _heavy(run, name, few) for name in PROFILING if name not in LIGHT}
    off = light.pop(OFF)
    lines = [_figure(run, name, results, off) for name, results in (light | heavy).items()]
    print(table(lines), file=sys.stderr, flush=True)
    return lines


def _heavy(run: Run, name: str, turns: int) -> list[Result]:
    """Measure a profiler; where it brings workers down, the others have their figures still."""
    try:
        return take_turns({name: run.subject(name)}, turns)[name]
    except RuntimeError as exc:
        print(exc, file=sys.stderr)
        return []


def _figure(run: Run, name: str, own: Sequence[Result], off: Sequence[Result]) -> Figure:
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
    """Give the best of all turns: others who use the machine can only add to it."""
    return best(results, key) / int(results[0]["tasks"])
