"""What `batuta sdb check` takes beside `sha256sum` and a plain read of the same files.

All take turns in one run, over large files and over many of a size just too large for the
database. ``python benchmarks/bench_sdb_check.py``. What is in the page cache is read from there:
the limit is then SHA-256; give ``--folder`` and more than the memory to measure a disk.
"""

import argparse
import hashlib
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Final

import sqlalchemy as sa

from batuta.sdb import SdbSettings
from batuta.sdb.check import Check, CheckOptions
from batuta.sdb.store import object_path
from batuta.sdb.tables import MIGRATIONS, PRODUCTS
from batuta.service.database import open_database

MIB: Final = 2**20
SHAPES: Final = (("large files", 64 * MIB, 12), ("many files", 80 * 1024, 6000))
CORES: Final = str(os.cpu_count() or 1)


def main() -> None:
    """Measure, and print a row for each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="on the disk to measure")
    asked = parser.parse_args()
    for name, size, count in SHAPES:
        with tempfile.TemporaryDirectory(dir=asked.folder) as folder:
            measure(name, make_archive(Path(folder), size, count), size * count, asked.rounds)


def make_archive(folder: Path, size: int, count: int) -> SdbSettings:
    """Make an archive of `count` files that differ, each with its record."""
    settings = SdbSettings(
        database_url=f"sqlite:///{folder}/sdb.db", store_url=str(folder / "store")
    )
    block = os.urandom(size)
    rows = []
    for number in range(count):
        content = number.to_bytes(8, "big") + block[8:]
        sha256 = hashlib.sha256(content).hexdigest()
        path = folder / "store" / object_path(sha256)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        rows.append(
            {"product": "P", "obs_id": f"o{number}", "version": 1, "sha256": sha256}
            | {"size": size, "media_type": "application/octet-stream", "metadata": {}}
            | {"inputs": [], "created": datetime.now(UTC)}
        )
    with open_database(settings.database_url, MIGRATIONS) as engine, engine.begin() as connection:
        connection.execute(sa.insert(PRODUCTS), rows)
    return settings


def measure(name: str, settings: SdbSettings, total_bytes: int, rounds: int) -> None:
    """Let all take turns, and print the medians, and how the check compares in the same round."""
    store = Path(settings.store_url)
    works: dict[str, Callable[[], None]] = {
        "batuta sdb check": partial(check, settings, quick=False),
        f"sha256sum, {CORES} at a time": partial(shell, store, "sha256sum"),
        f"cat, {CORES} at a time": partial(shell, store, "cat"),
        "batuta sdb check --quick": partial(check, settings, quick=True),
    }
    times: dict[str, list[float]] = {what: [] for what in works}
    for _ in range(rounds):
        for what, work in works.items():
            start = time.perf_counter()
            work()
            times[what].append(time.perf_counter() - start)
    ours = times["batuta sdb check"]
    for what, taken in times.items():
        ratio = statistics.median(a / b for a, b in zip(taken, ours, strict=True))
        median_s = statistics.median(taken)
        print(
            f"{name}: {what}: {median_s:.2f} s, {total_bytes / MIB / median_s:,.0f} MiB/s, "
            f"{ratio:.2f} x the check's time"
        )


def check(settings: SdbSettings, *, quick: bool) -> None:
    """Check, and require that nothing is wrong."""
    if found := list(Check(settings, CheckOptions(quick=quick)).run()):
        raise SystemExit(found[0].line)


def shell(store: Path, program: str) -> None:
    """Run a program over all files, as many at a time as there are cores."""
    files = subprocess.Popen(["find", str(store), "-type", "f", "-print0"], stdout=subprocess.PIPE)
    # A few programs of many files each, and all cores busy with few large ones.
    count = sum(1 for path in store.rglob("*") if path.is_file())
    per_program = str(max(1, min(500, count // (2 * int(CORES)))))
    batches = ["xargs", "-0", "-n", per_program, "-P", CORES, program]
    subprocess.run(batches, stdin=files.stdout, stdout=subprocess.DEVNULL, check=True)
    files.wait()


if __name__ == "__main__":
    main()
