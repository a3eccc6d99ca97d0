"""Memory and processor time of this process and of all that it started."""

import contextlib
import os
import threading
from types import TracebackType
from typing import Self

import psutil

PERIOD_S = 0.02


def tree_bytes() -> int:
    """Return the memory of this process and its descendants (PSS).

    A page that several processes share is divided among them, so that the sum counts it once.
    """
    processes = [psutil.Process(), *psutil.Process().children(recursive=True)]
    total = 0
    for process in processes:
        with contextlib.suppress(psutil.Error):  # it has ended since
            total += process.memory_full_info().pss
    return total


def own_bytes() -> int:
    """Return the resident memory of this process alone, which is quick to read."""
    with open("/proc/self/statm", "rb") as stream:  # noqa: PTH123 - fifty times a second
        return int(stream.read().split()[1]) * os.sysconf("SC_PAGESIZE")


def processor_s() -> float:
    """Return the processor time of this process and of all that it started, ended ones included."""
    while True:
        processes = [psutil.Process(), *psutil.Process().children(recursive=True)]
        # If one has ended since, its time now counts as its parent's: all are read again.
        with contextlib.suppress(psutil.NoSuchProcess):
            return float(sum(sum(process.cpu_times()[:4]) for process in processes))


class Peak:
    """The largest memory during a ``with`` block, sampled by a thread.

    Parameters
    ----------
    whole_tree : bool
        Whether to count the descendants too.

    Attributes
    ----------
    bytes : int
        The largest sample.
    """

    def __init__(self, *, whole_tree: bool) -> None:
        self._read = tree_bytes if whole_tree else own_bytes
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)
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

    def _sample(self) -> None:
        while True:
            self.bytes = max(self.bytes, self._read())
            if self._over.wait(PERIOD_S):
                return
