"""Futures, the computation that they belong to, and the iteration over their values."""

import copy
import queue
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from batuta.cluster.contract import Future, WorkerCount
from batuta.cluster.errors import ClusterError, ClusterStalledError
from batuta.cluster.remote_error import failed_here
from batuta.cluster.tasks import Delayed
from batuta.cluster.tile_activity import TileStart


class TaskFuture:
    """The result of one delayed object that `start_tasks` was called with.

    Parameters
    ----------
    delayed : Delayed
        Or the data itself, where tasks run when they are created.
    computation : Computation or None
        The one that it belongs to, where an engine computes; None where this process does.
    """

    __slots__ = ("_error", "_value", "computation", "delayed", "loaded", "released")

    def __init__(self, delayed: Any, computation: "Computation | None" = None) -> None:
        self.delayed = delayed
        self.computation = computation
        self.loaded = False
        """Whether the value, or the error, is here."""
        self.released = False
        """Whether the value was handed over and dropped."""
        self._value: Any = None
        self._error: BaseException | None = None

    def fail(self, error: BaseException) -> None:
        """Record why there is no value."""
        self._error = error

    def set_value(self, value: Any) -> None:
        """Record the value."""
        self._value = value
        self.loaded = True

    def load(self) -> None:
        """Read the value from where the worker stored it, which may be freed afterwards."""
        self.loaded = True
        if self._error is not None or self.delayed.stored is None:
            return
        try:
            self._value = self.delayed.stored.load()
        except (Exception, SystemExit) as exc:  # noqa: BLE001 - a result that cannot be read is a failed task
            self._error = failed_here(self.delayed.task.name, exc)

    def result(self) -> Any:
        """Return the value.

        Raises
        ------
        TaskFailedError
            With the root cause, if the task failed.
        ClusterError
            If an iterator has not yielded it yet, or `future_iterator` has handed its value over.
        """
        if self._error is not None:
            # One error may be that of many futures: without what raised it for another one.
            raise self._error.with_traceback(None)
        if self.released:
            raise ClusterError(
                f"the value of {self.delayed!r} was handed over by future_iterator and released"
            )
        if not self.loaded:
            raise ClusterError(
                f"{self.delayed!r} has no result yet: iterate over as_completed before result()"
            )
        return self._value

    def release(self) -> None:
        """Drop the value; an error is kept, for whoever iterates again."""
        self._value = None
        self.released = self._error is None


class Computation:
    """What one call of `start_tasks` asked for, until its last future was delivered.

    It is shared by two threads: the one that iterates over its futures, and the engine's. Only the
    queue passes between them. The engine alone changes `futures`, `undelivered` and `jobs_left`
    (an iterator posts a delivery to the engine), the iterating thread alone `set_aside`, `iterated`
    and `loads`; where the other one reads them, a value that is a moment old does no harm.
    """

    def __init__(self, wanted: Sequence[Delayed]) -> None:
        self.futures = {delayed: TaskFuture(delayed, self) for delayed in wanted}
        """Those whose tasks have not ended. The others belong to the caller alone, so that a value
        goes as soon as the caller drops its future."""
        self.finished: queue.SimpleQueue[TaskFuture | WorkerCount | TileStart] = queue.SimpleQueue()
        """Futures in order of completion; between them, changes in the number of workers, and the
        tiles that workers have begun."""
        self.set_aside: list[TaskFuture] = []
        """Taken out of the queue by an iterator over other futures, for a later one."""
        self.iterated = False
        """Whether iteration has begun."""
        self.loads = 0
        """How many futures were loaded, by all iterators."""
        self.undelivered = 0
        """How many futures have finished and are still in the queue."""
        self.jobs_left = 0

    def finish(self, delayed: Delayed, error: BaseException | None = None) -> None:
        """Queue the future of `delayed`, if it was asked for; called by the engine."""
        future = self.futures.pop(delayed, None)
        if future is None:
            return
        if error is not None:
            future.fail(error)  # before it is queued: from then on it is the iterator's
        self.undelivered += 1
        self.finished.put(future)


def iterate_values(completed: Iterator[Future], future_list: Sequence[Future]) -> Iterator[Any]:
    """Iterate over the values of futures: `AbstractCluster.future_iterator`, for any cluster.

    Parameters
    ----------
    completed : iterator of Future
        What the cluster's `as_completed` returns for `future_list`.
    future_list : sequence of Future
        A future that is in it several times yields its value as often.

    Raises
    ------
    TaskFailedError
        After all values, if tasks failed: that of the first to fail, with a note for each other.
    ClusterStalledError
        As soon as `completed` raises it, with a note for each task that had failed.
    """
    occurrences = Counter(future_list)
    # While suspended, this frame refers to nothing that was handed over: a value is as large as a
    # tile, and is freed as soon as the caller drops it.
    del future_list
    errors: list[Exception] = []
    try:
        while (future := next(completed, None)) is not None:
            count = occurrences.pop(future, 1)
            try:
                values = [future.result()] * count
            except Exception as exc:  # noqa: BLE001 - raised below, after the values
                errors.append(exc)
                continue
            future.release()
            del future
            while values:
                yield values.pop()
    except ClusterStalledError as exc:
        for note in _notes_of(errors):
            exc.add_note(note)
        raise
    if errors:
        raise _with_notes(errors[0], _notes_of(errors[1:]))


def _notes_of(errors: Sequence[Exception]) -> list[str]:
    """Describe errors in a line each; equal ones share a line, with how many they are."""
    return [
        f"also failed: {text}" + (f" ({count} tasks)" if count > 1 else "")
        for text, count in Counter(map(str, errors)).items()
    ]


def _with_notes(error: Exception, notes: Sequence[str]) -> Exception:
    """Copy an error, which its future may raise again, and add notes to the copy."""
    noted = copy.copy(error)
    noted.__cause__ = error.__cause__
    noted.__notes__ = [*getattr(error, "__notes__", ()), *notes]
    return noted
