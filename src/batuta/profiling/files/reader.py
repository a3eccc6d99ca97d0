"""Reads a profile, of a run that has ended, is still running, or was killed."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from batuta.errors import ConfigurationError, one_line
from batuta.profiling.capture.layout import LEAKS, LOOPS, PLACES, PROFILE_FOLDER, RUN_FILE, TASKS
from batuta.profiling.files.run_info import RunInfo, parse_run_info
from batuta.profiling.files.schemas import (
    LEAK_SCHEMA,
    LOOP_SCHEMA,
    PLACE_SCHEMA,
    PROFILE_SCHEMA,
    TASK_SCHEMA,
)
from batuta.profiling.files.task_graph import graph_of, nearest_owners

MEMORY_FILE: Final = "workers_memory.csv"
"""In the output folder; written by clusters on dask with `use_memory_logger`."""
_MEMORY_COLUMNS: Final = ("time", "worker", "host", "pid", "process_bytes")
_MAX_TILES: Final = 100_000_000
"""Of one grid: with more, the file is garbled."""


@dataclass(frozen=True)
class Profile:
    """The measurements of a run."""

    folder: Path
    """The output folder of the run."""
    run: RunInfo
    tasks: pa.Table
    """`PROFILE_SCHEMA`: a row for each attempt at a task."""
    loops: pa.Table
    """`LOOP_SCHEMA`: a row for each repetition of a task; empty without `loop_testing`."""
    leaks: pa.Table
    """`LEAK_SCHEMA`: a row for each line that leaks in a task; where memray profiled loops."""
    memory: pd.DataFrame
    """Memory of the workers once a second: ``time_s`` (Unix), ``worker``, ``host``, ``pid``,
    ``process_bytes``; empty where it was not recorded."""


def read_profile(folder: Path) -> Profile:
    """Read the profile of a run.

    Parameters
    ----------
    folder : Path
        The output folder of the run, or its folder ``profile``.

    Raises
    ------
    ConfigurationError
        If there is no profile, or one that cannot be read; its one line names the path.
    """
    inside = _profile_folder(folder)
    run = _read_run(inside / RUN_FILE)
    tasks = _read_tasks(inside)
    _check_tiles(inside / TASKS, tasks)
    out_dir = inside.parent
    return Profile(
        folder=out_dir,
        run=run,
        tasks=tasks,
        loops=_read_parts(inside, LOOPS, LOOP_SCHEMA),
        leaks=_read_parts(inside, LEAKS, LEAK_SCHEMA),
        memory=_read_memory(out_dir / MEMORY_FILE, run),
    )


def join_tiles(tasks: pa.Table, places: pa.Table) -> pa.Table:
    """Join to each task the tile that it makes, or the first that it leads to.

    Tiles that a task leads to only through the task of another tile are not its own: its time
    counts for the nearest tile.

    Parameters
    ----------
    tasks : pyarrow.Table
        Of `TASK_SCHEMA`.
    places : pyarrow.Table
        Of `PLACE_SCHEMA`, in the order in which "first" is meant.

    Returns
    -------
    pyarrow.Table
        Of `PROFILE_SCHEMA`: the rows of `tasks` in their order; no dataset, row and column
        where a task leads to no known tile.
    """
    graph = graph_of(tasks)
    owner = nearest_owners(graph, graph.indices(places["task"].to_numpy()))
    of_row = owner[graph.indices(tasks["task"].to_numpy())]
    places_of_rows = places.take(pa.array(of_row, mask=of_row < 0))
    for name in ("dataset", "row", "col"):
        tasks = tasks.append_column(PLACE_SCHEMA.field(name), places_of_rows[name])
    return tasks.cast(PROFILE_SCHEMA)


def read_final_tables(inside: Path) -> dict[str, pa.Table]:
    """Read the parts that a run has written, as its final tables by stem, without empty ones.

    Parameters
    ----------
    inside : Path
        The folder ``profile`` of a run.
    """
    tables = {
        TASKS: _joined_parts(inside),
        PLACES: _read_parts(inside, PLACES, PLACE_SCHEMA),
        LOOPS: _read_parts(inside, LOOPS, LOOP_SCHEMA),
        LEAKS: _read_parts(inside, LEAKS, LEAK_SCHEMA),
    }
    return {stem: table for stem, table in tables.items() if table.num_rows or stem == TASKS}


def _profile_folder(folder: Path) -> Path:
    for inside in (folder / PROFILE_FOLDER, folder):
        if (inside / RUN_FILE).is_file():
            return inside.absolute()
    if not folder.is_dir():
        raise ConfigurationError(f"{folder}: no such folder")
    raise ConfigurationError(
        f"{folder}: no profile found (looked for {PROFILE_FOLDER}/{RUN_FILE}, which a run writes"
        " with the key `profiling`)"
    )


def _read_run(path: Path) -> RunInfo:
    try:
        return parse_run_info(path.read_bytes())
    except ValueError as exc:
        raise ConfigurationError(
            f"{path}: not a valid description of a run: {_one_line(exc)}"
        ) from exc


def _read_tasks(inside: Path) -> pa.Table:
    """Read the final table; before there is one, its parts with their tiles joined."""
    final = inside / f"{TASKS}.parquet"
    try:
        if not final.exists():
            return _joined_parts(inside)
    except FileNotFoundError:
        # The run ended while its parts were read: they were removed once the final table was
        # there, which is complete, and replaces them all.
        if not final.exists():
            raise
    return _read_table([final], PROFILE_SCHEMA)


def _joined_parts(inside: Path) -> pa.Table:
    tasks = _read_parts(inside, TASKS, TASK_SCHEMA)
    return join_tiles(tasks, _read_parts(inside, PLACES, PLACE_SCHEMA))


def _read_parts(inside: Path, stem: str, schema: pa.Schema) -> pa.Table:
    final = inside / f"{stem}.parquet"
    parts = [final] if final.exists() else sorted(inside.glob(f"{stem}-*.parquet"))
    return _read_table(parts, schema)


def _read_table(parts: Sequence[Path], schema: pa.Schema) -> pa.Table:
    tables = [schema.empty_table()]
    for path in parts:
        try:
            tables.append(pq.ParquetFile(path).read(columns=schema.names).cast(schema))
        except FileNotFoundError:
            raise
        except (pa.ArrowException, OSError, ValueError) as exc:
            raise ConfigurationError(
                f"{path}: not a valid table of a profile: {_one_line(exc)}"
            ) from exc
    return pa.concat_tables(tables).combine_chunks()


def _check_tiles(stem: Path, tasks: pa.Table) -> None:
    rows = tasks["row"].drop_null().to_numpy().astype(np.int64)
    cols = tasks["col"].drop_null().to_numpy().astype(np.int64)
    if not len(rows) or not len(cols):
        return
    if min(rows.min(), cols.min()) < 0 or (rows.max() + 1) * (cols.max() + 1) > _MAX_TILES:
        raise ConfigurationError(
            f"{stem}*.parquet: rows or columns of tiles out of range; the table is garbled"
        )


def _read_memory(path: Path, run: RunInfo) -> pd.DataFrame:
    empty = pd.DataFrame(columns=["time_s", *_MEMORY_COLUMNS[1:]])
    if not path.is_file():
        return empty
    try:
        rows = pd.read_csv(path, usecols=list(_MEMORY_COLUMNS))
        # The last row of a run that was killed may be incomplete.
        rows = rows.dropna(subset=["time", "process_bytes"])
        times = pd.to_datetime(rows.pop("time"), format="ISO8601", utc=True)
    except pd.errors.EmptyDataError:
        return empty
    except ValueError as exc:
        raise ConfigurationError(
            f"{path}: not a valid table of the memory of workers: {_one_line(exc)}"
        ) from exc
    epoch = pd.Timestamp(0, tz="UTC")
    rows.insert(0, "time_s", (times - epoch) / pd.Timedelta(seconds=1))
    # The file also has the rows of earlier runs in the same folder.
    ended_s = np.inf if run.ended_s is None else run.ended_s
    return rows[rows["time_s"].between(run.started_s, ended_s)].reset_index(drop=True)


def _one_line(exc: Exception) -> str:
    return one_line(exc)[:300]
