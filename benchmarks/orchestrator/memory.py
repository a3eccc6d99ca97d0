"""Memory of a process and all those under it, each page counted once (PSS)."""

import contextlib
import os
import threading
from types import TracebackType
from typing import Self

import psutil

PERIOD_S = 0.02


def tree_bytes() -> int:
    """Give the memory of this process and its descendants.

    A page that several processes share is divided among them, so that the sum counts it once.
    """
    processes = [psutil.Process(), *psutil.Process().children(recursive=True)]
    total = 0
    for process in processes:
        with contextlib.suppress(psutil.Error):  # it ended meanwhile
            total += process.memory_full_info().pss
    return total


def own_bytes() -> int:
    """Give the resident memory of this process; quick, as it asks for no other."""
    with open("/proc/self/statm", "rb") as stream:  # noqa: PTH123 - fifty times a second
        return int(stream.read().split()[1]) * os.sysconf("SC_PAGESIZE")


class Peak:
    """Watches memory from a thread, inside a ``with`` block.

    Parameters
    ----------
    whole_tree : bool
        Whether to look at the descendants too.

    Attributes
    ----------
    bytes : int
        The most that was seen.
    """

    def __init__(self, *, whole_tree: bool) -> None:
        self._look = tree_bytes if whole_tree else own_bytes
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.bytes = 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while True:
            self.bytes = max(self.bytes, self._look())
            if self._over.wait(PERIOD_S):
                return
