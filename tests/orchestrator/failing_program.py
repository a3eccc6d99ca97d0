"""A program whose tiles fail, each in its own way, at one stage of their processing."""

import signal
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final

import numpy as np
import xarray as xr

from batuta.datasets import CarsDataset, TileError
from batuta.orchestrator import Observer, Orchestrator
from tests.cluster.functions import die, fail, hang, leave, leave_politely

GOOD: Final = "good"
STAGES: Final = ("first task", "second task", "shared input", "saving", "final function")

WAYS: Final[dict[str, Callable[[], Any]]] = {
    "raise": lambda: fail("no light"),
    "exit": lambda: leave(3),
    "exit politely": leave_politely,
    "kill": die,
    "hang": hang,
    "wrong type": lambda: "not a tile",
}
"""What a task does instead of its work."""

CAUSES: Final = {
    "raise": "ValueError: no light",
    "exit": "ended with code 3",
    "exit politely": "SystemExit",
    "kill": f"signal {int(signal.SIGKILL)}",
    "hang": "it ran for more than 1 s",
    "wrong type": "",
}
"""What is then said of its tile."""

COLS: Final = (*WAYS, *[GOOD] * 4)
"""What becomes of the tile in each column."""


def _act(folder: str, way: str) -> Any:
    """Fail in this way, unless the trouble is over."""
    if way != GOOD and (Path(folder) / "trouble").exists():
        return WAYS[way]()
    return None


def source(folder: str, way: str, col: int) -> Any:
    with (Path(folder) / "calls").open("a", encoding="utf-8") as stream:
        stream.write(f"{col}\n")
    return _act(folder, way) or np.full((4, 4), col)


def tile(folder: str, way: str, values: Any) -> Any:
    made = xr.Dataset({"z": (("row", "col"), values)})
    return _act(folder, way) or made


def ill_fitting(folder: str, way: str, values: Any) -> Any:
    """Return a tile that its file refuses."""
    if way == GOOD or not (Path(folder) / "trouble").exists():
        return tile(folder, GOOD, values)
    return xr.Dataset({"z": (("row", "col"), np.zeros((3, 3)))})


def final_function(orchestrator: Orchestrator, made: xr.Dataset) -> xr.Dataset:
    """Refuse the tiles of columns that fail."""
    col = int(made["z"].to_numpy()[0, 0])
    if COLS[col] != GOOD and (Path(str(orchestrator.out_dir)) / "trouble").exists():
        raise TileError(f"column {col} is not wanted")
    return made


def declare(orchestrator: Orchestrator, tiles: CarsDataset, stage: str) -> None:
    create, folder = orchestrator.cluster.create_task, str(orchestrator.out_dir)
    for col, way in enumerate(COLS):
        shared = create(source)(
            folder, way if stage in {"first task", "shared input"} else GOOD, col
        )
        function = ill_fitting if stage == "saving" else tile
        later = way if stage in {"second task", "saving"} else GOOD
        tiles[0, col] = create(function)(folder, later, shared)
        tiles[1, col] = create(tile)(
            folder, GOOD, shared if stage == "shared input" else np.full((4, 4), col)
        )
    if stage == "final function":
        tiles.final_function = final_function


def run_program(
    out_dir: Path, conf: dict[str, Any], stage: str, observers: Iterable[Observer] = ()
) -> Orchestrator:
    """Save two rows of tiles; return the orchestrator."""
    with Orchestrator(conf, out_dir, observers=observers) as orchestrator:
        tiles = CarsDataset("arrays", name="tiles")
        tiles.create_grid(4 * len(COLS), 8, 4, 4)
        declare(orchestrator, tiles, stage)
        orchestrator.add_to_save_lists(out_dir / "tiles.tif", "z", tiles, nodata=-1)
    return orchestrator
