"""What `batuta sdb backup` takes beside ``cp -a`` of the same files, synced to the disk.

A first backup, one that finds all files there, and a restore, in turns with the copy in one run,
over large files and over many small ones; then of records alone, as many as ``--records``.
``python benchmarks/bench_sdb_backup.py``; give ``--folder`` to measure another disk.
"""

import argparse
import shutil
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
from batuta.sdb.backup import BackupOptions, RestoreOptions, restore_backup, take_backup
from batuta.sdb.check import Finding
from batuta.sdb.tables import CONTENTS, MIGRATIONS, PRODUCTS
from batuta.service.database import open_database
from benchmarks.bench_sdb_check import MIB, SHAPES, make_archive

COPY: Final = "cp -a and sync"


def main() -> None:
    """Measure, and print a row for each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--records", type=int, default=100_000)
    parser.add_argument("--folder", type=Path, help="on the disk to measure")
    asked = parser.parse_args()
    for name, size, count in SHAPES:
        with tempfile.TemporaryDirectory(dir=asked.folder) as folder:
            settings = make_archive(Path(folder), size, count)
            measure(name, settings, Path(folder), size * count, asked.rounds)
    with tempfile.TemporaryDirectory(dir=asked.folder) as folder:
        measure_records(Path(folder), asked.records)


def measure(name: str, settings: SdbSettings, folder: Path, total_bytes: int, rounds: int) -> None:
    """Let all take turns, and print the medians, and how each compares in the same round."""
    works: dict[str, Callable[[], object]] = {
        COPY: partial(copy_files, Path(settings.store_url), folder / "copy"),
        "batuta sdb backup": partial(back_up, settings, folder / "backup"),
        "the next one": partial(back_up, settings, folder / "backup"),
        "batuta sdb restore": partial(restore, folder / "backup", folder / "restored"),
    }
    times: dict[str, list[float]] = {what: [] for what in works}
    for _ in range(rounds):
        for what, work in works.items():
            start = time.perf_counter()
            work()
            times[what].append(time.perf_counter() - start)
        for each in ("copy", "backup", "restored"):
            shutil.rmtree(folder / each)
    for what, taken in times.items():
        ratio = statistics.median(a / b for a, b in zip(taken, times[COPY], strict=True))
        median_s = statistics.median(taken)
        print(
            f"{name}: {what}: {median_s:.2f} s, {total_bytes / MIB / median_s:,.0f} MiB/s, "
            f"{ratio:.2f} x the time of {COPY}"
        )


def measure_records(folder: Path, count: int) -> None:
    """Back up records of small files, which are in the database, and restore them."""
    settings = SdbSettings(
        database_url=f"sqlite:///{folder}/sdb.db", store_url=str(folder / "store")
    )
    (folder / "store" / "sha256").mkdir(parents=True)
    now = datetime.now(UTC)
    with open_database(settings.database_url, MIGRATIONS) as engine, engine.begin() as connection:
        for start in range(0, count, 10_000):
            numbers = range(start, min(start + 10_000, count))
            connection.execute(
                sa.insert(PRODUCTS),
                [
                    {"product": f"P{number % 30}", "obs_id": f"o{number}", "version": 1}
                    | {"sha256": f"{number:064x}", "size": 100, "media_type": "text/plain"}
                    | {"metadata": {"exposure_s": number}, "inputs": [], "created": now}
                    for number in numbers
                ],
            )
            connection.execute(
                sa.insert(CONTENTS),
                [{"sha256": f"{number:064x}", "content": bytes(100)} for number in numbers],
            )
    for what, work in (
        ("backup", partial(back_up, settings, folder / "backup")),
        ("restore", partial(restore, folder / "backup", folder / "restored")),
    ):
        started = time.perf_counter()
        work()
        duration_s = time.perf_counter() - started
        print(f"{count:,} records: {what}: {duration_s:.1f} s, {count / duration_s:,.0f} a second")


def copy_files(store: Path, to: Path) -> None:
    """Copy a folder as one would by hand, and wait until it is on the disk."""
    subprocess.run(["cp", "-a", str(store), str(to)], check=True)
    subprocess.run(["sync", "--file-system", str(to)], check=True)


def back_up(settings: SdbSettings, to: Path) -> None:
    """Take a snapshot."""
    take_backup(settings, BackupOptions(destination=str(to)), give_up)


def restore(backup: Path, to: Path) -> None:
    """Restore the newest snapshot."""
    to.mkdir()
    settings = SdbSettings(database_url=f"sqlite:///{to}/sdb.db", store_url=str(to / "store"))
    restore_backup(settings, RestoreOptions(source=str(backup)), give_up)


def give_up(finding: Finding) -> None:
    """Require that nothing is missing."""
    raise SystemExit(finding.line)


if __name__ == "__main__":
    main()
