"""Futures, the computation that they belong to, and the iteration over their values."""

import copy
import queue
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from batuta.cluster.contract import Future, WorkerCount
from batuta.cluster.errors import ClusterError, ClusterStalledError, TaskFailedError
from batuta.cluster.tasks import Delayed
from batuta.errors import describe_error


class TaskFuture:
    """The result of one delayed object that `start_tasks` was called with.

    Parameters
    ----------
    delayed : Delayed
        Or the data itself, where tasks run when they are created.
    run : Run or None
        The call of `start_tasks` that made it, where results are computed by an engine.
    """

    __slots__ = ("_error", "_value", "delayed", "loaded", "released", "run")

    def __init__(self, delayed: Any, run: "Run | None" = None) -> None:
        self.delayed = delayed
        self.run = run
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
        except Exception as exc:  # noqa: BLE001 - a result that cannot be read is a failed task
            self._error = TaskFailedError(self.delayed.task.name, describe_error(exc))
            self._error.__cause__ = exc

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
            raise self._error
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
        self.loads = 0
        """How many futures iterators have loaded."""
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
