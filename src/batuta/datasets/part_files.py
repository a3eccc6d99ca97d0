"""Files made of one part per tile: points and dicts.

Tiles come in any order and leave in the order of their grid, row by row, so that the file is the
same each time. Until then each waits in a file of its own, next to the output, so that memory
stays flat. A part is whole: it gets its name at a checkpoint, once it is on disk.
"""

import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

from batuta.datasets.durable_file import Workspace, publish, remove, sync_file, sync_folder
from batuta.datasets.errors import TileError

_DRAFT: Final = ".draft"
_PART: Final = "[0-9]*_[0-9]*"


class GatheredFile(ABC):
    """A file made of one part per tile; made by `CarsDataset.generate_descriptor`.

    A `Descriptor`.

    Parameters
    ----------
    path : path
        The file.
    resume : bool
        Whether to go on with the parts that an earlier run left.

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
        """Keep the part of the tile at `row`, `col` of the grid; a second one replaces it.

        Raises
        ------
        TileError
            If the tile is not what the file can hold.
        """
        part = self._parts / f"{row:08d}_{col:08d}"
        draft = part.with_name(part.name + _DRAFT)
        try:
            self.write_part(tile, row, col, draft)
        except BaseException:
            draft.unlink(missing_ok=True)
            self._drafts.pop(part, None)
            raise
        self._drafts[part] = draft

    def checkpoint(self) -> None:
        """Have all that was written so far outlive a killed process and a power loss."""
        for draft in self._drafts.values():
            sync_file(draft)
        self._name_drafts()
        sync_folder(self._parts)

    def _name_drafts(self) -> None:
        for part, draft in self._drafts.items():
            draft.replace(part)
        self._drafts.clear()

    def close(self, *, keep: bool = False) -> None:
        """Write the file, tiles in the order of the grid; without any tile there is no file."""
        if self._closed:
            return
        if keep:
            self.checkpoint()
        else:
            self._name_drafts()
        if parts := self.parts():
            self.outputs = tuple(self._made(parts))
        self._closed = True
        if not keep:
            self._workspace.remove()

    def suspend(self) -> None:
        """Stop, and keep the parts for a later run."""
        if not self._closed:
            self.checkpoint()
            self._closed = True

    def abandon(self) -> None:
        """Remove the parts; what was at the path of the file is as it was."""
        self._closed = True
        self._workspace.remove()

    def parts(self) -> list[Path]:
        """List the parts that are whole, in the order of the grid."""
        return sorted(each for each in self._parts.glob(_PART) if each.suffix != _DRAFT)

    def _made(self, parts: Sequence[Path]) -> Iterable[Path]:
        yield self._publish(parts, self.path)

    def _publish(self, parts: Sequence[Path], path: Path, selected: str | None = None) -> Path:
        draft = self._parts / f"unfinished{path.suffix}"
        remove(draft)
        self.gather(parts, draft, selected)
        publish(draft, path)
        return path

    @abstractmethod
    def write_part(self, tile: Any, row: int, col: int, part: Path) -> None:
        """Write one tile in a file of its own."""

    @abstractmethod
    def gather(self, parts: Sequence[Path], target: Path, selected: str | None = None) -> None:
        """Write all parts, in the order given, in `target`; or what is selected of them."""


def refuse_other_tile(name: str, tile: object, kinds: tuple[type, ...]) -> None:
    """Refuse what is not a tile of the type that a file holds.

    Raises
    ------
    TileError
        Naming the type expected.
    """
    if not isinstance(tile, kinds):
        raise TileError(f"{name}: a {kinds[0].__name__} expected, {type(tile).__name__} given")
