"""Delivers profiles within one machine: files are moved, rows are kept until they are collected."""

from pathlib import Path
from typing import Final

from batuta.profiling.capture.records import LeakRow, LoopRow

PARTIAL_SUFFIX: Final = ".part"
"""Of the name of a file until it is complete; a killed process leaves some."""


class FolderSink:
    """Moves files into the folder of a profile, and keeps rows until they are collected.

    Parameters
    ----------
    profile_folder : path
        Of the run: ``OUT/profile``.
    may_be_killed : bool
        Whether this process may be killed when it is idle: a profiler that can then writes to
        files that are readable at any moment, instead of delivering them at its end.
    """

    def __init__(self, profile_folder: Path, *, may_be_killed: bool = False) -> None:
        self._folder = profile_folder
        self._may_be_killed = may_be_killed
        self._loops: list[LoopRow] = []
        self._leaks: list[LeakRow] = []

    def live_path(self, folder: str, name: str) -> Path | None:
        """Return the final path of a file, for a process that may be killed."""
        return self._path(folder, name) if self._may_be_killed else None

    def draft_path(self, folder: str, name: str) -> Path:
        """Return the path of a file that is not complete yet, beside its final one."""
        # In the same folder, for it to be renamed, not copied: a reader finds all of it or none.
        return self._path(folder, f"{name}{PARTIAL_SUFFIX}")

    def _path(self, folder: str, name: str) -> Path:
        parent = self._folder / folder
        parent.mkdir(parents=True, exist_ok=True)
        return parent / name

    def deliver_file(self, folder: str, name: str, draft: Path) -> None:
        """Rename a complete file to its final name."""
        draft.replace(self._folder / folder / name)

    def deliver_loops(self, rows: list[LoopRow]) -> None:
        """Keep rows for `collect_loops`."""
        self._loops += rows

    def deliver_leaks(self, rows: list[LeakRow]) -> None:
        """Keep rows for `collect_leaks`."""
        self._leaks += rows

    def collect_loops(self) -> list[LoopRow]:
        """Return the rows that were delivered since the last time."""
        collected, self._loops = self._loops, []
        return collected

    def collect_leaks(self) -> list[LeakRow]:
        """Return the rows that were delivered since the last time."""
        collected, self._leaks = self._leaks, []
        return collected
