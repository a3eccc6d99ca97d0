"""Runs of CARS itself, for the tests and the benchmark: the pair, and how CARS is started."""

import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np
import rasterio
import yaml
from rasterio.transform import from_origin

PAIR: Final = Path(__file__).parents[3] / "shared" / "data" / "stereo"
GROUND_M: Final = 2328.0
"""A height of the place: without one CARS takes sea level, and the footprints do not meet."""

STOCK: Final = ("-c", "from cars.cars import main; main()")
BATUTA: Final = ("-m", "batuta.compat.cars")
SEQUENTIAL: Final = {"mode": "sequential"}
TWO_WORKERS: Final = {"mode": "multiprocessing", "nb_workers": 2}


def make_inputs(folder: Path) -> Path:
    """Put the pair in a folder, and flat ground under it."""
    for name in ("img_01.tif", "img_02.tif"):
        shutil.copy(PAIR / name, folder)
    step, side = 1 / 1200, 1440
    with rasterio.open(
        folder / "flat.tif",
        "w",
        driver="GTiff",
        height=side,
        width=side,
        count=1,
        dtype="float32",
        crs="EPSG:4326",
        transform=from_origin(55.05, -20.63, step, step),
    ) as raster:
        raster.write(np.full((1, side, side), GROUND_M, dtype=np.float32))
    return folder


@contextmanager
def cars(
    program: Sequence[str],
    inputs: Path,
    out: Path,
    conf: Mapping[str, Any],
    environment: Mapping[str, str] | None = None,
) -> Iterator[subprocess.Popen[str]]:
    """Start CARS in a session of its own: a signal to its group reaches its workers too."""
    content = {
        "input": {
            "sensors": {
                "left": {"image": str(inputs / "img_01.tif")},
                "right": {"image": str(inputs / "img_02.tif")},
            },
            "pairing": [["left", "right"]],
            "initial_elevation": {"dem": str(inputs / "flat.tif")},
        },
        "orchestrator": dict(conf),
        "output": {"directory": str(out)},
    }
    path = out.with_suffix(".yaml")
    path.write_text(yaml.safe_dump(content))
    with subprocess.Popen(
        [sys.executable, *program, "--logtype", "plain", "--loglevel", "INFO", str(path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=None if environment is None else dict(environment),
        text=True,
        start_new_session=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()
