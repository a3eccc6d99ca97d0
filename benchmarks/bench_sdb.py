"""What the sdb adds to what the disk and SHA-256 cost: large files, and many small ones.

Each figure is a ratio against a bare loop on the same disk in the same run; the loops take
turns with the sdb, so that a disk that slows down slows both. ``python benchmarks/bench_sdb.py``.

The bare loop of a large file reads it, hashes it, writes it under a temporary name, has the
disk keep it and renames it: what an import does in the sdb, and an export in the client. The
bare loop of small imports writes and syncs a file and commits a row to SQLite as safely as
the sdb does, in as many threads as imports are sent at a time.
"""

import argparse
import hashlib
import os
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from threading import Lock
from typing import NamedTuple

from batuta.messaging.server import server_command
from batuta.sdb import SdbClient, SdbSettings

MIB = 2**20
AT_A_TIME = (1, 4, 16)
SERVE = (
    "import sys; from batuta.sdb import run, SdbSettings; "
    "run(SdbSettings.model_validate_json(sys.argv[1]))"
)


def main() -> None:
    """Measure, and print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size-mib", type=int, default=256, help="the large file")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--small", type=int, default=300, help="how many small files")
    parser.add_argument("--folder", type=Path, help="on the disk to measure")
    asked = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(dir=asked.folder) as name,
        serving(Path(name)) as url,
        SdbClient(url) as client,
    ):
        large_files(client, Path(name), asked.size_mib, asked.rounds)
        small_files(client, Path(name), asked.small)


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """NATS and the sdb, each its own process."""
    nats = subprocess.Popen(
        server_command(folder / "nats", 14222), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    settings = SdbSettings(
        port=0,
        nats_url="nats://127.0.0.1:14222",
        database_url=f"sqlite:///{folder}/sdb.db",
        store_url=str(folder / "store"),
    )
    sdb = subprocess.Popen(
        [sys.executable, "-c", SERVE, settings.model_dump_json()], stdout=subprocess.PIPE, text=True
    )
    try:
        yield sdb.stdout.readline().split()[-1] if sdb.stdout else ""
    finally:
        sdb.terminate()
        sdb.wait()
        nats.terminate()
        nats.wait()


def large_files(client: SdbClient, folder: Path, size_mib: int, rounds: int) -> None:
    """Import and export one large file, each round with a file of its own."""
    source, copy, bare_copy = folder / "source", folder / "copy", folder / "bare-copy"
    times: dict[str, list[float]] = {"import": [], "export": [], "bare in": [], "bare out": []}
    for number in range(rounds):
        write_new(source, size_mib)
        kept = folder / f"kept-{number}"
        times["bare in"].append(timed(partial(bare_import, source, kept)))
        times["import"].append(timed(lambda: client.import_file(source, "LARGE", "o1")))
        times["bare out"].append(timed(lambda: bare_import(source, bare_copy)))
        times["export"].append(timed(lambda: client.export("LARGE", "o1", to=copy)))
    for ours, bare in (("import", "bare in"), ("export", "bare out")):
        speed, bare_speed = (size_mib / statistics.median(times[what]) for what in (ours, bare))
        ratio = statistics.median(b / o for b, o in zip(times[bare], times[ours], strict=True))
        print(
            f"{ours} of {size_mib} MiB: {speed:.0f} MiB/s; "
            f"bare loop: {bare_speed:.0f} MiB/s; {ratio:.0%} of it"
        )


def write_new(path: Path, size_mib: int) -> None:
    """Write a file of bytes that the sdb has not seen."""
    block = os.urandom(MIB)
    with path.open("wb") as file:
        for _ in range(size_mib):
            file.write(block)
        os.fsync(file.fileno())


def small_files(client: SdbClient, folder: Path, count: int) -> None:
    """Import many files of 4 KiB, so many at a time, in turn with the bare loop."""
    paths = [folder / f"small-{number}" for number in range(count)]
    for path in paths:
        path.write_bytes(os.urandom(4096))

    def send(path: Path) -> int:
        return client.import_file(path, "SMALL", path.name).version

    for at_a_time in AT_A_TIME:
        with ThreadPoolExecutor(at_a_time) as pool, bare_database(folder) as database:
            keep = partial(bare_keep, database, folder)
            bare = count / timed(lambda pool=pool, keep=keep: list(pool.map(keep, paths)))  # type: ignore[misc]  # mypy cannot infer a lambda's default
            ours = count / timed(lambda pool=pool: list(pool.map(send, paths)))  # type: ignore[misc]  # as above
        print(
            f"4 KiB files, {at_a_time} at a time: {ours:.0f} a second; "
            f"bare loop: {bare:.0f} a second; {ours / bare:.0%} of it"
        )


def bare_import(source: Path, target: Path) -> None:
    """Read, hash, write, sync, rename: one thread, no network."""
    digest = hashlib.sha256()
    part = target.with_suffix(".part")
    with source.open("rb", buffering=0) as read, part.open("wb", buffering=0) as written:
        while piece := read.read(MIB):
            digest.update(piece)
            written.write(piece)
        os.fsync(written.fileno())
    part.replace(target)


@contextmanager
def bare_database(folder: Path) -> Iterator["BareDatabase"]:
    """A database of its own, as safe as that of the sdb."""
    path = folder / f"bare-{time.monotonic_ns()}.db"
    with closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as database:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = FULL")
        database.execute("CREATE TABLE products (name TEXT, sha256 TEXT)")
        yield BareDatabase(database, Lock())


class BareDatabase(NamedTuple):
    """One connection, which threads take turns at: they would wait longer for each other's."""

    connection: sqlite3.Connection
    lock: Lock


def bare_keep(database: BareDatabase, folder: Path, path: Path) -> None:
    """Write and sync the file at `path`, and commit a row for it."""
    content = path.read_bytes()
    with (folder / f"bare-{path.name}").open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    row = (path.name, hashlib.sha256(content).hexdigest())
    with database.lock:
        database.connection.execute("INSERT INTO products VALUES (?, ?)", row)


def timed(work: Callable[[], object]) -> float:
    """How long `work` takes, in seconds."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
