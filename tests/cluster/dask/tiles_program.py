"""A program whose tiles wait at a gate: ``python -m … OUT_DIR CONFIGURATION [TILES [HOW]]``.

The configuration is JSON; `HOW` is ``raise`` for a program that fails once its tiles have started.
"""

import json
import sys
from pathlib import Path
from typing import Any

from batuta.datasets import CarsDataset
from batuta.orchestrator import Orchestrator
from tests.cluster.dask.gated import Gate, gated


def compute_tiles(out_dir: Path, conf: dict[str, Any], tiles: int, *, how: str = "") -> None:
    """Compute tiles that wait at the gate of `out_dir`, and save them."""
    gate = Gate(out_dir)
    with Orchestrator(conf, out_dir) as orchestrator:
        dataset = CarsDataset("dict", name="heights")
        dataset.create_grid(tiles, 1, 1, 1)
        for _, col in dataset.positions():
            create = orchestrator.cluster.create_task
            dataset[0, col] = create(gated)(str(out_dir), f"tile-{col}")
        if how == "raise":
            futures = orchestrator.cluster.start_tasks([dataset[0, 0]])
            gate.wait_for_starts(1)
            raise ZeroDivisionError(f"in the block, {len(futures)} started")
        orchestrator.add_to_save_lists(out_dir / "heights.json", "", dataset)


if __name__ == "__main__":
    compute_tiles(
        Path(sys.argv[1]),
        json.loads(sys.argv[2]),
        int(sys.argv[3]) if len(sys.argv) > 3 else 4,
        how="".join(sys.argv[4:]),
    )
