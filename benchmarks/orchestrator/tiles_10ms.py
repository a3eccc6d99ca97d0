"""Thousands of short tiles on dask: how near to what the cores can do."""

import os
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

from benchmarks.orchestrator.figures import Figure, not_measured
from benchmarks.orchestrator.measure import FOLDER, Subject, best, take_turns
from benchmarks.orchestrator.run_tiles_10ms import TILE_S
from tools.slurm import INSTALL, LocalSlurm, missing_programs

WORKERS = 2
WHAT = "tiles of 10 ms, end to end"


def figures(*, quick: bool) -> list[Figure]:
    """Compare two workers with the time that the tiles take on two cores."""
    tiles = 500 if quick else 5000
    lines = []
    for mode in ("multiprocessing", "local_dask", "slurm_dask"):
        if mode == "slurm_dask" and missing_programs():
            lines.append(not_measured(f"{mode}: {tiles} {WHAT}", INSTALL))
            continue
        lines += _task_metrics(mode, tiles, 1 if quick else 3)
    return lines


def _task_metrics(mode: str, tiles: int, turns: int) -> list[Figure]:
    with TemporaryDirectory(prefix="bench-") as folder, _environment(mode, Path(folder)):
        subject = Subject("run_tiles_10ms", (mode, str(tiles), FOLDER))
        results = take_turns({mode: subject}, turns)[mode]
    ideal_s = tiles * TILE_S / WORKERS
    parts = {"time_s": WHAT, "running_s": "the same, from the first tile on"}
    return [
        Figure(
            what=f"{mode}: {tiles} {words}",
            measured=f"{best(results, key):.2f} s",
            against=f"two cores: {ideal_s:.2f} s",
            ratio=best(results, key) / ideal_s,
        )
        for key, words in parts.items()
    ]


def _environment(mode: str, folder: Path) -> AbstractContextManager[object]:
    """Have a Slurm of its own run while the mode is measured that needs one."""
    if mode != "slurm_dask":
        return nullcontext()
    return _Slurm(folder / "slurm")


class _Slurm:
    """A Slurm that the programs of this process find."""

    def __init__(self, folder: Path) -> None:
        self._slurm = LocalSlurm(folder)
        self._patch = patch.dict(os.environ)

    def __enter__(self) -> None:
        self._slurm.start()
        self._patch.start()
        os.environ.update(self._slurm.environment)

    def __exit__(self, *_: object) -> None:
        self._patch.stop()
        self._slurm.stop()
