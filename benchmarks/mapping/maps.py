"""Slope, smoothed NDVI and zonal statistics of whole rasters: time and memory, all included.

Run with ``SIDE PROGRAM FOLDER PIXELS``, it makes the result of one side and prints what it took,
from the first import on.
"""

import hashlib
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

import numpy as np
import psutil

from benchmarks.mapping.library_sides import LIBRARY_SIDES
from benchmarks.mapping.programs import INPUTS, Array, write_inputs
from benchmarks.mapping.sides import SIDES
from benchmarks.support.figures import Figure, Target
from benchmarks.support.measure import Result, Subject, best, print_result, take_turns

MB: Final = 1e6
HERE: Final = "--here"
TOTAL: Final = "total.npy"
ALL_SIDES: Final = {**SIDES, **LIBRARY_SIDES}
PEERS: Final = ("loop", "pool", "dask", *LIBRARY_SIDES)


def _peak_bytes(process: "subprocess.Popen[str]") -> int:
    """Return the most memory that a process and all that it started held until its end.

    It is looked at ten times a second, from outside: a thread that looked would be one that its
    program does not have. Of pages that several processes share, each counts its part (PSS).
    """
    peak_bytes = 0
    while process.poll() is None:
        held = 0
        try:
            family = [psutil.Process(process.pid)]
            family += family[0].children(recursive=True)
        except psutil.Error:
            break  # it has ended
        for each in family:
            try:
                held += each.memory_full_info().pss
            except psutil.Error:
                continue
        peak_bytes = max(peak_bytes, held)
        time.sleep(0.1)
    return peak_bytes


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
    """Run one side, in a process whose memory is looked at."""
    if sys.argv[1] == HERE:
        _run_here(*sys.argv[2:])
        return
    command = [sys.executable, "-m", "benchmarks.mapping.maps", HERE, *sys.argv[1:]]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        peak_bytes = _peak_bytes(process)
        printed = process.stdout.read() if process.stdout is not None else ""
    if process.returncode != 0:
        sys.exit(process.returncode)
    print_result(
        **json.loads(printed.splitlines()[-1]),
        peak_mb=peak_bytes / MB,
        digest=hashlib.sha256(_result(Path(sys.argv[3])).tobytes()).hexdigest(),
    )


def _run_here(side: str, program: str, folder: str, side_px: str) -> None:
    (Path(folder) / TOTAL).unlink(missing_ok=True)
    begun = time.perf_counter()
    total = ALL_SIDES[side](Path(folder), program, int(side_px))
    took_s = time.perf_counter() - begun
    if total is not None:
        np.save(Path(folder) / TOTAL, total)
    print_result(time_s=took_s)


def _result(folder: Path) -> Array:
    """Return what a side has made: a raster, or an array of sums."""
    if (folder / TOTAL).exists():
        total: Array = np.load(folder / TOTAL)
        return total
    import rasterio  # noqa: PLC0415 - a side imports it while it is measured

    with rasterio.open(folder / "out.tif") as raster:
        pixels: Array = raster.read(1)
    return pixels


if __name__ == "__main__":
    main()
