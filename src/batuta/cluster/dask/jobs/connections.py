"""Which workers are connected to dask's scheduler, and until when others were."""

import math
import time
from collections.abc import Collection
from typing import Any, ClassVar

from distributed.diagnostics.plugin import SchedulerPlugin


class WorkerConnections(SchedulerPlugin):
    """Knows of every connection, also of a worker that comes and goes between two polls.

    All methods run in the event loop of dask.
    """

    name: ClassVar[str] = "batuta-worker-connections"

    def __init__(self) -> None:
        self._names: dict[str, str] = {}
        """Of workers that are connected, by their addresses."""
        self._left: dict[str, float] = {}
        """When those left that are not, by their names."""

    def add_worker(self, scheduler: Any, worker: str) -> None:
        """Record a worker that has connected: dask calls it."""
        name = str(scheduler.workers[worker].name)
        self._names[worker] = name
        self._left[name] = math.inf

    def remove_worker(self, scheduler: Any, worker: str, **_: Any) -> None:  # noqa: ARG002 - dask's
        """Record that a worker has left: dask calls it."""
        name = self._names.pop(worker, None)
        if name is not None:
            self._left[name] = time.monotonic()

    def have_connected(self, names: Collection[str]) -> bool:
        """Return whether any of some workers has ever connected."""
        return any(name in self._left for name in names)

    def disconnected_s(self, names: Collection[str]) -> float:
        """Return for how long none of some workers was connected: for ever, if none has been."""
        left = max((self._left.get(name, -math.inf) for name in names), default=-math.inf)
        return 0.0 if left == math.inf else time.monotonic() - left

    def forget(self, names: Collection[str]) -> None:
        """Forget workers that will not come back."""
        for name in names:
            self._left.pop(name, None)
