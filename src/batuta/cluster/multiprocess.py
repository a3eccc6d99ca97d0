"""Tasks in processes of this machine."""

import logging
import queue
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, Final

from batuta.cluster.config import CommonConfig, MultiprocessingConfig
from batuta.cluster.contract import CreateTask
from batuta.cluster.errors import ClusterError, ClusterStalledError
from batuta.cluster.pool import PoolSettings
from batuta.cluster.runs import Run, TaskFuture
from batuta.cluster.scheduler import Scheduler
from batuta.cluster.store import ResultStore, private_temporary_folder, put
from batuta.cluster.tasks import Delayed, Scattered, check_task, declare
from batuta.cluster.watch import Limits

RESULTS_FOLDER: Final = "tmp_save_disk"
LOGS_FOLDER: Final = "workers_log"

_STALL_GRACE_S: Final = 1.0
"""A task killed at `per_job_timeout` ends before a cluster with the same `task_timeout` stalls."""


class MultiprocessingCluster:
    """Workers are processes, each renewed and watched on its own."""

    config_model: ClassVar[type[CommonConfig]] = MultiprocessingConfig

    def __init__(
        self, config: MultiprocessingConfig, out_dir: Path | None, *, launch_worker: bool = True
    ) -> None:
        self.config = config
        self.out_dir = out_dir
        self.checked_conf_cluster: dict[str, Any] = config.model_dump()
        self._scattered: list[Scattered] = []
        self._engine: _Engine | None = _Engine(config, out_dir) if launch_worker else None

    @property
    def delayed_type(self) -> type:
        """`Delayed`."""
        return Delayed

    def create_task(self, func: Callable[..., Any], nout: int = 1) -> CreateTask:
        """Declare; the function is called in a worker, which imports it by its name."""
        check_task(func, nout)
        return lambda *args, **kwargs: declare(func, args, kwargs, nout)

    def start_tasks(self, task_list: Sequence[Delayed]) -> list[TaskFuture]:
        """Start what is needed to compute `task_list`; results that are ready are not redone."""
        strangers = [task for task in task_list if not isinstance(task, Delayed)]
        if strangers:
            raise ClusterError(
                f"a {type(strangers[0]).__name__} given, delayed objects of create_task expected"
            )
        run = Run(task_list)
        futures = [run.futures[delayed] for delayed in task_list]
        self._running().scheduler.submit(run)
        return futures

    def future_iterator(self, future_list: Sequence[TaskFuture]) -> Iterator[TaskFuture]:
        """Give futures as they end.

        Raises
        ------
        ClusterStalledError
            When no task has ended for `task_timeout` seconds.
        """
        yield from [future for future in future_list if future.loaded]
        missing = _by_run(future_list)
        del future_list  # nothing here may hold a future that was given: its value is large
        for run, asked in missing.items():
            run.iterated = True
            while asked:
                yield self._next_of(run, asked)

    def _next_of(self, run: Run, missing: set[TaskFuture]) -> TaskFuture:
        """Take and read the next finished future of `missing`, setting others aside."""
        scheduler = self._running().scheduler
        for future in run.aside:
            if future in missing:
                run.aside.remove(future)
                future.load()
                scheduler.read(future.delayed)
                break
        else:
            while (future := self._next_finished(run)) not in missing:
                run.aside.append(future)
                scheduler.taken(run)
            future.load()
            scheduler.taken_and_read(run, future.delayed)
        missing.remove(future)
        return future

    def _next_finished(self, run: Run) -> TaskFuture:
        patience_s = self.config.task_timeout + _STALL_GRACE_S
        while True:
            silence_s = time.monotonic() - self._running().scheduler.last_end
            try:
                future = run.finished.get(timeout=max(0.0, patience_s - silence_s))
            except queue.Empty:
                if time.monotonic() - self._running().scheduler.last_end >= patience_s:
                    raise ClusterStalledError(
                        f"no task has ended for {self.config.task_timeout} s (task_timeout)"
                    ) from None
            else:
                return future

    def scatter(self, data: Any) -> Scattered:
        """Write `data` once, for every task to map."""
        scattered = Scattered(data, put(data, str(self._running().store.folder)))
        self._scattered.append(scattered)
        return scattered

    def cleanup(self) -> None:
        """Kill the workers, remove the results; tasks can be declared but not started any more."""
        engine, self._engine = self._engine, None
        if engine is not None:
            engine.close()
        for scattered in self._scattered:
            scattered.stored = None

    def _running(self) -> "_Engine":
        if self._engine is None:
            raise ClusterError(
                "the cluster computes nothing: it was made with launch_worker=False, or cleaned up"
            )
        return self._engine


def _by_run(futures: Sequence[TaskFuture]) -> dict[Run, set[TaskFuture]]:
    found: dict[Run, set[TaskFuture]] = {}
    for future in futures:
        if future.loaded:
            continue
        found.setdefault(future.run, set()).add(future)
    return found


class _Engine:
    """What a launched cluster holds: the folder of results, and the scheduler with its workers."""

    def __init__(self, config: MultiprocessingConfig, out_dir: Path | None) -> None:
        self.store = ResultStore(_results_parent(config, out_dir))
        self._hand_store = ResultStore(None) if config.dump_to_disk else self.store
        # A program that ends without cleaning up leaves no file all the same.
        self._removals = [
            weakref.finalize(self, store.close) for store in (self.store, self._hand_store)
        ]
        self.scheduler = Scheduler(
            PoolSettings(
                start_method=config.mp_mode,
                folder=str(self.store.folder),
                hand_folder=str(self._hand_store.folder),
                log_folder=_log_folder(out_dir),
                log_level=logging.getLogger("batuta").getEffectiveLevel(),
            ),
            Limits(
                nb_workers=config.nb_workers,
                job_timeout_s=config.per_job_timeout,
                ram_mb=config.max_ram_per_worker,
                max_jobs=config.max_tasks_per_worker,
            ),
            fuse=config.factorize_tasks,
        )
        self.scheduler.start()

    def close(self) -> None:
        try:
            self.scheduler.close()
        finally:
            for remove in self._removals:
                remove()


def _results_parent(config: MultiprocessingConfig, out_dir: Path | None) -> Path | None:
    if not config.dump_to_disk:
        return None
    if out_dir is None:
        return private_temporary_folder(RESULTS_FOLDER)
    return out_dir / RESULTS_FOLDER


def _log_folder(out_dir: Path | None) -> str | None:
    if out_dir is None:
        return None
    folder = out_dir / LOGS_FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    return str(folder.resolve())
