"""Builds profiles for tests: of simulated runs, whose every figure is known."""

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import TypeAdapter

from batuta.profiling.analysis.analyse import ProfileAnalysis, analyse_profile
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
"""When the runs start, Unix time."""
MB: Final = 1_000_000
GB: Final = 1_000_000_000

Tile = tuple[str, int, int]
ALONE: Final = WorkerId("process 1", "north", 1)


def make_run(**changed: Any) -> RunInfo:
    """Describe a run of 60 s on one machine of 8 cores and 32 GB, with 2 workers of 2000 MB."""
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
    return TypeAdapter(RunInfo).validate_python(known | changed)


def make_grid(dataset: str, rows: int, cols: int, tile_px: int = 512) -> GridInfo:
    """Describe a grid of square tiles."""
    return GridInfo(
        dataset=dataset, rows=rows, cols=cols, tile_rows_px=tile_px, tile_cols_px=tile_px
    )


@dataclass(kw_only=True)
class TaskSpec:
    """A task of a simulated run: how long it takes, and what it depends on."""

    name: str = "step"
    wall_s: float = 1.0
    after: Sequence[int] = ()
    """Positions of its dependencies in the list of tasks."""
    tile: Tile | None = None
    peak_mb: float = 100
    cpu_share: float = 1.0
    outcomes: Sequence[str] = ("done",)
    """Of each attempt."""
    error: str = "ValueError: no data"
    """Of attempts that are not done."""


@dataclass
class ProfileBuilder:
    """Collects attempts at tasks, and writes or returns them as a profile."""

    run: RunInfo = field(default_factory=make_run)
    rows: list[TaskRow] = field(default_factory=list)
    places: list[tuple[int, str, int, int]] = field(default_factory=list)
    loops: list[LoopRow] = field(default_factory=list)
    leaks: list[LeakRow] = field(default_factory=list)

    def add(
        self,
        work: TaskSpec,
        *,
        task: int | None = None,
        start_s: float = 0.0,
        attempt: int = 1,
        outcome: str = "done",
        worker: WorkerId = ALONE,
        waiting_s: float | None = 0.0,
    ) -> int:
        """Add an attempt that started `start_s` after the run; return the number of its task."""
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
        """Add the repetitions of a task, with the memory held after each."""
        for loop, held in enumerate(held_bytes, start=1):
            self.loops.append(LoopRow(task, name, ALONE.name, loop, 0.1, int(held)))

    def task_table(self) -> pa.Table:
        """Return the attempts, of `TASK_SCHEMA`."""
        return task_table(self.rows)

    def place_table(self) -> pa.Table:
        """Return the tiles, of `PLACE_SCHEMA`."""
        return place_table(self.places)

    def profile(self) -> Profile:
        """Return what reading the written profile would return."""
        return Profile(
            folder=Path("out"),
            run=self.run,
            tasks=join_tiles(self.task_table(), self.place_table()),
            loops=loop_table(self.loops),
            leaks=leak_table(self.leaks),
            memory=pd.DataFrame(columns=["time_s", "worker", "host", "pid", "process_bytes"]),
        )

    def analysis(self) -> ProfileAnalysis:
        """Return the figures of the profile."""
        return analyse_profile(self.profile())

    def write(self, out_dir: Path, *, parts: int | None = None) -> Path:
        """Write the profile as a run that ended does; in `parts`, as one that was killed.

        Returns
        -------
        Path
            `out_dir`.
        """
        folder = out_dir / PROFILE_FOLDER
        folder.mkdir(parents=True, exist_ok=True)
        (folder / RUN_FILE).write_text(self.run.as_json())
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
        """Write the profile, and read it."""
        return read_profile(self.write(out_dir))


