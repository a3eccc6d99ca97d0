"""Handing a 64 MB tile from one task to the next: ``disk|memory FOLDER``.

The time is from the end of the first task, its tile in its hands, to the start of the next.
"""

import os
import sys
import time
from pathlib import Path
from typing import Final

import numpy as np
import xarray as xr

from batuta.orchestrator import Orchestrator
from benchmarks.orchestrator.measure import tell
from benchmarks.orchestrator.tiles import TAG, as_tile

SIDE_PX: Final = 4096
HANDOVERS: Final = 8
SHARED_MEMORY: Final = Path("/dev/shm")  # noqa: S108 - the reference is a tmpfs


def tile() -> xr.Dataset:
    """Make 64 MiB, every page of them there."""
    return as_tile(np.full((SIDE_PX, SIDE_PX), 1.5, dtype=np.float32))


def give() -> xr.Dataset:
    """First task: a tile that says when it was ready."""
    made = tile()
    made.attrs["ready"] = time.monotonic()
    return made


def take(made: xr.Dataset) -> tuple[float, float]:
    """Second task: how long the tile took to come, and to be read once it was there, in s."""
    came = time.monotonic()
    made[TAG].to_numpy().max()
    return came - made.attrs["ready"], time.monotonic() - came


def plain_write_s(path: Path) -> float:
    """Write the same bytes to a new file, and nothing more."""
    values = tile()[TAG].to_numpy()
    begun = time.monotonic()
    with path.open("xb", buffering=0) as stream:
        stream.write(values.data.cast("B"))
    took_s = time.monotonic() - begun
    path.unlink()
    return took_s


def main(where: str, folder: Path) -> None:
    """Alternate handing over and plain writes."""
    conf = {
        "mode": "multiprocessing",
        "nb_workers": 2,
        "dump_to_disk": where == "disk",
        "factorize_tasks": False,
        "max_tasks_per_worker": 10**6,
    }
    plain = (folder if where == "disk" else SHARED_MEMORY) / f"bench-{os.getpid()}"
    handed_s, read_s, written_s = [], [], []
    with Orchestrator(conf, folder) as orchestrator:
        cluster = orchestrator.cluster
        for _ in range(HANDOVERS):
            delayed = cluster.create_task(take)(cluster.create_task(give)())
            for handed, read in cluster.future_iterator(cluster.start_tasks([delayed])):
                handed_s.append(handed)
                read_s.append(read)
            written_s.append(plain_write_s(plain))
    # The first one includes what libraries do when first used.
    tell(time_s=min(handed_s[1:]), read_s=min(read_s[1:]), written_s=min(written_s[1:]))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
