"""The manifest of an output file: a JSON file that counts the tiles it holds and lacks."""

import contextlib
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from batuta.datasets.durable_file import replace_file
from batuta.datasets.formats import POINTS
from batuta.durable_folders import create_folder
from batuta.errors import encodable
from batuta.orchestrator.contract import SavedDataset
from batuta.orchestrator.stale_outputs import manifest_path, remove_stale, stale_files


@dataclass
class Manifest:
    """The counts of the tiles of one output file, and the names of its files.

    On disk it says ``"complete": false`` from before the first tile until the last is in the
    file, so that the output of a killed run never passes for a complete product.
    """

    file: Path
    dataset_name: str
    tag: str | None
    rows: int
    cols: int
    saved: int = 0
    kept: int = 0
    """Of those saved, how many were saved by an earlier run (`resume`)."""
    empty: int = 0
    """Tiles that are None."""
    without_tag: list[dict[str, int]] = field(default_factory=list)
    """Tiles that lack the tag of this file."""
    tag_required: bool = False
    """Whether it is a mistake if no tile has the tag."""
    failed: list[dict[str, Any]] = field(default_factory=list)
    tracebacks: dict[str, str] = field(default_factory=dict)
    """Of each cause among those in `failed`, the traceback of the first tile that has it."""
    warnings: list[dict[str, Any]] = field(default_factory=list)
    """What was lost where tiles were saved, each with the first tile that lost it."""
    files: list[str] = field(default_factory=list)
    """Names of the final files: several where points are saved by pair."""
    stale_files: list[str] = field(default_factory=list)
    """Names of files of an earlier run that still exist and that this one did not make.

    Written under the key ``earlier_files``."""

    @classmethod
    def of(
        cls, file: str | os.PathLike[str], name: str, tag: str | None, ds: SavedDataset
    ) -> "Manifest":
        """Create the manifest of a file, with all counts at zero."""
        stale = stale_files(Path(file), by_pair=ds.dataset_type == POINTS)
        return cls(Path(file), name, tag, *ds.shape, stale_files=stale)

    @property
    def path(self) -> Path:
        """The path of the manifest."""
        return manifest_path(self.file)

    @property
    def expected(self) -> int:
        """Number of tiles of the grid."""
        return self.rows * self.cols

    @property
    def lacks_variable(self) -> bool:
        """Whether no tile has the tag, though there are tiles."""
        return self.tag_required and bool(self.without_tag) and not self.saved

    @property
    def complete(self) -> bool:
        """Whether every tile of the grid is accounted for, none failed, and the tag was found."""
        accounted = self.saved + self.empty + len(self.without_tag)
        return accounted == self.expected and not self.lacks_variable

    @property
    def is_empty(self) -> bool:
        """Whether there are tiles, and each is None."""
        return self.empty == self.expected > 0

    def record_without_tag(self, row: int, col: int) -> None:
        """Record that a tile lacks the tag."""
        self.without_tag.append({"row": row, "col": col})

    def record_failure(self, row: int, col: int, cause: str, traceback: str) -> None:
        """Record that a tile is missing, and why."""
        self.failed.append({"row": row, "col": col, "cause": cause})
        if traceback:
            self.tracebacks.setdefault(cause, encodable(traceback))

    def record_warning(self, row: int, col: int, warning: str) -> None:
        """Record what the file lost of a tile, unless an earlier tile lost the same."""
        if all(each["warning"] != warning for each in self.warnings):
            self.warnings.append({"row": row, "col": col, "warning": warning})

    def keep_warnings(self) -> None:
        """Take over the warnings of the earlier run whose tiles are kept."""
        with contextlib.suppress(OSError, ValueError):  # missing or damaged: nothing to keep
            content: Any = json.loads(self.path.read_text(encoding="utf-8"))
            kept = content.get("warnings") if isinstance(content, dict) else None
            for each in kept if isinstance(kept, list) else []:
                if isinstance(each, dict) and "warning" in each:
                    self.warnings.append(each)

    def set_files(self, files: Iterable[Path], *, replacing: bool) -> None:
        """Record the final files, and remove those of an earlier run that they replace.

        Parameters
        ----------
        files : iterable of Path
            The final files. None at all, where tiles failed, replace nothing.
        replacing : bool
            Whether files of an earlier run may be removed.
        """
        self.files = sorted({path.name for path in files})
        self.stale_files = [name for name in self.stale_files if name not in self.files]
        if replacing and (self.files or self.complete):
            self.stale_files = remove_stale(self.file.parent, self.stale_files)

    def write(self, *, ended: bool) -> None:
        """Write the manifest durably, whole or not at all; `ended`: its file is closed for good."""
        create_folder(self.path.parent)
        draft = self.path.with_name(f".{self.path.name}.unfinished")
        text = json.dumps(self._content(ended=ended), indent=1) + "\n"
        try:
            draft.write_text(text, encoding="utf-8")
            replace_file(draft, self.path)
        except OSError:
            draft.unlink(missing_ok=True)
            raise

    def _content(self, *, ended: bool) -> dict[str, Any]:
        failed, without_tag = (
            sorted(tiles, key=lambda each: (each["row"], each["col"]))
            for tiles in (self.failed, self.without_tag)
        )
        return {
            "file": self.file.name,
            "files": self.files,
            "earlier_files": self.stale_files,
            "dataset": self.dataset_name,
            "tag": self.tag,
            "grid": {"rows": self.rows, "cols": self.cols},
            "tiles": {
                "expected": self.expected,
                "saved": self.saved,
                "kept": self.kept,
                "empty": self.empty,
                "without_tag": len(without_tag),
                "failed": len(failed),
            },
            "without_tag": without_tag,
            "failed": failed,
            "tracebacks": self.tracebacks,
            "warnings": self.warnings,
            "complete": ended and self.complete,
        }
