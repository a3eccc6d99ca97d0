"""The exception of a task, in a form that any process can read, whatever the exception is."""

import pickle
import traceback
from typing import NamedTuple

from batuta.cluster.errors import ClusterError, TaskFailedError
from batuta.errors import describe_error


class RemoteError(NamedTuple):
    """What a step of a job raised."""

    function: str
    reason: str
    """In one line."""
    pickled: bytes | None
    """The exception, if it can be pickled and read back."""
    trace: str

    @classmethod
    def from_exception(cls, function: str, exc: BaseException) -> "RemoteError":
        """Describe an exception, in the process where it was raised."""
        trace = "".join(traceback.format_exception(exc))
        return cls(function, describe_error(exc), _try_pickle(exc), trace)

    def to_exception(self) -> TaskFailedError:
        """Return the exception of the task, with the traceback of its worker as a note."""
        cause: BaseException
        try:
            cause = pickle.loads(self.pickled or b"")  # noqa: S301 - from a worker of ours
        except Exception:  # noqa: BLE001 - a class of the user's may raise anything here
            cause = ClusterError(self.reason)
        cause.add_note(f"In its worker:\n{self.trace}")
        return failed_task(self.function, self.reason, cause)


def failed_task(function: str, reason: str, cause: BaseException) -> TaskFailedError:
    """Return the exception of a task that has no result, with its cause."""
    error = TaskFailedError(function, reason)
    error.__cause__ = cause
    return error


def _try_pickle(exc: BaseException) -> bytes | None:
    """Pickle an exception if it can be read back: many cannot, their arguments being others."""
    try:
        body = pickle.dumps(exc)
        copy = pickle.loads(body)  # noqa: S301 - pickled on the line above
    except Exception:  # noqa: BLE001 - a class of the user's may raise anything here
        return None
    return body if isinstance(copy, BaseException) else None
