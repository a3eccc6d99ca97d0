"""What each way of profiling adds to the same run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

from benchmarks.orchestrator.figures import Figure, Target
from benchmarks.orchestrator.grids import TILES_PER_ROW
from benchmarks.orchestrator.measure import FOLDER, Result, Subject, take_turns
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

    def subject(self, name: str, turns: int) -> Subject:
        """Give the program of one way."""
        tiles = self.rows * TILES_PER_ROW // FEWER.get(name, 1)
        how = OFF if name == AGAIN else name
        arguments = (how, self.mode, self.work, str(tiles), FOLDER)
        return Subject("run_profiling", arguments, turns=turns)


def figures(*, quick: bool) -> list[Figure]:
    """Compare with measuring nothing: turn by turn, medians of what each adds in its turn."""
    pairs, longer, dask = (32, 8, 8) if quick else (160, 32, 32)
    targets = {"basic": LIMIT, "cars_profiling": LIMIT}
    runs = (
        Run("multiprocessing", "pairs", pairs, "two of 1 ms", targets),
        Run("multiprocessing", "10ms", longer, "one of 10 ms", {}),
        Run("local_dask", "pairs", dask, "two of 1 ms", {}),
    )
    return [figure for run in runs for figure in _figures(run, (5, 1) if quick else (7, 2))]


def _figures(run: Run, turns: tuple[int, int]) -> list[Figure]:
    many, few = turns
    names = dict.fromkeys((*PROFILING, AGAIN))
    subjects = {name: run.subject(name, many if name in LIGHT else few) for name in names}
    results = take_turns(subjects, many)
    return [_figure(run, name, each, results[OFF]) for name, each in results.items() if name != OFF]


def _figure(run: Run, name: str, own: Sequence[Result], off: Sequence[Result]) -> Figure:
    turns = list(zip(own, off, strict=False))
    ratio = median(_of_a_task(each) / _of_a_task(other) for each, other in turns)
    added_s = median(
        _of_a_task(each, "processor_s") - _of_a_task(other, "processor_s") for each, other in turns
    )
    tiles = f"{run.rows * TILES_PER_ROW:,} tiles of {run.what}"
    return Figure(
        what=f"{run.mode}, {tiles}: {WORDS.get(name, name)}",
        measured=f"{median(map(_of_a_task, own)) * 1e3:.3f} ms a task, {ratio:.2f} x as long",
        against=f"off: {median(map(_of_a_task, off)) * 1e3:.3f} ms",
        ratio=added_s * 1e6,
        unit="us of processor more",
        target=run.targets.get(name),
    )


def _of_a_task(result: Result, key: str = "time_s") -> float:
    return float(result[key]) / int(result["tasks"])
