"""The step that every system runs: some content for a product, and its file."""

import asyncio
import hashlib
import json
import os
import time
from pathlib import Path
from typing import Final

LEVELS: Final = ("L1", "L2", "L3")
INPUT: Final = "RAW"
EVENTS: Final = "BATUTA_BENCH_EVENTS"
"""Environment variable: the named pipe that steps are reported to."""
ARCHIVE: Final = "BATUTA_BENCH_ARCHIVE"
"""Environment variable: the folder that files are written to; empty for none."""


def content_of(product: str, obs_id: str) -> bytes:
    """Return the product's file: the same trivial work for every system."""
    digest = hashlib.sha256(f"{product}/{obs_id}".encode()).hexdigest()
    return json.dumps({"product": product, "obs_id": obs_id, "digest": digest}).encode()


class Reporter:
    """Reports what happens in a worker to the benchmark, by a named pipe.

    A line is far below PIPE_BUF: writes of several processes do not mix. The clock is the same in
    all processes of a machine.
    """

    def __init__(self) -> None:
        self._pipe = os.open(os.environ[EVENTS], os.O_WRONLY)

    def report(self, kind: str, product: str, obs_id: str) -> None:
        """Report that a product has ``begun`` or is ``made``."""
        os.write(self._pipe, f"{kind} {product} {obs_id} {time.monotonic_ns()}\n".encode())


class Step:
    """The step of Restate, DBOS and Temporal, reported when it begins and when it is done."""

    def __init__(self) -> None:
        self._reporter = Reporter()
        folder = os.environ[ARCHIVE]
        self._archive = Path(folder) if folder else None

    async def make(self, product: str, obs_id: str) -> str:
        """Make a product; return its digest, so that the system has a result to keep."""
        self._reporter.report("begun", product, obs_id)
        content = content_of(product, obs_id)
        if self._archive is not None:
            path = self._archive / f"{obs_id}.{product}"
            await asyncio.to_thread(write_synced, path, content)
        self._reporter.report("made", product, obs_id)
        return hashlib.sha256(content).hexdigest()


def write_synced(path: Path, content: bytes) -> None:
    """Write a file that outlives a power cut: its bytes and its name are on the disk."""
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
