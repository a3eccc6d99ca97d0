"""Results that were asked for: futures, and the run that they belong to."""

import queue
from collections.abc import Sequence
from typing import Any

from batuta.cluster.contract import WorkerCount
from batuta.cluster.errors import ClusterError
from batuta.cluster.tasks import Delayed


class TaskFuture:
    """The result of a task that was started; given by `start_tasks`."""

    __slots__ = ("_error", "_value", "delayed", "loaded", "run")

    def __init__(self, delayed: Delayed, run: "Run") -> None:
        self.delayed = delayed
        self.run = run
        self.loaded = False
        """Whether an iterator has given it."""
        self._value: Any = None
        self._error: BaseException | None = None

    def fail(self, error: BaseException) -> None:
        """Note why there is no result."""
        self._error = error

    def load(self) -> None:
        """Read the result, which may be freed afterwards."""
        self.loaded = True
        if self._error is not None or self.delayed.stored is None:
            return
        try:
            self._value = self.delayed.stored.load()
        except Exception as exc:  # noqa: BLE001 - a result that cannot be read is a failed task
            self._error = exc

    def result(self) -> Any:
        """Return the result.

        Raises
        ------
        TaskFailedError
            With its root cause, if there is none.
        ClusterError
            If `future_iterator` has not given it yet.
        """
        if self._error is not None:
            raise self._error
        if not self.loaded:
            raise ClusterError(f"{self.delayed!r} is not there: take it from future_iterator")
        return self._value


class Run:
    """What one call of `start_tasks` asked for."""

    def __init__(self, wanted: Sequence[Delayed]) -> None:
        self.futures = {delayed: TaskFuture(delayed, self) for delayed in wanted}
        """Those that are not finished: a finished one belongs to whoever asked for it."""
        self.finished: queue.SimpleQueue[TaskFuture | WorkerCount] = queue.SimpleQueue()
        """And what is told of the workers, to whoever iterates."""
        self.aside: list[TaskFuture] = []
        """Finished, and given to an iterator that did not ask for them."""
        self.iterated = False
        self.untaken = 0
        """Finished, and not yet taken by an iterator."""
        self.jobs_left = 0

    def finish(self, delayed: Delayed, error: BaseException | None = None) -> None:
        """Hand over the future of `delayed`, if it was asked for."""
        future = self.futures.pop(delayed, None)
        if future is None:
            return
        if error is not None:
            future.fail(error)
        self.untaken += 1
        self.finished.put(future)
