"""Profiles made for tests: runs whose every figure is known."""

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from batuta.profiling.analysis.figures import Figures, figures_of
from batuta.profiling.capture.layout import LEAKS, LOOPS, PLACES, PROFILE_FOLDER, RUN_FILE, TASKS
from batuta.profiling.capture.records import (
    LeakRow,
    LoopRow,
    Measure,
    TaskOutcome,
    TaskRow,
    WorkerId,
)
from batuta.profiling.files.reader import Profile, join_tiles, read_profile
from batuta.profiling.files.run_info import GridInfo, RunInfo, RunState, TileMishap
from batuta.profiling.files.schemas import leak_table, loop_table, place_table, task_table

BEGIN_S: Final = 1_800_000_000.0
"""When made runs start: a moment of Unix time."""
MB: Final = 1_000_000
GB: Final = 1_000_000_000

Tile = tuple[str, int, int]
ALONE: Final = WorkerId("process 1", "north", 1)


def made_run(**changed: Any) -> RunInfo:
    """A run on one machine of 8 cores and 32 GB, with 2 workers of 2000 MB, that took 60 s."""
    known: dict[str, Any] = {
        "state": RunState.DONE,
        "version": "1.0",
        "mode": "multiprocessing",
        "config": {"mode": "multiprocessing", "nb_workers": 2},
        "host": "north",
        "cores": 8,
        "ram_bytes": 32 * GB,
        "started_s": BEGIN_S,
        "ended_s": BEGIN_S + 60,
        "nb_workers": 2,
        "worker_limit_bytes": 2000 * MB,
    }
    return RunInfo.model_validate(known | changed)


def made_grid(dataset: str, rows: int, cols: int, tile_px: int = 512) -> GridInfo:
    """A grid of square tiles."""
    return GridInfo(
        dataset=dataset, rows=rows, cols=cols, tile_rows_px=tile_px, tile_cols_px=tile_px
    )


@dataclass(kw_only=True)
class Work:
    """A task to be made: how long it takes, and what it takes the results of."""

    name: str = "step"
    wall_s: float = 1.0
    after: Sequence[int] = ()
    """Positions of others in the list of works."""
    tile: Tile | None = None
    peak_mb: float = 100
    cpu_share: float = 1.0
    outcomes: Sequence[str] = ("done",)
    """Of each attempt."""
    error: str = "ValueError: no data"
    """Of attempts that are not done."""


@dataclass
class MadeProfile:
    """Tasks that ran, written as a profile or read as one."""

    run: RunInfo = field(default_factory=made_run)
    rows: list[TaskRow] = field(default_factory=list)
    places: list[tuple[int, str, int, int]] = field(default_factory=list)
    loops: list[LoopRow] = field(default_factory=list)
    leaks: list[LeakRow] = field(default_factory=list)

    def add(
        self,
        work: Work,
        *,
        task: int | None = None,
        start_s: float = 0.0,
        attempt: int = 1,
        outcome: str = "done",
        worker: WorkerId = ALONE,
        waiting_s: float | None = 0.0,
    ) -> int:
        """Add an attempt that began `start_s` after the run did; gives its task's number."""
        number = len(self.rows) if task is None else task
        measure = Measure(
            name=work.name,
            start_s=BEGIN_S + start_s,
            wall_s=work.wall_s,
            cpu_s=work.wall_s * work.cpu_share,
            peak_bytes=int(work.peak_mb * MB),
            growth_bytes=0,
            bytes_in=1000,
            bytes_out=2000,
        )
        kind = TaskOutcome(outcome)
        error = None if kind is TaskOutcome.DONE else work.error
        after = tuple(work.after)
        self.rows.append(TaskRow(number, attempt, kind, error, worker, waiting_s, after, measure))
        if work.tile is not None and attempt == 1:
            self.places.append((number, *work.tile))
        return number

    def add_loops(self, name: str, held_bytes: Sequence[float], *, task: int = 0) -> None:
        """Add the repetitions of a task, with what was held after each."""
        for loop, held in enumerate(held_bytes, start=1):
            self.loops.append(LoopRow(task, name, ALONE.name, loop, 0.1, int(held)))

    def task_table(self) -> pa.Table:
        """Its attempts, of `TASK_SCHEMA`."""
        return task_table(self.rows)

    def place_table(self) -> pa.Table:
        """Its tiles, of `PLACE_SCHEMA`."""
        return place_table(self.places)

    def profile(self) -> Profile:
        """What reading it would give."""
        return Profile(
            folder=Path("out"),
            run=self.run,
            tasks=join_tiles(self.task_table(), self.place_table()),
            loops=loop_table(self.loops),
            leaks=leak_table(self.leaks),
            memory=pd.DataFrame(columns=["time_s", "worker", "host", "pid", "process_bytes"]),
        )

    def figures(self) -> Figures:
        """Its figures."""
        return figures_of(self.profile())

    def write(self, out_dir: Path, *, parts: int | None = None) -> Path:
        """Write it as a run that ended does; in `parts`, as one that was killed.

        Returns
        -------
        Path
            `out_dir`.
        """
        folder = out_dir / PROFILE_FOLDER
        folder.mkdir(parents=True, exist_ok=True)
        (folder / RUN_FILE).write_text(self.run.model_dump_json())
        tasks, places = self.task_table(), self.place_table()
        if parts is None:
            pq.write_table(join_tiles(tasks, places), folder / f"{TASKS}.parquet")
            pq.write_table(places, folder / f"{PLACES}.parquet")
        else:
            write_parts(folder, TASKS, tasks, parts)
            write_parts(folder, PLACES, places, parts)
        if self.loops:
            pq.write_table(loop_table(self.loops), folder / f"{LOOPS}.parquet")
        if self.leaks:
            pq.write_table(leak_table(self.leaks), folder / f"{LEAKS}.parquet")
        return out_dir

    def read(self, out_dir: Path) -> Profile:
        """Write it, and read it."""
        return read_profile(self.write(out_dir))


