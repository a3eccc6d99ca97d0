"""Adds up the profiles that cProfile wrote of a run."""

import marshal
import pstats
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from batuta.profiling.capture.gaps import read_gaps
from batuta.profiling.capture.sink import PARTIAL_SUFFIX
from batuta.profiling.merge.model import FunctionTime, TaskTimes

MAX_FUNCTIONS: Final = 40
_TASK_FILE: Final = re.compile(r"\d+-(?P<task>.+)-\d+")
"""The stem of the profile of an attempt at a task: see `layout.task_stem`."""


def read_times(folder: Path, merged: Path | None) -> tuple[tuple[TaskTimes, ...], tuple[str, ...]]:
    """Read the profiles of a folder.

    Parameters
    ----------
    folder : path
        Of ``*.prof``.
    merged : path or None
        Where to write the sum of all.

    Returns
    -------
    tuple of TaskTimes
        Of all tasks, then of those of each name; empty where there is no profile.
    tuple of str
        What could not be read, or was not profiled.
    """
    sums: dict[str, _Sum] = {}
    notes: list[str] = []
    for path in sorted(folder.glob("*.prof")):
        found = _TASK_FILE.fullmatch(path.stem)
        name = found["task"] if found else ""
        try:
            stats = _read(path)
        except (OSError, ValueError, EOFError, TypeError) as exc:
            notes.append(f"{path.name} cannot be read: {exc or type(exc).__name__}")
        else:
            sums.setdefault(name, _Sum()).add(stats)
    notes += [
        f"{path.name} is incomplete: its worker ended while writing it"
        for path in sorted(folder.glob(f"*{PARTIAL_SUFFIX}"))
    ]
    return _times(sums, merged), (*notes, *read_gaps(folder))


class _Sum:
    """The sum of some profiles."""

    def __init__(self) -> None:
        self.stats: pstats.Stats | None = None
        self.profiles = 0

    def add(self, stats: pstats.Stats, profiles: int = 1) -> None:
        self.profiles += profiles
        if self.stats is None:
            self.stats = stats
        else:
            self.stats.add(stats)


class _Loaded:
    """A profile in the form that `pstats.Stats` accepts: an object with `create_stats`."""

    def __init__(self, stats: dict[Any, Any]) -> None:
        self.stats = stats

    def create_stats(self) -> None:
        """Do nothing: the statistics are complete already."""


def _read(path: Path) -> pstats.Stats:
    content = marshal.loads(path.read_bytes())  # noqa: S302 - written by our own processes
    if not isinstance(content, dict):
        raise ValueError("not a profile")  # noqa: TRY004 - of the file, not of an argument
    loaded: Any = _Loaded(content)
    return pstats.Stats(loaded)


def _times(sums: dict[str, _Sum], merged: Path | None) -> tuple[TaskTimes, ...]:
    by_task = [_task_times(name, one) for name, one in sums.items() if name]
    total = _Sum()
    for one in sums.values():
        if one.stats is not None:
            total.add(one.stats, one.profiles)
    if total.stats is None:
        return ()
    if merged is not None:
        total.stats.dump_stats(merged)
    return (_task_times(None, total), *sorted(by_task, key=lambda times: -times.total_s))


def _task_times(task: str | None, one: _Sum) -> TaskTimes:
    content: dict[tuple[str, int, str], tuple[int, int, float, float, Any]]
    content = getattr(one.stats, "stats")  # noqa: B009 - not among the types of pstats
    functions = [
        FunctionTime(function, file, line, calls, own_s, total_s)
        for (file, line, function), (_, calls, own_s, total_s, _) in content.items()
    ]
    return TaskTimes(
        task,
        one.profiles,
        sum(each.own_s for each in functions),
        _longest(functions, "total_s"),
        _longest(functions, "own_s"),
    )


def _longest(functions: Sequence[FunctionTime], by: str) -> tuple[FunctionTime, ...]:
    return tuple(sorted(functions, key=lambda each: -getattr(each, by))[:MAX_FUNCTIONS])
