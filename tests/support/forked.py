"""The workers that the forkserver of this process has started."""

from multiprocessing import forkserver
from typing import Any

import psutil


def forked_workers() -> list[psutil.Process]:
    """Return the workers of the clusters that are open: children of those that supervise them."""
    server: Any = forkserver._forkserver
    supervisors = psutil.Process(server._forkserver_pid).children()
    return [worker for each in supervisors for worker in _children(each)]


def _children(process: psutil.Process) -> list[psutil.Process]:
    try:
        return process.children()
    except psutil.NoSuchProcess:
        return []
