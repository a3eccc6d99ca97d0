"""The memory of a process, and of all that it started."""

import contextlib

import psutil

from batuta.process_family import descendants_of


def private_bytes_of(process: psutil.Process) -> int:
    """Return the memory of `process` that it shares with no other."""
    info = process.memory_info()
    return int(info.rss - getattr(info, "shared", 0))


def private_bytes_below(pid: int) -> int:
    """Return the private memory of the descendants of a process."""
    total = 0
    for descendant in descendants_of(pid):
        with contextlib.suppress(psutil.Error):
            total += private_bytes_of(descendant)
    return total
