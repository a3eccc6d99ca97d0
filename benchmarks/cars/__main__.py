"""CARS on its own orchestrator and on Batuta: the time of a whole run, and what it makes.

Run by the environment of ``make install-cars``, from the root of the project:
``.venv-peers/bin/python -m benchmarks.cars [--repeat N] [--only NAME ...]``.
"""

import argparse
import ctypes
import os
import resource
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import rasterio

from benchmarks.cars.real import BATUTA, PAIR, SEQUENTIAL, STOCK, TWO_WORKERS, cars, make_inputs

NO_PROFILER: Final = Path(__file__).parent / "no_profiler"


@dataclass(frozen=True)
class Variant:
    """One way to run CARS."""

    name: str
    program: Sequence[str]
    conf: Mapping[str, Any]
    profiler: bool = True


VARIANTS: Final = (
    Variant("CARS, sequential", STOCK, SEQUENTIAL),
    Variant("CARS, sequential, profiler off", STOCK, SEQUENTIAL, profiler=False),
    Variant("CARS, 2 workers", STOCK, TWO_WORKERS),
    Variant("CARS, 2 workers, profiler off", STOCK, TWO_WORKERS, profiler=False),
    Variant("Batuta, sequential", BATUTA, SEQUENTIAL),
    Variant("Batuta, 2 workers", BATUTA, TWO_WORKERS),
)
"""The first is the reference of all DSM."""


@dataclass
class Times:
    """Of the runs of a variant, in s: on the clock, and of all cores for all its processes."""

    wall_s: list[float] = field(default_factory=list)
    cpu_s: list[float] = field(default_factory=list)


def adopt_orphans() -> None:
    """Become the parent of workers whose own has ended, so that their time is counted."""
    set_child_subreaper = 36
    if ctypes.CDLL(None).prctl(set_child_subreaper, 1, 0, 0, 0) != 0:
        sys.exit("prctl: this system does not let orphans be adopted")


def cpu_s_so_far() -> float:
    """Wait for every process left by what was run; give the time of all since the start."""
    try:
        while True:
            os.waitpid(-1, 0)
    except ChildProcessError:
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        return usage.ru_utime + usage.ru_stime


def run(variant: Variant, inputs: Path, out: Path, times: Times) -> None:
    """Run it once, and note the time that it took."""
    environment = dict(os.environ)
    if not variant.profiler:
        environment["PYTHONPATH"] = str(NO_PROFILER)
    began, cpu_before = time.monotonic(), cpu_s_so_far()
    with cars(variant.program, inputs, out, variant.conf, environment) as process:
        said, _ = process.communicate()
        if process.returncode != 0:
            sys.exit(f"{variant.name} failed:\n{said}")
    times.wall_s.append(time.monotonic() - began)
    times.cpu_s.append(cpu_s_so_far() - cpu_before)


def difference(made: Path, reference: Path) -> str:
    """Say how a DSM differs from another."""
    one, other = made / "dsm" / "dsm.tif", reference / "dsm" / "dsm.tif"
    if one.read_bytes() == other.read_bytes():
        return "same bytes"
    with rasterio.open(one) as left, rasterio.open(other) as right:
        gap = np.abs(left.read(1, masked=True) - right.read(1, masked=True))
    return f"{int((gap > 0).sum())} pixels, {1000 * float(gap.max()):.2f} mm at most"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeat", type=int, default=1, help="runs of each; the best counts")
    parser.add_argument("--only", nargs="+", default=[], help="parts of the names of what to run")
    arguments = parser.parse_args()
    if not PAIR.is_dir():
        sys.exit(f"not measured: the pair of images is not there: {PAIR}")
    chosen = [
        each
        for each in VARIANTS
        if not arguments.only or any(part in each.name for part in arguments.only)
    ]
    adopt_orphans()
    with tempfile.TemporaryDirectory(prefix="bench-cars-") as folder:
        inputs = make_inputs(Path(folder))
        times = {variant.name: Times() for variant in chosen}
        # Interleaved, so that what else the machine does is shared by all.
        for turn in range(arguments.repeat):
            for rank, variant in enumerate(chosen):
                out = Path(folder) / f"run-{turn}-{rank}"
                run(variant, inputs, out, times[variant.name])
        print_table(times, Path(folder))


def print_table(times: Mapping[str, Times], folder: Path) -> None:
    """Print the best time of each, and what it made."""
    reference, *_ = (min(each.wall_s) for each in times.values())
    print("| run | s | of the first | s of all cores | its DSM |\n|---|---|---|---|---|")
    for rank, (name, each) in enumerate(times.items()):
        dsm = difference(folder / f"run-0-{rank}", folder / "run-0-0")
        wall_s, cpu_s = min(each.wall_s), min(each.cpu_s)
        print(f"| {name} | {wall_s:.0f} | {wall_s / reference:.2f} | {cpu_s:.0f} | {dsm} |")


if __name__ == "__main__":
    main()
