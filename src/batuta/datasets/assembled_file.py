"""Files assembled from one part per tile: points and dicts.

Tiles arrive in any order and are written in the order of their grid, row by row, so that the file
is the same each time. Until then each is a part file in the workspace of the output, so that
memory stays flat. A part takes its name at a checkpoint, once it is on the disk: a part that has
its name is complete.
"""

import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

from batuta.datasets.durable_file import Workspace, remove, replace_file, sync_file
from batuta.datasets.errors import TileError
from batuta.durable_folders import sync_folder

_DRAFT: Final = ".draft"
_PART: Final = "[0-9]*_[0-9]*"


class AssembledFile(ABC):
    """A file assembled from one part per tile; a `Descriptor`.

    Opened by `CarsDataset.generate_descriptor`.

    Parameters
    ----------
    path : path
        The file.
    resume : bool
        Whether to resume from the parts of an earlier run.

    Raises
    ------
    TileError
        If there is nothing to resume.
    """

    def __init__(self, path: str | os.PathLike[str], *, resume: bool = False) -> None:
        self.path = Path(path)
        self.outputs: tuple[Path, ...] = ()
        self._workspace = Workspace(self.path, resume=resume)
        self._parts = self._workspace.folder
        self._drafts: dict[Path, Path] = {}
        self._closed = False
        for torn in self._parts.glob(f"*{_DRAFT}"):
            torn.unlink()

    def write(self, tile: Any, row: int, col: int) -> None:
        """Write the part of the tile at `row`, `col` of the grid; a second one replaces it.

        Raises
        ------
        TileError
            If the file cannot hold the tile.
        """
        part = self._parts / f"{row:08d}_{col:08d}"
        draft = part.with_name(part.name + _DRAFT)
        try:
            self.write_part(tile, row, col, draft)
        except BaseException as exc:
            draft.unlink(missing_ok=True)
            self._drafts.pop(part, None)
            if isinstance(exc, TileError):
                raise exc.of_file(self.path.name) from exc
            raise
        self._drafts[part] = draft

    def checkpoint(self) -> None:
        """Make everything written so far durable against a killed process and a power loss."""
        for draft in self._drafts.values():
            sync_file(draft)
        self._rename_drafts()
        sync_folder(self._parts)

    def _rename_drafts(self) -> None:
        for part, draft in self._drafts.items():
            draft.replace(part)
        self._drafts.clear()

    def close(self, *, keep: bool = False) -> None:
        """Assemble the file, tiles in the order of the grid; without any tile there is no file."""
        if self._closed:
            return
        if keep:
            self.checkpoint()
        else:
            self._rename_drafts()
        if parts := self.parts():
            self.outputs = tuple(self._write_outputs(parts))
        self._closed = True
        if not keep:
            self._workspace.remove()

    def suspend(self) -> None:
        """Stop, and keep the parts for a later run to resume."""
        if not self._closed:
            self.checkpoint()
            self._closed = True

    def abandon(self) -> None:
        """Delete the parts; an earlier file at the path is left as it was."""
        self._closed = True
        self._workspace.remove()

    def parts(self) -> list[Path]:
        """Return the complete parts, in the order of the grid."""
        return sorted(each for each in self._parts.glob(_PART) if each.suffix != _DRAFT)

    def all_parts(self) -> list[Path]:
        """Return the parts as last written: the drafts, and the complete ones without a draft."""
        return sorted(self._drafts.values()) + [
            each for each in self.parts() if each not in self._drafts
        ]

    def _write_outputs(self, parts: Sequence[Path]) -> Iterable[Path]:
        yield self._write_output(parts, self.path)

    def _write_output(self, parts: Sequence[Path], path: Path, selected: str | None = None) -> Path:
        draft = self._parts / f"unfinished{path.suffix}"
        remove(draft)
        self.assemble(parts, draft, selected)
        replace_file(draft, path)
        return path

    @abstractmethod
    def write_part(self, tile: Any, row: int, col: int, part: Path) -> None:
        """Write one tile to its part file."""

    @abstractmethod
    def assemble(self, parts: Sequence[Path], target: Path, selected: str | None = None) -> None:
        """Concatenate the parts, in order, into `target`; only `selected` points if given."""


def check_tile_type(tile: object, kinds: tuple[type, ...]) -> None:
    """Refuse a tile of another type than the file holds.

    Raises
    ------
    TileError
        Naming the type expected.
    """
    if not isinstance(tile, kinds):
        raise TileError(f"a {kinds[0].__name__} expected, {type(tile).__name__} given")
