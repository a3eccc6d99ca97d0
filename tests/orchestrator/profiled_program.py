"""Tiles whose time and memory are known, to be profiled: ``python -m … OUT_DIR CONF [GATE]``."""

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from batuta.datasets import CarsDataset, CarsDict
from batuta.orchestrator import Orchestrator
from tests.support.waiting import eventually_sync

ROWS, COLS = 2, 3
SLOW = (1, 2)
"""Where `SLOW_S` is slept..."""
SLOW_S = 0.3
LARGE = (0, 1)
"""... and where `LARGE_BYTES` are held for a while."""
LARGE_BYTES = 150_000_000


def read(row: int, col: int) -> CarsDict:
    return CarsDict({"position": (row, col), "values": np.arange(20_000)})


def measure(image: CarsDict, mask: CarsDict) -> CarsDict:
    position = image["position"]
    if position == SLOW:
        time.sleep(SLOW_S)
    if position == LARGE:
        held = np.ones(LARGE_BYTES, dtype=np.uint8)
        assert held[-1]
    return CarsDict({"total": int(image["values"].sum()), "masked": len(mask.data)})


def mask() -> CarsDict:
    return CarsDict({"nothing": None})


def fail_once(folder: str) -> CarsDict:
    marker = Path(folder) / "failed"
    if marker.exists():
        return CarsDict({"well": True})
    marker.touch()
    raise ValueError("clouds")


def wait_for(gate: str) -> CarsDict:
    Path(f"{gate}.begun").touch()
    eventually_sync(Path(gate).exists, 100)
    return CarsDict({"waited": True})


def new_grid(name: str, rows: int, cols: int) -> CarsDataset:
    grid = CarsDataset("dict", name=name)
    grid.create_grid(10 * cols, 10 * rows, 10, 10)
    return grid


def heights(orchestrator: Orchestrator) -> CarsDataset:
    """Declare a grid whose tiles each take two tasks, and one that all share."""
    create = orchestrator.cluster.create_task
    grid = new_grid("heights", ROWS, COLS)
    shared = create(mask)()
    for row, col in grid.positions():
        grid[row, col] = create(measure)(create(read)(row, col), shared)
    return grid


def run_program(conf: dict[str, Any], out_dir: Path, gate: str = "") -> None:
    """Compute the grid; with a gate, then a tile that waits there."""
    with Orchestrator(conf, out_dir, progress_bar=False) as orchestrator:
        orchestrator.add_to_save_lists(out_dir / "heights.json", "", heights(orchestrator))
        orchestrator.breakpoint()
        if gate:
            waiting = new_grid("waiting", 1, 1)
            waiting[0, 0] = orchestrator.cluster.create_task(wait_for)(gate)
            orchestrator.add_to_compute_lists(waiting)


if __name__ == "__main__":
    run_program(json.loads(sys.argv[2]), Path(sys.argv[1]), *sys.argv[3:])
