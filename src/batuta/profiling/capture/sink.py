"""Files of a profile that processes of one machine write where the run keeps them."""

from pathlib import Path
from typing import Final

from batuta.profiling.capture.records import LeakRow, LoopRow

UNFINISHED: Final = ".part"
"""What the name of a file ends with until it is whole; a killed process leaves some."""


class FolderSink:
    """Moves files into the folder of a profile; keeps rows until they are taken.

    Parameters
    ----------
    profile_folder : path
        Of the run: ``OUT/profile``.
    killed : bool
        Whether this process may be killed when it has nothing more to do: a profiler that can
        then writes to files that are whole at any moment, and does not wait for its end.
    """

    def __init__(self, profile_folder: Path, *, killed: bool = False) -> None:
        self._folder = profile_folder
        self._killed = killed
        self._loops: list[LoopRow] = []
        self._leaks: list[LeakRow] = []

    def place(self, folder: str, name: str) -> Path | None:
        """Return the path of a file where it will be, for a process that may be killed."""
        return self._path(folder, name) if self._killed else None

    def draft(self, folder: str, name: str) -> Path:
        """Return the path of a file that is not whole yet, beside where it will be."""
        return self._path(folder, f"{name}{UNFINISHED}")

    def _path(self, folder: str, name: str) -> Path:
        parent = self._folder / folder
        parent.mkdir(parents=True, exist_ok=True)
        return parent / name

    def file(self, folder: str, name: str, path: Path) -> None:
        """Return a finished file its name."""
        path.replace(self._folder / folder / name)

    def loops(self, rows: list[LoopRow]) -> None:
        """Keep rows for `take_loops`."""
        self._loops += rows

    def leaks(self, rows: list[LeakRow]) -> None:
        """Keep rows for `take_leaks`."""
        self._leaks += rows

    def take_loops(self) -> list[LoopRow]:
        """Return the rows that came since the last time."""
        taken, self._loops = self._loops, []
        return taken

    def take_leaks(self) -> list[LeakRow]:
        """Return the rows that came since the last time."""
        taken, self._leaks = self._leaks, []
        return taken
