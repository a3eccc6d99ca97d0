"""A program that can be killed, and started again: ``main([OUT_DIR, CONF, HOW])``, in JSON.

Each task appends to the file ``calls``, and each tile that is handed over to ``delivered``.
"""

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from batuta.datasets import CarsDataset, CarsDict, SaveOptions, fill_dataset
from batuta.orchestrator import (
    Event,
    Orchestrator,
    RunStarted,
    TileDone,
    TilesFailedError,
    update_saving_infos,
)

ROWS, COLS, TILE = 100, 170, 32
GRID = (4, 6)
TILES = GRID[0] * GRID[1]

OUTPUTS = ("plain.tif", "flags.tif", "packed.tif", "points.parquet", "points.csv", "notes.json")
DATASETS = ("heights", "points", "notes")


def called(folder: str, what: str, row: int, col: int) -> None:
    """Leave a trace; a line this short is appended whole, whoever else writes."""
    with (Path(folder) / "calls").open("a", encoding="utf-8") as stream:
        stream.write(f"{what} {row} {col}\n")


def first(folder: str, row: int, col: int, gain: float) -> Any:
    called(folder, "first", row, col)
    if (Path(folder) / f"fail_{row}_{col}").exists():
        raise ValueError("no light")
    values = np.random.default_rng(row * 100 + col).random((2 * TILE, 2 * TILE))
    return values * gain


def second(folder: str, values: Any, place: dict[str, Any], info: dict[str, Any]) -> xr.Dataset:
    called(folder, "second", info["cars_ds_row"], info["cars_ds_col"])
    rows = place["row_max"] - place["row_min"]
    cols = place["col_max"] - place["col_min"]
    tile = xr.Dataset({"height": (("row", "col"), values[:rows, :cols])})
    if info["cars_ds_col"] % 2:
        tile["flag"] = (("row", "col"), (values[:rows, :cols] > 1).astype(np.uint8))
    fill_dataset(tile, saving_info=info, window=place)
    return tile


def to_points(folder: str, tile: xr.Dataset, row: int, col: int) -> pd.DataFrame | None:
    called(folder, "points", row, col)
    if (row, col) == (1, 1):
        return None
    z = tile["height"].to_numpy()[0, :3]
    return pd.DataFrame({"row": [row] * len(z), "col": [col] * len(z), "z": z})


def to_note(folder: str, tile: xr.Dataset, row: int, col: int) -> CarsDict:
    called(folder, "note", row, col)
    return CarsDict({"mean": float(tile["height"].mean()), "place": {"row": row, "col": col}})


class Killer:
    """Ends its own process, with no warning: when enough tiles were handed over, or in time."""

    def __init__(self, folder: Path, kill_after: int | None, kill_within_s: float) -> None:
        self._trace = folder / "delivered"
        self._left = kill_after
        self._within_s = kill_within_s

    def on_event(self, event: Event) -> None:
        """Count the tiles."""
        if isinstance(event, RunStarted) and self._within_s:
            signal.setitimer(signal.ITIMER_REAL, self._within_s)  # Python is not asked
        if not isinstance(event, TileDone):
            return
        with self._trace.open("a", encoding="utf-8") as stream:
            stream.write(f"{event.dataset_name} {event.row} {event.col}\n")
        if self._left is not None:
            self._left -= 1
            if self._left == 0:
                os.kill(os.getpid(), signal.SIGKILL)


def run_program(out_dir: Path, conf: dict[str, Any], **how: Any) -> None:
    """Make heights, points and notes, in six files.

    Parameters
    ----------
    out_dir : Path
        Where they go.
    conf : dict
        Of the orchestrator.
    how
        ``gain``: a parameter of the first task; ``kill_after``: how many tiles to hand over
        before the process ends; ``kill_within_s``: how long it has; ``tile``: side of a tile;
        ``nodata``: of the heights; ``observers``. The first task of a tile
        fails where there is a file ``fail_<row>_<col>``.
    """
    killer = Killer(out_dir, how.get("kill_after"), how.get("kill_within_s", 0))
    with Orchestrator(conf, out_dir, observers=[killer, *how.get("observers", ())]) as orchestrator:
        heights = CarsDataset("arrays", name="heights")
        heights.create_grid(COLS, ROWS, how.get("tile", TILE), TILE)
        points, notes = CarsDataset("points", name="points"), CarsDataset("dict", name="notes")
        for each in (points, notes):
            each.create_empty_copy(heights)
        declare(orchestrator, str(out_dir), (heights, points, notes), how)
        save(orchestrator, out_dir, (heights, points, notes), how.get("nodata", -1))


def declare(
    orchestrator: Orchestrator, folder: str, datasets: tuple[CarsDataset, ...], how: dict[str, Any]
) -> None:
    heights, points, notes = datasets
    create = orchestrator.cluster.create_task
    (info,) = orchestrator.get_saving_infos([heights])
    for row, col in heights.positions():
        place, known = heights.get_window_as_dict(row, col), update_saving_infos(info, row, col)
        raw = create(first)(folder, row, col, how.get("gain", 2.0))
        heights[row, col] = create(second)(folder, raw, place, known)
        points[row, col] = create(to_points)(folder, heights[row, col], row, col)
        notes[row, col] = create(to_note)(folder, heights[row, col], row, col)


def save(
    orchestrator: Orchestrator, out_dir: Path, datasets: tuple[CarsDataset, ...], nodata: float
) -> None:
    heights, points, notes = datasets
    add = orchestrator.add_to_save_lists
    add(out_dir / "plain.tif", "height", heights, nodata=nodata)
    add(out_dir / "flags.tif", "flag", heights, dtype="uint8", nodata=255, optional_data=True)
    packed = SaveOptions(compression="deflate")
    add(out_dir / "packed.tif", "height", heights, nodata=-1, options=packed)
    add(out_dir / "points.parquet", "", points)
    add(out_dir / "points.csv", "", points)
    add(out_dir / "notes.json", "", notes)


def main(arguments: list[str]) -> int:
    out_dir, conf, how = Path(arguments[0]), json.loads(arguments[1]), json.loads(arguments[2])
    try:
        run_program(out_dir, conf, **how)
    except TilesFailedError as exc:
        sys.stderr.write(f"{exc}\n")
        return 3
    return 0