def write_parts(folder: Path, stem: str, whole: pa.Table, parts: int) -> None:
    """Write a table as the numbered parts that a run writes before it ends."""
    size = max(1, -(-whole.num_rows // parts))
    for number, start in enumerate(range(0, whole.num_rows, size), start=1):
        pq.write_table(whole.slice(start, size), folder / f"{stem}-{number:06}.parquet")


@dataclass
class Slot:
    """A place for one worker process at a time."""

    number: int
    renewed_after: int | None
    slots: int
    tasks: int = 0

    def next(self) -> WorkerId:
        """Return the process that runs the next task."""
        generation = self.tasks // self.renewed_after if self.renewed_after else 0
        self.tasks += 1
        pid = 1000 + self.number + self.slots * generation
        return WorkerId(f"process {pid}", "north", pid)


class _ReadyQueue:
    """Orders waiting tasks: those that can run, in the order of the list; else the next to be."""

    def __init__(self, tasks: Sequence[TaskSpec]) -> None:
        self._tasks = tasks
        self._missing = [len(set(task.after)) for task in tasks]
        self._dependents: list[list[int]] = [[] for _ in tasks]
        for number, task in enumerate(tasks):
            for before in set(task.after):
                self._dependents[before].append(number)
        self._ready_s = [0.0] * len(tasks)
        self._later = [(0.0, n, 1) for n, missing in enumerate(self._missing) if not missing]
        self._now: list[tuple[int, int]] = []

    def __bool__(self) -> bool:
        return bool(self._later or self._now)

    def pop(self, free_s: float) -> tuple[float, int, int]:
        """Remove the next task; return when it can run, its number and its attempt."""
        while self._later and self._later[0][0] <= free_s:
            _, number, attempt = heapq.heappop(self._later)
            heapq.heappush(self._now, (number, attempt))
        if not self._now:
            return heapq.heappop(self._later)
        number, attempt = heapq.heappop(self._now)
        return self._ready_s[number], number, attempt

    def end(self, number: int, attempt: int, end_s: float) -> None:
        """Queue the tasks that waited for this one; or itself, if it is tried again."""
        if attempt < len(self._tasks[number].outcomes):
            self._ready_s[number] = end_s
            heapq.heappush(self._later, (end_s, number, attempt + 1))
            return
        for follower in self._dependents[number]:
            self._missing[follower] -= 1
            self._ready_s[follower] = max(self._ready_s[follower], end_s)
            if not self._missing[follower]:
                heapq.heappush(self._later, (self._ready_s[follower], follower, 1))


def simulate_run(
    tasks: Sequence[TaskSpec],
    *,
    workers: int = 2,
    gap_s: float = 0.0,
    renewed_after: int | None = None,
    **run: Any,
) -> ProfileBuilder:
    """Simulate a run: workers take tasks in their order, each as soon as it can run.

    Parameters
    ----------
    tasks : sequence of TaskSpec
        Each comes after its dependencies.
    workers : int
        How many run at a time.
    gap_s : float
        How long a worker idles before each task, s.
    renewed_after : int, optional
        Each process is replaced after so many tasks.
    **run
        Fields of `RunInfo` that differ from those of `make_run`.
    """
    builder = ProfileBuilder()
    free = [(0.0, slot) for slot in range(workers)]
    slots = [Slot(number, renewed_after, workers) for number in range(workers)]
    queue = _ReadyQueue(tasks)
    while queue:
        free_s, slot = heapq.heappop(free)
        ready_s, number, attempt = queue.pop(free_s)
        spec = tasks[number]
        start_s = max(free_s, ready_s) + gap_s
        builder.add(
            spec,
            task=number,
            start_s=start_s,
            attempt=attempt,
            outcome=spec.outcomes[attempt - 1],
            worker=slots[slot].next(),
            waiting_s=start_s - ready_s,
        )
        end_s = start_s + spec.wall_s
        queue.end(number, attempt, end_s)
        heapq.heappush(free, (end_s, slot))
    last_s = max((end for end, _ in free), default=0.0)
    builder.run = make_run(**{"nb_workers": workers, "ended_s": BEGIN_S + last_s} | run)
    return builder


def survey(rows: int = 14, cols: int = 20, *, workers: int = 4) -> ProfileBuilder:
    """Simulate a stereo pair: slow tiles on a mountain range, one that fails, renewed processes.

    Matching takes more time and memory where the ground is steep; the last step depends on the
    tile above.
    """
    tasks: list[TaskSpec] = []
    last_row: list[int] = []
    for row in range(rows):
        this_row = []
        for col in range(cols):
            steep = math.exp(-(((row - 0.3 * rows) / 2.6) ** 2) - ((col - 0.62 * cols) / 4.5) ** 2)
            noise = 0.9 + 0.2 * ((7 * row + 13 * col) % 10) / 10
            first = len(tasks)
            fails = (row, col) == (rows - 4, 5)
            again = fails or (row * cols + col) % 83 == 41
            tasks += [
                TaskSpec(name="read_pair", wall_s=0.12 * noise, peak_mb=310, cpu_share=0.4),
                TaskSpec(name="resample", wall_s=0.35 * noise, after=[first], peak_mb=520),
                TaskSpec(
                    name="match",
                    wall_s=(0.6 + 2.9 * steep) * noise,
                    after=[first + 1],
                    peak_mb=700 + 900 * steep * noise,
                    tile=("disparity", row, col),
                    outcomes=["lost" if not fails else "failed"] * again
                    + ["failed" if fails else "done"],
                    error="ValueError: no tie points" if fails else "its worker ended (signal 9)",
                ),
                TaskSpec(
                    name="to_ground",
                    wall_s=(0.22 + 0.3 * steep) * noise,
                    after=[first + 2, *(last_row[col : col + 1])],
                    peak_mb=430 + 200 * steep,
                    tile=("dsm", row, col),
                ),
            ]
            this_row.append(first + 2)
        last_row = this_row
    builder = simulate_run(tasks, workers=workers, gap_s=0.02, renewed_after=10)
    retried = [
        TileMishap(dataset="disparity", row=i // cols, col=i % cols, cause="its worker ended")
        for i in range(41, rows * cols, 83)
    ]
    failed = TileMishap(dataset="disparity", row=rows - 4, col=5, cause="ValueError: no tie points")
    builder.run = replace(
        builder.run,
        ended_s=(builder.run.ended_s or 0) + 1.4,
        started_s=BEGIN_S - 0.8,
        worker_limit_bytes=2000 * MB,
        grids=(make_grid("disparity", rows, cols), make_grid("dsm", rows, cols)),
        tiles_total=2 * rows * cols,
        tiles_done=2 * rows * cols - 1,
        retried=tuple(retried),
        failed=(failed,),
    )
    return builder
