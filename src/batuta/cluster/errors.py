"""What can go wrong in a cluster."""

from batuta.errors import BatutaError


class ClusterError(BatutaError, RuntimeError):
    """The cluster cannot do what is asked of it."""


class ClusterBrokenError(ClusterError):
    """The cluster can compute nothing any more: trying again is of no use."""


class ClusterStalledError(ClusterError):
    """No task has ended for `task_timeout`."""


class TaskFailedError(BatutaError):
    """A task has no result.

    The exception that the task raised, or what became of its worker, is its ``__cause__``.

    Parameters
    ----------
    function : str
        Name of the task's function.
    reason : str
        The root cause in one line.
    traceback : str
        Of what the task raised, as text, from its function on: that of the worker where it ran
        elsewhere. Empty where the task raised nothing, as where its worker was killed.
    line : str
        The last line of the author's code that the exception passed through, as in ``slope.py:13``,
        with its function where that is another one; empty where there is none.
    """

    def __init__(self, function: str, reason: str, traceback: str = "", line: str = "") -> None:
        self.function = function
        self.reason = reason
        self.traceback = traceback
        self.line = line
        where = f"{function}, {line}" if line else function
        super().__init__(f"{reason} (in task {where})")

    def __reduce__(self) -> tuple[type["TaskFailedError"], tuple[str, str, str, str]]:
        """Cross process borders with its parts kept apart."""
        return type(self), (self.function, self.reason, self.traceback, self.line)


class UnpicklableError(ClusterError):
    """Stands for the exception of a task that cannot be pickled: its message describes it."""


class NoSpaceError(ClusterError):
    """Batuta itself cannot write: its disk, or a quota on it, is full.

    The `OSError` that says so is its ``__cause__``. Where it was raised is what tells it from an
    `OSError` of a task, whose own scratch may be full.

    Parameters
    ----------
    folder : str
        Where it could not write.
    """

    def __init__(self, folder: str) -> None:
        self.folder = folder
        super().__init__(f"no space left in {folder}")

    def __reduce__(self) -> tuple[type["NoSpaceError"], tuple[str]]:
        """Cross process borders with its parts kept apart."""
        return type(self), (self.folder,)


class WorkerLostError(ClusterError):
    """A worker died while it ran a task: killed by the system, or ended by the task."""


class TaskTimeoutError(ClusterError, TimeoutError):
    """A task ran for longer than `per_job_timeout` and was killed."""


class WorkerMemoryError(ClusterError, MemoryError):
    """A worker held more than `max_ram_per_worker` while the machine ran out of memory."""
