"""Helpers of the tests of resume: run the program in a subprocess, and read what it left."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.orchestrator.resumable_program import DATASETS, OUTPUTS
from tests.support.checkout import PYTHON_PATH

Contents = dict[str, bytes]
TilePlace = tuple[str, int, int]


def contents(folder: Path) -> Contents:
    return {name: (folder / name).read_bytes() for name in OUTPUTS}


def run_in_subprocess(out_dir: Path, conf: dict[str, Any], **how: Any) -> int:
    """Run the program in a process of its own; return its exit code."""
    # Not as a script: its tasks would be those of another module.
    program = (
        "import sys; from tests.orchestrator.resumable_program import main;"
        " sys.exit(main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", program, str(out_dir)]
    done = subprocess.run(
        [*command, json.dumps(conf), json.dumps(how)],
        check=False,
        capture_output=True,
        timeout=100,
        env={**os.environ, "PYTHONPATH": PYTHON_PATH},
    )
    assert done.returncode <= 0, done.stderr.decode()
    return done.returncode


def journaled_tiles(out_dir: Path) -> list[TilePlace]:
    """List the tiles that the journals hold."""
    found = []
    for rank, name in enumerate(DATASETS):
        path = out_dir / ".resume" / f"0001-{rank:04d}" / "journal"
        lines = (
            [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
        )
        found += [(name, line["row"], line["col"]) for line in lines if "row" in line]
    return found


def read_and_remove(path: Path) -> list[tuple[str, int, int]]:
    """Return the traces that a run left, and remove them."""
    if not path.exists():
        return []
    lines = [line.split() for line in path.read_text().splitlines()]
    path.unlink()
    return [(name, int(row), int(col)) for name, row, col in lines]


def manifest(out_dir: Path, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out_dir / f"{name}.manifest.json").read_text())
    return found
