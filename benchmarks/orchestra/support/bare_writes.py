"""The limit of what changes many rows in small transactions: plain SQLite, synced as safely."""

import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Final

BATCH: Final = 200


def updates_s(folder: Path, rows: int) -> float:
    """Return how long it takes to update so many indexed rows, `BATCH` to a commit, in seconds."""
    with closing(sqlite3.connect(folder / "bare_writes.db", isolation_level=None)) as database:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = FULL")
        database.execute("CREATE TABLE work (id TEXT PRIMARY KEY, state TEXT, told TEXT)")
        database.execute("CREATE INDEX by_state ON work (state)")
        database.execute("BEGIN")
        names = [f"processing-{number:036}" for number in range(rows)]
        database.executemany("INSERT INTO work VALUES (?, 'waiting', '')", ((n,) for n in names))
        database.execute("COMMIT")
        began = time.perf_counter()
        for start in range(0, rows, BATCH):
            database.execute("BEGIN IMMEDIATE")
            database.executemany(
                "UPDATE work SET state = 'held' WHERE id = ?",
                ((each,) for each in names[start : start + BATCH]),
            )
            database.execute("COMMIT")
        return time.perf_counter() - began
