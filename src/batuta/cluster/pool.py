"""Worker processes, each in a Pebble pool of its own.

One pool per worker, so that nothing is shared between workers: whatever happens to one costs its
own job only, and which job a worker runs is always known.
"""

import contextlib
import inspect
import mmap
import multiprocessing
import multiprocessing.context
import queue
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psutil
from pebble import ProcessPool

from batuta.cluster.errors import ClusterError
from batuta.cluster.worker import (
    PULSE,
    JobDone,
    JobFailed,
    JobOrder,
    WorkerSetup,
    introduce,
    kill_family,
    private_ram_of,
    run_job,
    start_worker,
)

PRELOADED: Final = ("batuta.cluster.worker", "batuta.datasets", "batuta.cluster.warm")
"""What every worker needs, with numpy, pandas, xarray and rasterio behind it."""


@dataclass(frozen=True, kw_only=True)
class PoolSettings:
    """How workers are made."""

    start_method: str
    folder: str
    log_folder: str | None
    log_level: int
    preload: tuple[str, ...] = PRELOADED
    """Modules that the forkserver imports once, so that a new worker starts at once. Python has
    one forkserver for each process: the first cluster that starts workers decides."""


def modules_for(functions: Iterable[Callable[..., Any]]) -> tuple[str, ...]:
    """Name the modules that a worker imports to run `functions`."""
    modules = dict.fromkeys((*PRELOADED, *(getattr(each, "__module__", "") for each in functions)))
    # A worker runs the imports of the main script too.
    for value in vars(sys.modules["__main__"]).values():
        modules[value.__name__ if inspect.ismodule(value) else getattr(value, "__module__", "")] = (
            None
        )
    return tuple(name for name in modules if isinstance(name, str) and name not in {"", "__main__"})


def _context(settings: PoolSettings) -> multiprocessing.context.BaseContext:
    context = multiprocessing.get_context(settings.start_method)
    if settings.start_method == "forkserver":
        context.set_forkserver_preload(list(settings.preload))
    return context


class Worker:
    """One worker process, seen from the main process.

    Parameters
    ----------
    settings : PoolSettings
        How it is made.
    on_ready : callable
        Called, from another thread, with the worker and the error that kept it from starting.
    """

    def __init__(
        self, settings: PoolSettings, on_ready: Callable[["Worker", BaseException | None], None]
    ) -> None:
        self.settings = settings
        self.jobs = 0
        """How many jobs it was given."""
        self.verdict: ClusterError | None = None
        """Why it was killed, when we did it."""
        self.process: psutil.Process | None = None
        self._pulse_file = _pulse_file(settings.folder)
        with self._pulse_file.open("r+b") as stream:
            self._pulse = mmap.mmap(stream.fileno(), PULSE.size, access=mmap.ACCESS_READ)
        setup = WorkerSetup(
            folder=settings.folder,
            pulse=str(self._pulse_file),
            log_folder=settings.log_folder,
            log_level=settings.log_level,
        )
        self._pool = ProcessPool(
            max_workers=1,
            initializer=start_worker,
            initargs=(setup,),
            context=_context(settings),
        )
        self._pool.schedule(introduce).add_done_callback(
            lambda future: on_ready(self, self._introduced(future))
        )

    def _introduced(self, future: Future[int]) -> BaseException | None:
        error = future.exception()
        if error is None:
            with contextlib.suppress(psutil.NoSuchProcess):  # died at once: its job will tell
                self.process = psutil.Process(future.result())
        return error

    def run(
        self,
        order: JobOrder,
        on_done: Callable[[JobDone | JobFailed | BaseException], None],
    ) -> None:
        """Run a job; `on_done` is called, from another thread, with what became of it."""
        self.jobs += 1
        try:
            future = self._pool.schedule(run_job, args=(order, self.settings.folder))
        except RuntimeError as error:  # its process died while it had nothing to do
            on_done(error)
            return
        future.add_done_callback(lambda done: on_done(done.exception() or done.result()))

    def step(self) -> tuple[int, float]:
        """Give the step of the job that runs, -1 for none, and for how long it has run, in s."""
        step, began = PULSE.unpack_from(self._pulse)
        return step, time.monotonic() - began

    def ram_bytes(self) -> int:
        """Memory that its process shares with no other; 0 where there is none."""
        try:
            return 0 if self.process is None else private_ram_of(self.process)
        except psutil.Error:
            return 0

    def gone(self) -> bool:
        """Whether its process has ended, or its pool will answer no more."""
        if not self._pool.active:
            return True
        if self.process is None:
            return False  # it has not introduced itself yet
        try:
            return self.process.status() in {psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD}
        except psutil.NoSuchProcess:
            return True

    def kill(self, verdict: ClusterError | None = None) -> None:
        """Kill its process at once, and those that its task started."""
        self.verdict = self.verdict or verdict
        if self.process is not None:
            kill_family(self.process)

    def stop(self) -> None:
        """Ask it to end; `join` waits until it has."""
        self._pool.stop()  # type: ignore[no-untyped-call]  # Pebble left it bare

    def join(self) -> None:
        """Wait until its process and its threads have ended."""
        self.stop()
        self._pool.join()
        self._pulse.close()
        self._pulse_file.unlink(missing_ok=True)


def _pulse_file(folder: str) -> Path:
    with tempfile.NamedTemporaryFile(dir=folder, prefix="pulse-", delete=False) as stream:
        stream.write(PULSE.pack(-1, time.monotonic()))
    return Path(stream.name)


class Reaper:
    """Ends workers that are no longer needed, away from those who have work to do."""

    def __init__(self) -> None:
        self._leaving: queue.SimpleQueue[Worker | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="batuta-reaper", daemon=True)
        self._thread.start()

    def take(self, worker: Worker) -> None:
        """End this worker; its job, if it runs one, is lost."""
        worker.stop()
        self._leaving.put(worker)

    def close(self) -> None:
        """Wait until all workers taken have ended."""
        self._leaving.put(None)
        self._thread.join()

    def _run(self) -> None:
        for worker in iter(self._leaving.get, None):
            worker.join()
