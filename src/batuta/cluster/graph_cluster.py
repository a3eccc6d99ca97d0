"""What the modes share whose tasks are declared first, planned, and computed elsewhere."""

import queue
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, Protocol

from batuta.cluster.config import CommonConfig
from batuta.cluster.contract import CreateTask, WorkerCount
from batuta.cluster.errors import ClusterError, ClusterStalledError
from batuta.cluster.futures import Run, TaskFuture, iterate_values
from batuta.cluster.task_metrics import TaskMetrics, task_number
from batuta.cluster.tasks import Delayed, check_task, declare

LOGS_FOLDER: Final = "workers_log"

_STALL_GRACE_S: Final = 1.0
"""A task killed at `per_job_timeout` ends before a cluster with the same `task_timeout` stalls."""


class Engine(Protocol):
    """What computes; its methods may be called from any thread."""

    @property
    def silence_s(self) -> float:
        """For how long no task has ended, though one could have."""

    def submit(self, run: Run) -> None:
        """Have what `run` asks for computed."""

    def taken(self, run: Run) -> None:
        """Record that an iterator took a finished future."""

    def read(self, delayed: Delayed) -> None:
        """Record that a finished result was read."""

    def taken_and_read(self, run: Run, delayed: Delayed) -> None:
        """Take both at once."""

    def close(self) -> None:
        """Compute nothing more; return when every worker has ended, and every result is gone."""


class PlannedCluster:
    """A cluster whose delayed objects are `Delayed`: it computes what leads to those asked for.

    Parameters
    ----------
    config : CommonConfig
        Checked.
    out_dir : Path or None
        The output folder.
    """

    def __init__(self, config: CommonConfig, out_dir: Path | None) -> None:
        self.out_dir = out_dir
        self.checked_conf_cluster: dict[str, Any] = config.model_dump()
        self.on_workers: Callable[[WorkerCount], None] | None = None
        """Called, by whoever iterates, when workers come or go; modes that wait for them tell."""
        self.task_metrics = TaskMetrics()
        """Where what workers measure goes."""
        self._task_timeout_s = config.task_timeout
        self._engine: Any = None

    @property
    def delayed_type(self) -> type:
        """`Delayed`."""
        return Delayed

    def task_of(self, cell: Any) -> int | None:
        """Return the number of the task that gives a tile, where tasks are told apart."""
        return task_number(cell.task) if isinstance(cell, Delayed) else None

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
        self._running().submit(run)
        return futures

    def future_iterator(self, future_list: Sequence[TaskFuture]) -> Iterator[Any]:
        """Iterate over the values of futures as they are computed, then raise what failed.

        Raises
        ------
        TaskFailedError
            After all values: that of the first task that failed, with a note for each other.
        ClusterStalledError
            When no task has ended for `task_timeout` seconds.
        """
        return iterate_values(self.as_completed(future_list), future_list)

    def as_completed(self, future_list: Sequence[TaskFuture]) -> Iterator[TaskFuture]:
        """Iterate over futures as their tasks end, failed ones included, each once.

        Raises
        ------
        ClusterStalledError
            When no task has ended for `task_timeout` seconds.
        """
        loaded = deque(dict.fromkeys(future for future in future_list if future.loaded))
        missing = _by_run(future_list)
        # While suspended, this frame refers to no future that it has yielded: its value is large.
        del future_list
        yield from _unreleased(loaded)
        for run, asked in missing.items():
            run.iterated = True
            loads = -1
            while asked:
                if loads == run.loads:
                    loads += 1
                    yield self._next_of(run, asked)
                    continue
                # Another iterator has loaded futures since, some of `asked` perhaps: to wait for
                # those would be to wait for ever.
                loads = run.loads
                loaded.extend(future for future in asked if future.loaded)
                asked.difference_update(loaded)
                yield from _unreleased(loaded)

    def _next_of(self, run: Run, missing: set[TaskFuture]) -> TaskFuture:
        """Take and read the next finished future of `missing`, setting others aside."""
        engine = self._running()
        for future in run.aside:
            if future in missing:
                run.aside.remove(future)
                future.load()
                engine.read(future.delayed)
                break
        else:
            while (future := self._next_finished(run)) not in missing:
                run.aside.append(future)
                engine.taken(run)
            future.load()
            engine.taken_and_read(run, future.delayed)
        missing.remove(future)
        run.loads += 1
        return future

    def _next_finished(self, run: Run) -> TaskFuture:
        patience_s = self._task_timeout_s + _STALL_GRACE_S
        while True:
            try:
                news = run.finished.get(timeout=max(0.0, patience_s - self._running().silence_s))
            except queue.Empty:
                if self._running().silence_s >= patience_s:
                    raise ClusterStalledError(
                        f"no task has ended for {self._task_timeout_s} s (task_timeout)"
                    ) from None
                continue
            if isinstance(news, TaskFuture):
                return news
            if self.on_workers is not None:
                self.on_workers(news)

    def _running(self) -> Engine:
        if self._engine is None:
            raise ClusterError(
                "the cluster computes nothing: it was made with launch_worker=False, or cleaned up"
            )
        engine: Engine = self._engine
        return engine


def _unreleased(futures: deque[TaskFuture]) -> Iterator[TaskFuture]:
    """Empty a queue of futures, skipping those whose value was handed over."""
    while futures:
        if futures[0].released:
            futures.popleft()
        else:
            yield futures.popleft()


def _by_run(futures: Sequence[TaskFuture]) -> dict[Run, set[TaskFuture]]:
    found: dict[Run, set[TaskFuture]] = {}
    for future in futures:
        if not future.loaded and future.run is not None:
            found.setdefault(future.run, set()).add(future)
    return found
