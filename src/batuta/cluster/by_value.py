"""Pickles of what workers cannot import: it goes whole, by value, rather than by its name.

That is what a notebook's cell or a prompt defines, lambdas, functions in functions, and what a
script defines under ``if __name__ == "__main__":``. All else goes by name, as `pickle` does: only
what `pickle` refuses, or what workers would look for in vain, is pickled again, by cloudpickle.
"""

import functools
import io
import pickle
import sys
from collections.abc import Callable
from types import FunctionType
from typing import Any, Final

import cloudpickle

from batuta.cluster.main_script import MainNames

MAX_SHARED_BYTES: Final = 64 << 10
"""Functions up to this size are pickled once for all of their tasks."""


def dumps(
    value: Any, buffers: list[memoryview] | None = None, main: MainNames | None = None
) -> bytes:
    """Pickle a value (protocol 5), by names as far as whoever reads it finds them.

    Parameters
    ----------
    value
        Anything.
    buffers : list, optional
        Filled with the out-of-band buffers; without it, they are in the pickle.
    main : MainNames, optional
        What the reader finds of the main script. Default: all that `pickle` finds here.

    Raises
    ------
    Exception
        Anything that pickling raises.
    """
    callback = None if buffers is None else lambda buffer: buffers.append(buffer.raw())
    try:
        body = pickle.dumps(value, protocol=5, buffer_callback=callback)
    except Exception:  # noqa: BLE001, S110 - `pickle` refuses functions by various exceptions
        pass
    else:
        if main is None or b"__main__" not in body:
            return body
    if buffers is not None:
        buffers.clear()
    stream = io.BytesIO()
    ValuePickler(stream, main, callback).dump(value)
    return stream.getvalue()


class ValuePickler(cloudpickle.Pickler):  # type: ignore[misc]  # it has no types
    """Pickles functions and classes whole, unless their readers find them by their names."""

    def __init__(self, stream: io.BytesIO, main: MainNames | None, callback: Any) -> None:
        super().__init__(stream, protocol=5, buffer_callback=callback)
        self._main = main

    def reducer_override(self, obj: Any) -> Any:
        """Return how an object is reduced; NotImplemented is as `pickle` does."""
        if isinstance(obj, io.IOBase) and not isinstance(obj, io.BytesIO | io.StringIO):
            # cloudpickle would send what it contains: no longer the file that was opened.
            raise TypeError("an open file cannot be pickled")
        if self._main is not None and is_by_name(obj, self._main):
            return NotImplemented
        return super().reducer_override(obj)


def is_by_name(obj: Any, main: MainNames) -> bool:
    """Return whether a function or a class is found, as itself, under its name."""
    if not isinstance(obj, type | FunctionType) or not main.has(obj):
        return False
    found: Any = sys.modules.get(obj.__module__)
    for name in obj.__qualname__.split("."):
        found = getattr(found, name, None)
    return found is obj


class FunctionPickles:
    """The functions of a computation, each pickled once where it goes by value.

    Parameters
    ----------
    main : MainNames
        What workers find of the main script.
    """

    def __init__(self, main: MainNames) -> None:
        self.main = main.if_any_lacks()
        """For `dumps`: None where no value needs a second look."""
        self.names = main
        self._known: dict[int, tuple[Any, Any]] = {}
        """By identity; the function is held, or another might get its identity."""

    def shared(self, function: Callable[..., Any]) -> Any:
        """Return what to pickle in place of a function: itself, or its pickle.

        Raises
        ------
        Exception
            Anything that pickling it raises.
        """
        found = self._known.get(id(function))
        if found is None:
            found = self._known[id(function)] = (function, self._pickled(function))
        return found[1]

    def _pickled(self, function: Callable[..., Any]) -> Any:
        if not isinstance(function, FunctionType) or is_by_name(function, self.names):
            return function
        body = dumps(function, main=self.names)
        return PickledFunction(body) if len(body) <= MAX_SHARED_BYTES else function


class PickledFunction:
    """Stands, when pickled, for a function: a worker reads it once."""

    def __init__(self, body: bytes) -> None:
        self._body = body

    def __reduce__(self) -> tuple[Callable[[bytes], Any], tuple[bytes]]:
        return _load_function, (self._body,)


@functools.lru_cache(maxsize=128)
def _load_function(body: bytes) -> Any:
    return pickle.loads(body)  # noqa: S301 - pickled by the main process, which sent it
