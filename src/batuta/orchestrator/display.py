"""How an orchestrator is displayed in a notebook: its files, the states of tiles, the failures."""

import contextlib
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from batuta.datasets.display import html_table, html_title
from batuta.orchestrator.errors import MAX_LISTED, TileFailure
from batuta.orchestrator.manifest import Manifest

_HEADER: Final = ("file", "dataset", "tiles", "saved", "kept", "empty", "failed", "state")


class OutputReport(NamedTuple):
    """What became of a file, or is to become of it."""

    path: Path
    dataset_name: str
    expected: int
    saved: int = 0
    kept: int = 0
    empty: int = 0
    failed: int = 0
    state: str = "to be computed"

    @classmethod
    def of(cls, manifest: Manifest) -> "OutputReport":
        """Return what a manifest tells, once its file is closed."""
        return cls(
            manifest.file,
            manifest.dataset_name,
            manifest.expected,
            manifest.saved,
            manifest.kept,
            manifest.empty,
            len(manifest.failed),
            "complete" if manifest.complete else "incomplete",
        )


def orchestrator_html(
    mode: str,
    out_dir: Path | None,
    outputs: Iterable[OutputReport],
    failures: Sequence[TileFailure],
) -> str:
    """Return an orchestrator as HTML."""
    where = "" if out_dir is None else f", in {short_path(out_dir)}"
    files = ((short_path(each.path), *each[1:]) for each in outputs)
    html = html_title(f"Orchestrator: {mode}{where}") + html_table(files, _HEADER)
    if not failures:
        return html
    listed = failures[:MAX_LISTED]
    rows: list[Sequence[object]] = [
        (str(each.dataset_name), each.row, each.col, each.reason) for each in listed
    ]
    if len(failures) > len(listed):
        rows.append((f"and {len(failures) - len(listed)} more", "", "", ""))
    title = f"{len(failures)} tile{'s' * (len(failures) > 1)} failed"
    return html + html_title(title) + html_table(rows, ("dataset", "row", "col", "reason"))


def short_path(path: Path) -> str:
    """Return a path as short as it is below the current folder."""
    with contextlib.suppress(OSError, ValueError):  # no current folder, or not below it
        return os.fspath(path.relative_to(Path.cwd()))
    return os.fspath(path)
