"""The exception of a task, in a form that any process can read, whatever the exception is."""

import copyreg
import io
import pickle
import traceback
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Final, NamedTuple

import cloudpickle

import batuta
from batuta.cluster.errors import TaskFailedError, UnpicklableError
from batuta.errors import chain_of, describe_error
from batuta.tracebacks import author_line

_OWN_FOLDER: Final = str(Path(batuta.__file__).parent)


class RemoteError(NamedTuple):
    """What a step of a job raised."""

    function: str
    reason: str
    """In one line."""
    pickled: bytes | None
    """The exception, if it can be pickled and read back."""
    trace: str
    """Its traceback, from the function of the task on."""
    line: str
    """The last line of its author's code, as in `TaskFailedError`."""

    @classmethod
    def from_exception(cls, function: str, exc: BaseException) -> "RemoteError":
        """Describe an exception, in the process where it was raised."""
        line = _line_of(exc, function)
        return cls(function, describe_error(exc), try_pickle(exc), trace_of(exc), line)

    def to_exception(self) -> TaskFailedError:
        """Return the exception of the task, with the traceback of its worker as a note."""
        error = TaskFailedError(self.function, self.reason, self.trace, self.line)
        error.__cause__ = self._cause()
        return error

    def _cause(self) -> BaseException:
        cause = read_back(self.pickled, self.reason)
        note = f"In its worker:\n{self.trace}"
        try:
            cause.add_note(note)
        except TypeError:  # its `__notes__` are no list
            cause = UnpicklableError(self.reason)
            cause.add_note(note)
        return cause


def failed_task(function: str, reason: str, cause: BaseException) -> TaskFailedError:
    """Return the exception of a task that has no result, with its cause."""
    error = TaskFailedError(function, reason)
    error.__cause__ = cause
    return error


def failed_here(function: str, exc: BaseException) -> TaskFailedError:
    """Return the exception of a task that ran in this process: the same as from a worker."""
    line = _line_of(exc, function)
    error = TaskFailedError(function, describe_error(exc), detach(exc), line)
    error.__cause__ = exc
    return error


def detach(exc: BaseException) -> str:
    """Return the traceback of an exception, which has it as a note instead of its frames.

    Frames hold the arrays that functions worked on: an exception that is kept must not.
    """
    trace = trace_of(exc)
    _drop_frames(exc)
    if not getattr(exc, "__notes__", None):  # the same one may be raised for many tiles
        exc.add_note(f"In this process:\n{trace}")
    return trace


def _drop_frames(exc: BaseException) -> None:
    for each in chain_of(exc):
        each.__traceback__ = None


def trace_of(exc: BaseException) -> str:
    """Return the traceback of an exception as text, without the frames of Batuta that led to it."""
    try:
        return "".join(traceback.format_exception(type(exc), exc, _skip_own(exc.__traceback__)))
    except Exception:  # noqa: BLE001 - attributes of the user's exception may raise anything
        return "".join([*traceback.format_tb(exc.__traceback__), describe_error(exc), "\n"])


def _line_of(exc: BaseException, function: str) -> str:
    """Return the author's line of an exception, with its function if it is not `function`."""
    first = _skip_own(exc.__traceback__)
    module = None if first is None else first.tb_frame.f_globals.get("__name__")
    found = author_line(exc, module)
    if found is None:
        return ""
    return str(replace(found, function="<module>") if found.function == function else found)


def _skip_own(begin: TracebackType | None) -> TracebackType | None:
    """Skip the first frames, of Batuta; where there are no others, the error is ours."""
    frame = begin
    while frame is not None and frame.tb_frame.f_code.co_filename.startswith(_OWN_FOLDER):
        frame = frame.tb_next
    return frame or begin


def try_pickle(exc: BaseException) -> bytes | None:
    """Pickle an exception if it can be read back with the same words.

    Many cannot: what their constructor takes is not what it passes on to that of `Exception`.
    """
    try:
        body = _dumps(exc)
        copy = pickle.loads(body)  # noqa: S301 - pickled on the line above
    except BaseException:  # noqa: BLE001 - a class of the user's may raise anything here
        return None
    same = type(copy) is type(exc) and describe_error(copy) == describe_error(exc)
    return body if same else None


def read_back(pickled: bytes | None, reason: str) -> BaseException:
    """Return the exception that `try_pickle` has pickled; if it could not, what stands for it."""
    try:
        exc: BaseException = pickle.loads(pickled or b"")  # noqa: S301 - from a process of ours
    except BaseException:  # noqa: BLE001 - a class of the user's may raise anything here
        return UnpicklableError(reason)
    return exc


def _dumps(exc: BaseException) -> bytes:
    """Pickle an exception as it pickles itself; by cloudpickle, if that fails.

    distributed installs other ways for all exceptions, in the processes that import it (tblib), and
    these fail for those that inherit from `OSError` and another.
    """
    try:
        return _pickled_by(pickle.Pickler, exc)
    except Exception:  # noqa: BLE001 - its class may have been sent here by value
        return _pickled_by(cloudpickle.Pickler, exc)


def _pickled_by(kind: type[Any], exc: BaseException) -> bytes:
    stream = io.BytesIO()
    pickler = kind(stream, protocol=5)
    inherited = getattr(pickler, "dispatch_table", copyreg.dispatch_table)
    pickler.dispatch_table = {
        each: reduce
        for each, reduce in inherited.items()
        if not (isinstance(each, type) and issubclass(each, BaseException))
    }
    pickler.dump(exc)
    return stream.getvalue()
