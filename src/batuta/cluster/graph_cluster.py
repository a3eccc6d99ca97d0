"""What the modes share whose tasks are first declared as a graph, then computed by an engine."""

import queue
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, Final, Protocol

from batuta.cluster.config import CommonConfig
from batuta.cluster.contract import CreateTask, WorkerCount
from batuta.cluster.errors import ClusterError, ClusterStalledError
from batuta.cluster.futures import Computation, TaskFuture, iterate_values
from batuta.cluster.task_metrics import TaskMetrics, task_number
from batuta.cluster.tasks import Delayed, check_task, declare
from batuta.cluster.tile_activity import TileStart
from batuta.cluster.unsendable import check_function

_STALL_GRACE_S: Final = 1.0
"""A task killed at `per_job_timeout` ends before a cluster with the same `task_timeout` stalls."""


class Engine(Protocol):
    """What schedules tasks on workers; its methods may be called from any thread."""

    @property
    def silence_s(self) -> float:
        """For how long no task has ended, though one could have."""

    def submit(self, computation: Computation) -> None:
        """Schedule what `computation` asks for, after the computations submitted before."""

    def delivered(self, computation: Computation) -> None:
        """Record that an iterator took a future out of the queue of `computation`."""

    def read(self, delayed: Delayed) -> None:
        """Record that the value of a finished future was read: its stored result may be freed."""

    def delivered_and_read(self, computation: Computation, delayed: Delayed) -> None:
        """Record both at once."""

    def close(self) -> None:
        """Stop computing; return when every worker has ended and every result is freed."""


class GraphCluster:
    """A cluster whose delayed objects are `Delayed`: it computes what those asked for depend on.

    Parameters
    ----------
    config : CommonConfig
        Already checked.
    out_dir : Path or None
        The output folder.
    """

    _main_by_value: ClassVar[bool] = False
    """Whether all of the main script goes to workers by value."""

    def __init__(self, config: CommonConfig, out_dir: Path | None) -> None:
        self.out_dir = out_dir
        self.checked_conf_cluster: dict[str, Any] = config.as_dict()
        self.on_workers: Callable[[WorkerCount], None] | None = None
        """Called in the iterating thread when workers come or go, by the modes whose number of
        workers changes."""
        self.on_tile_start: Callable[[TileStart], None] | None = None
        """Called in the iterating thread when a worker was found to have begun a tile, by the modes
        that look at what their workers run."""
        self.task_metrics = TaskMetrics()
        """Receives what workers measure of the tasks that they run."""
        self._task_timeout_s = config.task_timeout
        self._engine: Any = None

    @property
    def delayed_type(self) -> type:
        """`Delayed`."""
        return Delayed

    def task_of(self, cell: Any) -> int | None:
        """Return the number of the task that computes a tile; None for what is no task's."""
        return task_number(cell.task) if isinstance(cell, Delayed) else None

    def create_task(self, func: Callable[..., Any], nout: int = 1) -> CreateTask:
        """Return a function that declares a task.

        A worker imports `func` by its name; what it does not find by name is sent to it whole.

        Raises
        ------
        ConfigurationError
            Naming the variable of `func` that cannot be sent, such as an open file.
        """
        check_task(func, nout)
        check_function(func, main_by_value=self._main_by_value)
        return lambda *args, **kwargs: declare(func, args, kwargs, nout)

    def start_tasks(self, task_list: Sequence[Delayed]) -> list[TaskFuture]:
        """Start computing `task_list` and what it depends on; stored results are not recomputed."""
        for task in task_list:
            if not isinstance(task, Delayed):
                raise ClusterError(
                    f"a {type(task).__name__} given, delayed objects of create_task expected"
                )
        computation = Computation(task_list)
        # Listed before it is submitted: the engine removes futures from it as they end.
        futures = [computation.futures[delayed] for delayed in task_list]
        self._require_engine().submit(computation)
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
        missing = _by_computation(future_list)
        # While suspended, this frame refers to no future that it has yielded: its value is large.
        del future_list
        yield from _unreleased(loaded)
        for computation, asked in missing.items():
            computation.iterated = True
            loads = -1
            while asked:
                if loads == computation.loads:
                    loads += 1
                    yield self._next_of(computation, asked)
                    continue
                # Another iterator has loaded futures since, perhaps some of `asked`: these are no
                # longer in the queue, and waiting for them would never end.
                loads = computation.loads
                loaded.extend(future for future in asked if future.loaded)
                asked.difference_update(loaded)
                yield from _unreleased(loaded)

    def _next_of(self, computation: Computation, asked: set[TaskFuture]) -> TaskFuture:
        """Load and return the next future of `asked` that ends, setting others aside.

        The value is read before the engine hears of it, for the engine then frees what is stored.
        A delivery and a reading go in one message: each may have to wake the engine's thread.
        """
        engine = self._require_engine()
        for future in computation.set_aside:
            if future in asked:
                computation.set_aside.remove(future)
                future.load()
                engine.read(future.delayed)
                break
        else:
            while (future := self._next_finished(computation)) not in asked:
                computation.set_aside.append(future)
                engine.delivered(computation)
            future.load()
            engine.delivered_and_read(computation, future.delayed)
        asked.remove(future)
        computation.loads += 1
        return future

    def _next_finished(self, computation: Computation) -> TaskFuture:
        """Wait for the next future of the queue, for as long as tasks end now and then.

        Raises
        ------
        ClusterStalledError
            When no task has ended for `task_timeout` seconds.
        """
        patience_s = self._task_timeout_s + _STALL_GRACE_S
        while True:
            # Tasks of other computations, or inner tasks, may end while this one waits: so the
            # wait is bounded by how long the whole engine has been silent, and measured anew.
            wait_s = max(0.0, patience_s - self._require_engine().silence_s)
            try:
                event = computation.finished.get(timeout=wait_s)
            except queue.Empty:
                if self._require_engine().silence_s >= patience_s:
                    raise ClusterStalledError(
                        f"no task has ended for {self._task_timeout_s} s (task_timeout)"
                    ) from None
                continue
            if isinstance(event, TaskFuture):
                return event
            if isinstance(event, TileStart):
                if self.on_tile_start is not None:
                    self.on_tile_start(event)
            elif self.on_workers is not None:
                self.on_workers(event)

    def _require_engine(self) -> Engine:
        if self._engine is None:
            raise ClusterError(
                "the cluster computes nothing: it was made with launch_worker=False, or cleaned up"
            )
        engine: Engine = self._engine
        return engine


def _unreleased(futures: deque[TaskFuture]) -> Iterator[TaskFuture]:
    """Empty a queue of loaded futures, skipping those whose value was handed over."""
    while futures:
        if futures[0].released:
            futures.popleft()
        else:
            yield futures.popleft()


def _by_computation(futures: Sequence[TaskFuture]) -> dict[Computation, set[TaskFuture]]:
    """Group the futures that are not loaded by the computation that they belong to."""
    found: dict[Computation, set[TaskFuture]] = {}
    for future in futures:
        if not future.loaded and future.computation is not None:
            found.setdefault(future.computation, set()).add(future)
    return found
