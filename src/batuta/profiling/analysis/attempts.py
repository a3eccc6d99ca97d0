"""Attempts at tasks as a data frame, and statistics of each task name."""

from dataclasses import dataclass
from typing import Any, Final

import pandas as pd
import pyarrow as pa

from batuta.profiling.capture.records import TaskOutcome

_PROCESS: Final = ["host", "worker", "pid"]


@dataclass(frozen=True, kw_only=True)
class TaskNameStats:
    """Statistics of the tasks of one name, over all attempts."""

    name: str
    tasks: int
    attempts: int
    not_done: int
    """Attempts that failed or were lost."""
    total_s: float
    """Sum of wall times, s."""
    median_s: float
    max_s: float
    cpu_share: float
    """CPU time over wall time: 1 is one core busy all the time."""
    peak_bytes: int
    """Highest memory of a worker while one of them ran."""
    growth_bytes: int
    """Sum of the memory that workers did not release after them."""
    bytes_in: int | None
    bytes_out: int | None
    waiting_s: float | None
    """Sum of the times between being ready and starting; None where unknown."""


def attempts_frame(tasks: pa.Table) -> pd.DataFrame:
    """Return the attempts of a profile as a data frame.

    Parameters
    ----------
    tasks : pyarrow.Table
        Of `PROFILE_SCHEMA`.

    Returns
    -------
    DataFrame
        The columns except ``after``, plus ``end_s`` (Unix), ``done`` (bool) and ``process``
        (number of the worker process, in the order of their first tasks).
    """
    frame: pd.DataFrame = tasks.drop_columns(["after"]).to_pandas()
    frame = frame.sort_values("start_s", kind="stable", ignore_index=True)
    frame["end_s"] = frame["start_s"] + frame["wall_s"]
    frame["done"] = frame["outcome"] == TaskOutcome.DONE.value
    frame["process"] = frame.groupby(_PROCESS, sort=False).ngroup()
    return frame


def task_name_stats(attempts: pd.DataFrame) -> tuple[TaskNameStats, ...]:
    """Return the statistics of each task name, the largest total time first."""
    groups = attempts.groupby("name", sort=False)
    summed = groups.agg(
        tasks=("task", "nunique"),
        attempts=("task", "size"),
        done=("done", "sum"),
        total_s=("wall_s", "sum"),
        median_s=("wall_s", "median"),
        max_s=("wall_s", "max"),
        cpu_s=("cpu_s", "sum"),
        peak_bytes=("peak_bytes", "max"),
        growth_bytes=("growth_bytes", "sum"),
    )
    # Without min_count, a sum of unknown values would be zero instead of unknown.
    known = groups[["bytes_in", "bytes_out", "waiting_s"]].sum(min_count=1)
    summed = summed.join(known).sort_values("total_s", ascending=False, kind="stable")
    rows: Any = summed.reset_index().to_dict("records")
    return tuple(_task_name_stats(row) for row in rows)


def _task_name_stats(row: dict[str, Any]) -> TaskNameStats:
    numbers = {key: _number(value) for key, value in row.items() if key != "name"}
    total_s = numbers["total_s"] or 0.0
    attempts = int(numbers["attempts"] or 0)
    return TaskNameStats(
        name=str(row["name"]),
        tasks=int(numbers["tasks"] or 0),
        attempts=attempts,
        not_done=attempts - int(numbers["done"] or 0),
        total_s=total_s,
        median_s=numbers["median_s"] or 0.0,
        max_s=numbers["max_s"] or 0.0,
        cpu_share=(numbers["cpu_s"] or 0.0) / total_s if total_s > 0 else 0.0,
        peak_bytes=int(numbers["peak_bytes"] or 0),
        growth_bytes=int(numbers["growth_bytes"] or 0),
        bytes_in=_whole(numbers["bytes_in"]),
        bytes_out=_whole(numbers["bytes_out"]),
        waiting_s=numbers["waiting_s"],
    )


def _number(value: Any) -> float | None:
    return None if pd.isna(value) else float(value)


def _whole(value: float | None) -> int | None:
    return None if value is None else int(value)
