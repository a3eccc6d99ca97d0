"""What a task raised, in a form that crosses the border between processes whatever it is."""

import pickle
import traceback
from typing import NamedTuple

from batuta.cluster.errors import ClusterError, TaskFailedError
from batuta.errors import describe_error


class Raised(NamedTuple):
    """What a step of a job raised."""

    function: str
    reason: str
    """In one line."""
    error: bytes | None
    """The exception pickled, if it can be."""
    trace: str

    @classmethod
    def by(cls, function: str, error: BaseException) -> "Raised":
        """Tell of an exception, in the process where it was raised."""
        trace = "".join(traceback.format_exception(error))
        return cls(function, describe_error(error), _pickled(error), trace)

    def as_error(self) -> TaskFailedError:
        """Return the exception of the task, with the traceback of its worker as a note."""
        cause: BaseException
        try:
            cause = pickle.loads(self.error or b"")  # noqa: S301 - from a worker of ours
        except Exception:  # noqa: BLE001 - a class of the user's may raise anything here
            cause = ClusterError(self.reason)
        cause.add_note(f"In its worker:\n{self.trace}")
        return failed_task(self.function, self.reason, cause)


def failed_task(function: str, reason: str, cause: BaseException) -> TaskFailedError:
    """Return the exception of a task that has no result, with its cause."""
    error = TaskFailedError(function, reason)
    error.__cause__ = cause
    return error


def _pickled(error: BaseException) -> bytes | None:
    """Pickle an exception, if it comes back whole: many cannot."""
    try:
        body = pickle.dumps(error)
        back = pickle.loads(body)  # noqa: S301 - pickled on the line above
    except Exception:  # noqa: BLE001 - a class of the user's may raise anything here
        return None
    return body if isinstance(back, BaseException) else None
