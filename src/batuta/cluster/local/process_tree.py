"""Processes with those that they started."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import psutil


def children_of(pid: int) -> list[int]:
    """List the processes that the main thread of `pid` started and that are there.

    Where the system lists them (Linux, proc(5)), that takes microseconds; elsewhere all processes
    are looked through.
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


def _family_of(pid: int) -> Iterator[psutil.Process]:
    """Walk what `pid` started, and what that started."""
    for child in children_of(pid):
        with contextlib.suppress(psutil.NoSuchProcess):
            yield psutil.Process(child)
        yield from _family_of(child)


def private_ram_of(process: psutil.Process) -> int:
    """Memory of `process` that it shares with no other, in bytes."""
    info = process.memory_info()
    return int(info.rss - getattr(info, "shared", 0))


def private_ram_of_family(process: psutil.Process) -> int:
    """Memory of `process` and of all that it started, in bytes."""
    held = private_ram_of(process)
    for child in _family_of(process.pid):
        with contextlib.suppress(psutil.Error):
            held += private_ram_of(child)
    return held


def kill_children() -> None:
    """Kill what this process started."""
    for child in list(_family_of(os.getpid())):
        with contextlib.suppress(psutil.Error):  # gone, or not ours to kill
            child.kill()


def kill_family(process: psutil.Process) -> None:
    """Kill a process at once, after those that it started."""
    with contextlib.suppress(psutil.Error):
        for child in process.children(recursive=True):
            with contextlib.suppress(psutil.Error):
                child.kill()
    with contextlib.suppress(psutil.Error):
        process.kill()
