"""How long a write waits: another process takes the lock of a database, again and again."""

import asyncio
import sqlite3
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Final

EACH_S: Final = 0.02
TIMEOUT_S: Final = 60.0


@asynccontextmanager
async def waits_for_lock(database: Path) -> AsyncIterator[list[float]]:
    """Take the lock of a SQLite file until the block ends; yield how long each took, in seconds."""
    waits: list[float] = []
    stop = threading.Event()
    task = asyncio.create_task(asyncio.to_thread(_take_again, database, waits, stop))
    try:
        yield waits
    finally:
        stop.set()
        await task


def _take_again(database: Path, waits: list[float], stop: threading.Event) -> None:
    with closing(sqlite3.connect(database, timeout=TIMEOUT_S, isolation_level=None)) as connection:
        while not stop.wait(EACH_S):
            began = time.perf_counter()
            connection.execute("BEGIN IMMEDIATE")
            waits.append(time.perf_counter() - began)
            connection.execute("ROLLBACK")