def write_parts(folder: Path, stem: str, whole: pa.Table, parts: int) -> None:
    """Write a table as the numbered parts that a run leaves while it goes on."""
    size = max(1, -(-whole.num_rows // parts))
    for number, start in enumerate(range(0, whole.num_rows, size), start=1):
        pq.write_table(whole.slice(start, size), folder / f"{stem}-{number:06}.parquet")


@dataclass
class Place:
    """Where one process after the other runs."""

    number: int
    renewed_after: int | None
    places: int
    tasks: int = 0

    def next(self) -> WorkerId:
        """Give the process that runs the next task."""
        generation = self.tasks // self.renewed_after if self.renewed_after else 0
        self.tasks += 1
        pid = 1000 + self.number + self.places * generation
        return WorkerId(f"process {pid}", "north", pid)


class _Waiting:
    """Works that wait: those that can run in the order of the list, else who can soonest."""

    def __init__(self, works: Sequence[Work]) -> None:
        self._works = works
        self._missing = [len(set(work.after)) for work in works]
        self._followers: list[list[int]] = [[] for _ in works]
        for number, work in enumerate(works):
            for before in set(work.after):
                self._followers[before].append(number)
        self._ready_s = [0.0] * len(works)
        self._later = [(0.0, n, 1) for n, missing in enumerate(self._missing) if not missing]
        self._now: list[tuple[int, int]] = []

    def __bool__(self) -> bool:
        return bool(self._later or self._now)

    def take(self, free_s: float) -> tuple[float, int, int]:
        """Take one: when it can run, its number, its attempt."""
        while self._later and self._later[0][0] <= free_s:
            _, number, attempt = heapq.heappop(self._later)
            heapq.heappush(self._now, (number, attempt))
        if not self._now:
            return heapq.heappop(self._later)
        number, attempt = heapq.heappop(self._now)
        return self._ready_s[number], number, attempt

    def ended(self, number: int, attempt: int, end_s: float) -> None:
        """Have what took its result wait no more; or itself, where it is tried again."""
        if attempt < len(self._works[number].outcomes):
            self._ready_s[number] = end_s
            heapq.heappush(self._later, (end_s, number, attempt + 1))
            return
        for follower in self._followers[number]:
            self._missing[follower] -= 1
            self._ready_s[follower] = max(self._ready_s[follower], end_s)
            if not self._missing[follower]:
                heapq.heappush(self._later, (self._ready_s[follower], follower, 1))


def played(
    works: Sequence[Work],
    *,
    workers: int = 2,
    gap_s: float = 0.0,
    renewed_after: int | None = None,
    **run: Any,
) -> MadeProfile:
    """Play works on so many workers, in their order, each as soon as it can.

    Parameters
    ----------
    works : sequence of Work
        The tasks; each comes after those that it takes.
    workers : int
        Places, each with one process at a time.
    gap_s : float
        Before each task its worker does nothing for so long, s.
    renewed_after : int, optional
        Each process is followed by another after so many tasks.
    **run
        Fields of `RunInfo` that are not as `made_run` gives them.
    """
    made = MadeProfile()
    free = [(0.0, place) for place in range(workers)]
    places = [Place(number, renewed_after, workers) for number in range(workers)]
    waiting = _Waiting(works)
    while waiting:
        free_s, place = heapq.heappop(free)
        ready_s, number, attempt = waiting.take(free_s)
        work = works[number]
        start_s = max(free_s, ready_s) + gap_s
        made.add(
            work,
            task=number,
            start_s=start_s,
            attempt=attempt,
            outcome=work.outcomes[attempt - 1],
            worker=places[place].next(),
            waiting_s=start_s - ready_s,
        )
        end_s = start_s + work.wall_s
        waiting.ended(number, attempt, end_s)
        heapq.heappush(free, (end_s, place))
    last_s = max((end for end, _ in free), default=0.0)
    made.run = made_run(**{"nb_workers": workers, "ended_s": BEGIN_S + last_s} | run)
    return made


def survey(rows: int = 14, cols: int = 20, *, workers: int = 4) -> MadeProfile:
    """Play a stereo pair: a slow mountain range, a tile that failed, processes renewed.

    Matching costs and holds more where the ground is steep; the last step needs its neighbours.
    """
    works: list[Work] = []
    last_row: list[int] = []
    for row in range(rows):
        this_row = []
        for col in range(cols):
            steep = math.exp(-(((row - 0.3 * rows) / 2.6) ** 2) - ((col - 0.62 * cols) / 4.5) ** 2)
            noise = 0.9 + 0.2 * ((7 * row + 13 * col) % 10) / 10
            first = len(works)
            fails = (row, col) == (rows - 4, 5)
            again = fails or (row * cols + col) % 83 == 41
            works += [
                Work(name="read_pair", wall_s=0.12 * noise, peak_mb=310, cpu_share=0.4),
                Work(name="resample", wall_s=0.35 * noise, after=[first], peak_mb=520),
                Work(
                    name="match",
                    wall_s=(0.6 + 2.9 * steep) * noise,
                    after=[first + 1],
                    peak_mb=700 + 900 * steep * noise,
                    tile=("disparity", row, col),
                    outcomes=["lost" if not fails else "failed"] * again
                    + ["failed" if fails else "done"],
                    error="ValueError: no tie points" if fails else "its worker ended (signal 9)",
                ),
                Work(
                    name="to_ground",
                    wall_s=(0.22 + 0.3 * steep) * noise,
                    after=[first + 2, *(last_row[col : col + 1])],
                    peak_mb=430 + 200 * steep,
                    tile=("dsm", row, col),
                ),
            ]
            this_row.append(first + 2)
        last_row = this_row
    made = played(works, workers=workers, gap_s=0.02, renewed_after=10)
    retried = [
        {"dataset": "disparity", "row": i // cols, "col": i % cols, "cause": "its worker ended"}
        for i in range(41, rows * cols, 83)
    ]
    failed = [
        {"dataset": "disparity", "row": rows - 4, "col": 5, "cause": "ValueError: no tie points"}
    ]
    made.run = made.run.model_copy(
        update={
            "ended_s": (made.run.ended_s or 0) + 1.4,
            "started_s": BEGIN_S - 0.8,
            "worker_limit_bytes": 2000 * MB,
            "grids": (made_grid("disparity", rows, cols), made_grid("dsm", rows, cols)),
            "tiles_total": 2 * rows * cols,
            "tiles_done": 2 * rows * cols - 1,
            "retried": tuple(TileMishap.model_validate(one) for one in retried),
            "failed": tuple(TileMishap.model_validate(one) for one in failed),
        }
    )
    return made
