"""A program that fills its disk."""

from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from batuta.datasets import CarsDataset, CarsDict
from batuta.orchestrator import Orchestrator

TILES = 40


def small(col: int) -> xr.Dataset:
    return xr.Dataset({"z": (("row", "col"), np.full((4, 4), col))})


def blob() -> CarsDict:
    """Return a result of 8 MB."""
    return CarsDict({"blob": np.zeros(8_000_000, dtype=np.uint8)})


def size(tile: CarsDict) -> CarsDict:
    return CarsDict({"size": len(tile["blob"])})


def text(col: int, big_from: int) -> CarsDict:
    """Return a note, of 1 MB in its file from column `big_from` on."""
    return CarsDict({"text": "x" * (1_000_000 if col >= big_from else 10)})


def run_program(out_dir: Path, conf: dict[str, Any], what: str, big_from: int = 10) -> None:
    """Save 40 small tiles, then 40 notes.

    Parameters
    ----------
    out_dir : Path
        Where all goes.
    conf : dict
        Of the orchestrator.
    what : str
        ``results``: what one task hands to the next is large; ``outputs``: the notes are.
    big_from : int
        The first note that is large.
    """
    with Orchestrator(conf, out_dir) as orchestrator:
        create = orchestrator.cluster.create_task
        rasters, notes = CarsDataset("arrays", name="rasters"), CarsDataset("dict", name="notes")
        for dataset in (rasters, notes):
            dataset.create_grid(4 * TILES, 4, 4, 4)
        for col in range(TILES):
            rasters[0, col] = create(small)(col)
            if what == "results" and col >= big_from:
                notes[0, col] = create(size)(create(blob)())
            else:
                notes[0, col] = create(text)(col, big_from)
        orchestrator.add_to_save_lists(out_dir / "rasters.tif", "z", rasters)
        orchestrator.add_to_save_lists(out_dir / "notes.json", "", notes)
