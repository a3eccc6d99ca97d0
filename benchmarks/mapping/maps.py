"""Slope, smoothed NDVI and zonal statistics of whole rasters: time and memory, all included.

Run with ``SIDE PROGRAM FOLDER PIXELS``, it makes the result of one side and prints what it took,
from the first import on.
"""

import hashlib
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Final, Self

import psutil

from benchmarks.mapping.library_sides import LIBRARY_SIDES
from benchmarks.mapping.programs import INPUTS, Array, write_inputs
from benchmarks.mapping.sides import SIDES
from benchmarks.support.figures import Figure, Target
from benchmarks.support.measure import Result, Subject, best, print_result, take_turns

MB: Final = 1e6
ALL_SIDES: Final = {**SIDES, **LIBRARY_SIDES}
PEERS: Final = ("loop", "pool", "dask", *LIBRARY_SIDES)


class PeakMemory:
    """Looks at the memory of this process and all that it started, ten times a second.

    Of pages that several processes share, each counts its part (PSS).
    """

    def __init__(self) -> None:
        self.peak_bytes = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _look(self) -> None:
        this = psutil.Process()
        while not self._ended.wait(0.1):
            held = 0
            for process in (this, *this.children(recursive=True)):
                try:
                    held += process.memory_full_info().pss
                except psutil.Error:
                    continue  # it has ended
            self.peak_bytes = max(self.peak_bytes, held)


def figures(*, quick: bool) -> list[Figure]:
    """Compare the three programs with what is written by hand, and with dask."""
    side_px, turns = (4096, 2) if quick else (12_288, 3)
    lines: list[Figure] = []
    with tempfile.TemporaryDirectory(prefix="bench-maps-") as folder:
        write_inputs(Path(folder), side_px)
        for program in INPUTS:
            subjects = {
                side: Subject(
                    "maps", (side, program, folder, str(side_px)), package="benchmarks.mapping"
                )
                for side in ALL_SIDES
                # odc-geo writes rasters; sums are those of xarray.
                if (side, program) != ("odc-geo", "zonal")
            }
            results = take_turns(subjects, turns)
            _check_same(program, results)
            lines += _lines(program, results)
    return lines


def _check_same(program: str, results: dict[str, list[Result]]) -> None:
    found = {result["digest"] for each in results.values() for result in each}
    # Sums of floats depend on their order.
    if program != "zonal" and len(found) > 1:
        raise RuntimeError(f"{program}: the results differ: {results}")


def _lines(program: str, results: dict[str, list[Result]]) -> list[Figure]:
    own_s, own_mb = best(results["batuta"]), best(results["batuta"], "peak_mb")
    lines = []
    for peer in (*PEERS, "batuta, tiles as others"):
        if peer not in results:
            continue
        other_s, other_mb = best(results[peer]), best(results[peer], "peak_mb")
        target = Target("at most", 1.0) if peer in {"pool", "dask", "xarray", "eoscale"} else None
        lines += [
            Figure(
                what=f"{program}, in all",
                measured=f"{own_s:.2f} s",
                against=f"{peer}: {other_s:.2f} s",
                ratio=own_s / other_s,
                target=target,
            ),
            Figure(
                what=f"{program}, peak memory",
                measured=f"{own_mb:.0f} MB",
                against=f"{peer}: {other_mb:.0f} MB",
                ratio=own_mb / other_mb,
                target=target,
            ),
        ]
    return lines


def main() -> None:
    """Run one side."""
    side, program, folder, side_px = sys.argv[1:]
    with PeakMemory() as memory:
        begun = time.perf_counter()
        total = ALL_SIDES[side](Path(folder), program, int(side_px))
        took_s = time.perf_counter() - begun
    pixels = _pixels(Path(folder)) if total is None else total
    print_result(
        time_s=took_s,
        peak_mb=memory.peak_bytes / MB,
        digest=hashlib.sha256(pixels.tobytes()).hexdigest(),
    )


def _pixels(folder: Path) -> Array:
    import rasterio  # noqa: PLC0415 - after what is measured

    with rasterio.open(folder / "out.tif") as raster:
        pixels: Array = raster.read(1)
    return pixels


if __name__ == "__main__":
    main()
