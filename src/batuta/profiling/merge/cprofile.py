"""Adds up the profiles of cProfile."""

import marshal
import pstats
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from batuta.profiling.capture.gaps import read_gaps
from batuta.profiling.capture.sink import PARTIAL_SUFFIX
from batuta.profiling.merge.model import FunctionTime, Times

MAX_FUNCTIONS: Final = 40
_TASK_FILE: Final = re.compile(r"\d+-(?P<task>.+)-\d+")
"""The stem of the profile of an attempt at a task: see `looking.task_stem`."""


def read_times(folder: Path, whole: Path | None) -> tuple[tuple[Times, ...], tuple[str, ...]]:
    """Read the profiles of a folder.

    Parameters
    ----------
    folder : path
        Of ``*.prof``.
    whole : path or None
        Where to write all of them as one.

    Returns
    -------
    tuple of Times
        Of all tasks, then of those of each name; empty where there is no profile.
    tuple of str
        What could not be read, or was not seen.
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
        f"{path.name} is not whole: its worker ended while it was written"
        for path in sorted(folder.glob(f"*{PARTIAL_SUFFIX}"))
    ]
    return _times(sums, whole), (*notes, *read_gaps(folder))


class _Sum:
    """Profiles, added up."""

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
    """A profile as `pstats.Stats` takes it."""

    def __init__(self, stats: dict[Any, Any]) -> None:
        self.stats = stats

    def create_stats(self) -> None:
        """It is there."""


def _read(path: Path) -> pstats.Stats:
    content = marshal.loads(path.read_bytes())  # noqa: S302 - written by our own processes
    if not isinstance(content, dict):
        raise ValueError("not a profile")  # noqa: TRY004 - of the file, not of an argument
    loaded: Any = _Loaded(content)
    return pstats.Stats(loaded)


def _times(sums: dict[str, _Sum], whole: Path | None) -> tuple[Times, ...]:
    by_task = [_summed(name, one) for name, one in sums.items() if name]
    every = _Sum()
    for one in sums.values():
        if one.stats is not None:
            every.add(one.stats, one.profiles)
    if every.stats is None:
        return ()
    if whole is not None:
        every.stats.dump_stats(whole)
    return (_summed(None, every), *sorted(by_task, key=lambda times: -times.total_s))


def _summed(task: str | None, one: _Sum) -> Times:
    content: dict[tuple[str, int, str], tuple[int, int, float, float, Any]]
    content = getattr(one.stats, "stats")  # noqa: B009 - not among the types of pstats
    functions = [
        FunctionTime(function, file, line, calls, own_s, total_s)
        for (file, line, function), (_, calls, own_s, total_s, _) in content.items()
    ]
    return Times(
        task,
        one.profiles,
        sum(each.own_s for each in functions),
        _most(functions, "total_s"),
        _most(functions, "own_s"),
    )


def _most(functions: Sequence[FunctionTime], of: str) -> tuple[FunctionTime, ...]:
    return tuple(sorted(functions, key=lambda each: -getattr(each, of))[:MAX_FUNCTIONS])
