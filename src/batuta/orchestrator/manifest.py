"""What an output file holds and lacks, in a JSON file next to it."""

import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from batuta.datasets.formats import POINTS
from batuta.orchestrator.contract import SavedDataset
from batuta.orchestrator.stale_outputs import earlier_files, manifest_of, remove_earlier


@dataclass
class Manifest:
    """Account of the tiles of one output file, kept up to date as they come.

    It says ``"complete": false`` from before the first tile until the last is in the file, so
    that a run that was killed is never taken for a whole product.
    """

    file: Path
    dataset_name: str
    tag: str | None
    rows: int
    cols: int
    saved: int = 0
    kept: int = 0
    """Of those saved, how many an earlier run saved (`resume`)."""
    empty: int = 0
    """Tiles that are None: there is nothing to save."""
    without_tag: int = 0
    """Tiles that do not hold the tag of this file."""
    failed: list[dict[str, Any]] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    """Names of the files that were made, once they are: several where points go by pair."""
    earlier_files: list[str] = field(default_factory=list)
    """Names of the files of an earlier run that are still there, and not of this one."""

    @classmethod
    def of(
        cls, file: str | os.PathLike[str], name: str, tag: str | None, ds: SavedDataset
    ) -> "Manifest":
        """Start the account of a file."""
        earlier = earlier_files(Path(file), by_pair=ds.dataset_type == POINTS)
        return cls(Path(file), name, tag, *ds.shape, earlier_files=earlier)

    @property
    def path(self) -> Path:
        """Where it is written."""
        return manifest_of(self.file)

    @property
    def expected(self) -> int:
        """Tiles of the grid."""
        return self.rows * self.cols

    @property
    def complete(self) -> bool:
        """Whether every tile of the grid is accounted for, and none failed."""
        return self.saved + self.empty + self.without_tag == self.expected

    def fail(self, row: int, col: int, cause: str) -> None:
        """Note that a tile is missing, and why."""
        self.failed.append({"row": row, "col": col, "cause": cause})

    def end(self, files: Iterable[Path], *, replacing: bool) -> None:
        """Note the files that were made, and remove those of an earlier run that they replace.

        Parameters
        ----------
        files : iterable of Path
            What was made. Nothing, where tiles failed, replaces nothing.
        replacing : bool
            Whether what an earlier run made may go.
        """
        self.files = sorted({path.name for path in files})
        self.earlier_files = [name for name in self.earlier_files if name not in self.files]
        if replacing and (self.files or self.complete):
            self.earlier_files = remove_earlier(self.file.parent, self.earlier_files)

    def write(self, *, ended: bool) -> None:
        """Write it, whole or not at all."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        draft = self.path.with_name(f".{self.path.name}.unfinished")
        text = json.dumps(self._content(ended=ended), indent=1) + "\n"
        try:
            draft.write_text(text, encoding="utf-8")
            draft.replace(self.path)
        except OSError:
            draft.unlink(missing_ok=True)
            raise

    def _content(self, *, ended: bool) -> dict[str, Any]:
        account = asdict(self)
        failed = sorted(account["failed"], key=lambda each: (each["row"], each["col"]))
        return {
            "file": self.file.name,
            "files": self.files,
            "earlier_files": self.earlier_files,
            "dataset": self.dataset_name,
            "tag": self.tag,
            "grid": {"rows": self.rows, "cols": self.cols},
            "tiles": {
                "expected": self.expected,
                "saved": self.saved,
                "kept": self.kept,
                "empty": self.empty,
                "without_tag": self.without_tag,
                "failed": len(failed),
            },
            "failed": failed,
            "complete": ended and self.complete,
        }
