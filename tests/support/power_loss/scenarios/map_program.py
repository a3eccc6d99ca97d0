"""A map of a raster to a cloud-optimised GeoTIFF and a Zarr group, which can be killed."""

from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from batuta.datasets import SaveOptions
from batuta.tiling import TiledOutput, map_tiles
from tests.orchestrator.resumable_program import Killer

ROWS: Final = 200
COLS: Final = 300
TILE: Final = 130
BLOCK_PX: Final = 128
"""Of the GeoTIFF: tiles fill some of its blocks, and share others."""


def halved(values: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Return what each output gets."""
    return values / 2, values + 1


def run_map(out_dir: Path, *, resume: bool, kill_after: int | None = None) -> None:
    """Make both outputs; the process ends after so many tiles."""
    pixels = np.random.default_rng(17).random((ROWS, COLS))
    cloud = SaveOptions(cloud_optimized=True, block_px=BLOCK_PX, compression="deflate")
    map_tiles(
        halved,
        pixels,
        out=[
            TiledOutput(path=out_dir / "halves.tif", options=cloud),
            TiledOutput(path=out_dir / "more.zarr"),
        ],
        tile=TILE,
        mode="sequential",
        resume=resume,
        out_dir=out_dir / "run",
        observers=[Killer(out_dir, kill_after, 0)],
    )


def contents(out_dir: Path) -> dict[str, bytes]:
    """Return the files of both outputs, by their paths."""
    group = out_dir / "more.zarr"
    paths = [out_dir / "halves.tif", *(each for each in group.rglob("*") if each.is_file())]
    return {str(each.relative_to(out_dir)): each.read_bytes() for each in paths}
