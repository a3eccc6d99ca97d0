"""Runs jobs in threads, and gives their results in the order of the jobs."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from threading import Event
from typing import Final, TypeVar

T = TypeVar("T")
BUCKET_THREADS: Final = 16
"""Each waits for the network most of the time."""
_WAITING: Final = 64
"""How many jobs are handed to the threads beyond those whose results were given."""


def default_threads(*, is_folder: bool) -> int:
    """Return how many files are read at a time: one per core, or more from a bucket."""
    return (os.cpu_count() or 1) if is_folder else BUCKET_THREADS


@contextmanager
def ordered_pool(
    threads: int, stop: Event
) -> Iterator[Callable[[Iterable[Callable[[], T]]], Iterator[T]]]:
    """Yield a function that runs jobs in `threads` threads and yields their results, in order.

    `stop` is set at the end, whatever that was: a job that takes long looks at it.
    """
    pool = ThreadPoolExecutor(threads, "sdb-files")

    def run_all(jobs: Iterable[Callable[[], T]]) -> Iterator[T]:
        waiting: deque[Future[T]] = deque()
        for job in jobs:
            waiting.append(pool.submit(job))
            while len(waiting) >= _WAITING or (waiting and waiting[0].done()):
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()

    try:
        yield run_all
    finally:
        stop.set()
        pool.shutdown(cancel_futures=True)
