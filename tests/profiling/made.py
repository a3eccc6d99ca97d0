"""Profiles made for tests: runs whose every figure is known."""

import heapq
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from batuta.profiling.layout import FOLDER, LOOPS, PLACES, RUN_FILE, TASKS
from batuta.profiling.reading import Profile, read_profile, with_tiles
from batuta.profiling.rows import Measure, TaskOutcome, TaskRow, WorkerId
from batuta.profiling.run_info import GridInfo, RunInfo, RunState
from batuta.profiling.tables import LOOP_SCHEMA, PLACE_SCHEMA, task_table

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
    loops: list[tuple[int, str, str, int, float, int]] = field(default_factory=list)

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

    def task_table(self) -> pa.Table:
        """Its attempts, of `TASK_SCHEMA`."""
        return task_table(self.rows)

    def place_table(self) -> pa.Table:
        """Its tiles, of `PLACE_SCHEMA`."""
        return table(self.places, PLACE_SCHEMA)

    def profile(self) -> Profile:
        """What reading it would give."""
        import pandas as pd  # noqa: PLC0415  most tests write files

        return Profile(
            folder=Path("out"),
            run=self.run,
            tasks=with_tiles(self.task_table(), self.place_table()),
            loops=table(self.loops, LOOP_SCHEMA),
            memory=pd.DataFrame(columns=["time_s", "worker", "host", "pid", "process_bytes"]),
        )

    def write(self, out_dir: Path, *, parts: int | None = None) -> Path:
        """Write it as a run that ended does; in `parts`, as one that was killed.

        Returns
        -------
        Path
            `out_dir`.
        """
        folder = out_dir / FOLDER
        folder.mkdir(parents=True, exist_ok=True)
        (folder / RUN_FILE).write_text(self.run.model_dump_json())
        tasks, places = self.task_table(), self.place_table()
        if parts is None:
            pq.write_table(with_tiles(tasks, places), folder / f"{TASKS}.parquet")
            pq.write_table(places, folder / f"{PLACES}.parquet")
        else:
            write_parts(folder, TASKS, tasks, parts)
            write_parts(folder, PLACES, places, parts)
        if self.loops:
            pq.write_table(table(self.loops, LOOP_SCHEMA), folder / f"{LOOPS}.parquet")
        return out_dir

    def read(self, out_dir: Path) -> Profile:
        """Write it, and read it."""
        return read_profile(self.write(out_dir))


def table(rows: Sequence[tuple[Any, ...]], schema: pa.Schema) -> pa.Table:
    """Rows as a table."""
    return pa.Table.from_pylist([dict(zip(schema.names, row, strict=True)) for row in rows], schema)


def write_parts(folder: Path, stem: str, whole: pa.Table, parts: int) -> None:
    """Write a table as the numbered parts that a run leaves while it goes on."""
    size = max(1, -(-whole.num_rows // parts))
    for number, start in enumerate(range(0, whole.num_rows, size), start=1):
        pq.write_table(whole.slice(start, size), folder / f"{stem}-{number:06}.parquet")


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
    done = [0] * workers
    ended: list[float] = []
    for number, work in enumerate(works):
        ready_s = max((ended[before] for before in work.after), default=0.0)
        for attempt, outcome in enumerate(work.outcomes, start=1):
            free_s, place = heapq.heappop(free)
            start_s = max(free_s, ready_s) + gap_s
            generation = done[place] // renewed_after if renewed_after else 0
            pid = 1000 + place + workers * generation
            made.add(
                work,
                task=number,
                start_s=start_s,
                attempt=attempt,
                outcome=outcome,
                worker=WorkerId(f"process {pid}", "north", pid),
                waiting_s=start_s - ready_s,
            )
            done[place] += 1
            ready_s = start_s + work.wall_s
            heapq.heappush(free, (ready_s, place))
        ended.append(ready_s)
    last_s = max((end for end, _ in free), default=0.0)
    made.run = made_run(**{"nb_workers": workers, "ended_s": BEGIN_S + last_s} | run)
    return made
