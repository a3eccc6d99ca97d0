"""A process with its descendants: their memory, and their end."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import psutil


def children_of(pid: int) -> list[int]:
    """List the living processes that the main thread of `pid` started.

    Where the system lists them (Linux, proc(5)), that takes microseconds; elsewhere all processes
    are searched.
    """
    try:
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii")
    except FileNotFoundError:
        with contextlib.suppress(psutil.Error):
            return [child.pid for child in psutil.Process(pid).children()]
        return []
    except ProcessLookupError:  # it ended while it was read
        return []
    return [int(each) for each in text.split()]


def _descendants_of(pid: int) -> Iterator[psutil.Process]:
    for child in children_of(pid):
        with contextlib.suppress(psutil.NoSuchProcess):
            yield psutil.Process(child)
        yield from _descendants_of(child)


def private_bytes_of(process: psutil.Process) -> int:
    """Return the memory of `process` that it shares with no other."""
    info = process.memory_info()
    return int(info.rss - getattr(info, "shared", 0))


def private_bytes_of_tree(process: psutil.Process) -> int:
    """Return the private memory of `process` and of its descendants."""
    total = private_bytes_of(process)
    for child in _descendants_of(process.pid):
        with contextlib.suppress(psutil.Error):
            total += private_bytes_of(child)
    return total


def kill_descendants() -> None:
    """Kill the descendants of this process."""
    for child in list(_descendants_of(os.getpid())):
        with contextlib.suppress(psutil.Error):  # it has ended, or runs as another user
            child.kill()


def kill_tree(process: psutil.Process) -> None:
    """Kill a process and its descendants.

    The descendants first: once the process is dead they are children of init, and no longer found.
    """
    with contextlib.suppress(psutil.Error):
        for child in process.children(recursive=True):
            with contextlib.suppress(psutil.Error):
                child.kill()
    with contextlib.suppress(psutil.Error):
        process.kill()
