"""Log files that others write to without end: bounded, and read from their end."""

import asyncio
import contextlib
import logging
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

LOG: Final = logging.getLogger(__name__)

MB: Final = 2**20
CHECK_INTERVAL_S: Final = 2.0
CHUNK_BYTES: Final = 2**18
TAIL_BYTES: Final = 2**16


@asynccontextmanager
async def bounded_log(path: Path, max_bytes: int) -> AsyncIterator[None]:
    """Keep the file at `path` at about `max_bytes` while the block runs, and once at its end."""
    ended = asyncio.Event()
    checking = asyncio.create_task(_keep_bounded(path, max_bytes, ended))
    try:
        yield
    finally:
        # Not cancelled: its thread would go on, and two cuts at once lose the end of the log.
        ended.set()
        await asyncio.wait([checking])


async def _keep_bounded(path: Path, max_bytes: int, ended: asyncio.Event) -> None:
    """Cut the log every `CHECK_INTERVAL_S`, and once more after `ended`."""
    more = True
    while more:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CHECK_INTERVAL_S):
                await ended.wait()
        more = not ended.is_set()
        await asyncio.to_thread(_cut, path, max_bytes)


def _cut(path: Path, max_bytes: int) -> None:
    try:
        cut_log(path, max_bytes)
    except OSError as exc:  # a full disk: whoever writes the log goes on, and it is tried again
        LOG.warning("%s: cannot be cut to %d bytes: %s", path, max_bytes, exc)


def cut_log(path: Path, max_bytes: int) -> None:
    """Cut the middle out of a log of more than `max_bytes`; its first and last quarter stay.

    Its writers have opened it for appending: they go on at its new end. What they write during
    the cut may be lost with the middle.
    """
    try:
        if path.stat().st_size <= max_bytes:
            return
    except FileNotFoundError:
        return
    part = max_bytes // 4
    with path.open("r+b") as log:
        size = log.seek(0, os.SEEK_END)
        if size <= max_bytes:  # its writer has emptied it meanwhile
            return
        log.seek(size - part)
        tail = log.read(part)
        log.truncate(part)
    with path.open("ab") as log:
        log.write(b"\n[log cut: %d bytes left out]\n" % (size - 2 * part) + tail)


def last_line(path: Path) -> str:
    """Return the last line of a log that is not blank; empty if there is none."""
    try:
        with path.open("rb") as log:
            log.seek(max(0, log.seek(0, os.SEEK_END) - TAIL_BYTES))
            lines = log.read().decode(errors="replace").splitlines()
    except FileNotFoundError:
        return ""
    return next((line.strip() for line in reversed(lines) if line.strip()), "")


def read_chunks(path: Path, start: int, end: int) -> Iterator[bytes]:
    """Yield the bytes from `start` to `end` of a file, padded if it was cut meanwhile."""
    with path.open("rb") as log:
        log.seek(start)
        left = end - start
        while left > 0:
            chunk = log.read(min(CHUNK_BYTES, left)) or b"\n" * min(CHUNK_BYTES, left)
            left -= len(chunk)
            yield chunk
