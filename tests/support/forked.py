"""The workers that the forkserver of this process has started."""

from multiprocessing import forkserver
from typing import Any

import psutil


def forked_workers() -> list[psutil.Process]:
    """Return the running children of the forkserver: the workers of the clusters that are open."""
    server: Any = forkserver._forkserver
    return psutil.Process(server._forkserver_pid).children()
