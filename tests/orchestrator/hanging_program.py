"""A program that hangs in its tasks until it is interrupted: ``python -m … OUT_DIR HOW``."""

import os
import sys
from pathlib import Path
from typing import Any

from batuta.datasets import CarsDataset, CarsDict
from batuta.orchestrator import Orchestrator
from tests.cluster.functions import hang, start_programs


def mark_and_hang(folder: str, value: CarsDict) -> None:
    """Start programs, create a file named after this process, then hang."""
    assert value["blob"]
    start_programs(f"{folder}/programs-{os.getpid()}", "return")
    (Path(folder) / f"running-{os.getpid()}").touch()
    hang()


def blob() -> CarsDict:
    return CarsDict({"blob": bytes(1_000_000)})


def quick() -> CarsDict:
    return CarsDict({"quick": 1})


MULTIPROCESSING = {"mode": "multiprocessing", "factorize_tasks": False}
CONFIGURATIONS: dict[str, dict[str, Any]] = {
    "dump": {**MULTIPROCESSING, "dump_to_disk": True},
    "memory": {**MULTIPROCESSING, "dump_to_disk": False},
    "local_dask": {"mode": "local_dask"},
}


def main(out_dir: Path, how: str) -> None:
    with Orchestrator(CONFIGURATIONS[how], out_dir) as orchestrator:
        create = orchestrator.cluster.create_task
        dataset = CarsDataset("dict", name="endless")
        dataset.create_grid(3, 1, 1, 1)
        dataset[0, 0] = create(quick)()
        for col in (1, 2):
            dataset[0, col] = create(mark_and_hang)(str(out_dir), create(blob)())
        orchestrator.add_to_save_lists(out_dir / "endless.json", "", dataset)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
