"""Handing a tile of 64 MiB from one task to the next, against one write of its bytes.

Run with ``disk|memory FOLDER``, it prints the time from the end of the first task, its tile made,
to the start of the second one.
"""

import os
import sys
import time
from pathlib import Path
from typing import Final

import numpy as np
import xarray as xr

from batuta.orchestrator import Orchestrator
from benchmarks.orchestrator.support.tiles import TAG, as_tile
from benchmarks.support.figures import Figure, Target
from benchmarks.support.measure import (
    FOLDER,
    Result,
    Subject,
    best,
    print_result,
    take_turns,
)

SIDE_PX: Final = 4096
HANDOVERS: Final = 8
SHARED_MEMORY: Final = Path("/dev/shm")  # noqa: S108 - the reference is a tmpfs


def tile() -> xr.Dataset:
    """Return 64 MiB, every page of them in memory."""
    return as_tile(np.full((SIDE_PX, SIDE_PX), 1.5, dtype=np.float32))


def make() -> xr.Dataset:
    """First task: a tile, and when it was ready."""
    made = tile()
    made.attrs["ready"] = time.monotonic()
    return made


def receive(made: xr.Dataset) -> tuple[float, float]:
    """Second task: how long the tile took to arrive, and then to be read, in s."""
    arrived = time.monotonic()
    made[TAG].to_numpy().max()
    return arrived - made.attrs["ready"], time.monotonic() - arrived


def plain_write_s(path: Path) -> float:
    """Write the same bytes to a new file."""
    values = tile()[TAG].to_numpy()
    begun = time.monotonic()
    with path.open("xb", buffering=0) as stream:
        stream.write(values.data.cast("B"))
    took_s = time.monotonic() - begun
    path.unlink()
    return took_s


def main(where: str, folder: Path) -> None:
    """Alternate handovers and plain writes."""
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
            delayed = cluster.create_task(receive)(cluster.create_task(make)())
            for handed, read in cluster.future_iterator(cluster.start_tasks([delayed])):
                handed_s.append(handed)
                read_s.append(read)
            written_s.append(plain_write_s(plain))
    # The first one includes what libraries do when first used.
    print_result(time_s=min(handed_s[1:]), read_s=min(read_s[1:]), written_s=min(written_s[1:]))


KINDS = {
    "memory": "through shared memory",
    "disk": "through disk",
}


def figures(*, quick: bool) -> list[Figure]:
    """Compare both places with a plain write to the same place."""
    subjects = {where: Subject("handover", (where, FOLDER)) for where in KINDS}
    results = take_turns(subjects, 1 if quick else 3)
    return [_line(kind, results[where]) for where, kind in KINDS.items()]


def _line(kind: str, results: list[Result]) -> Figure:
    handed_s, written_s = best(results), best(results, "written_s")
    return Figure(
        what=f"handing over 64 MiB {kind}",
        measured=f"{handed_s * 1e3:.1f} ms (then read: {best(results, 'read_s') * 1e3:.1f} ms)",
        against=f"a plain write: {written_s * 1e3:.1f} ms",
        ratio=handed_s / written_s,
        target=Target("at most", 1.5),
    )


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
