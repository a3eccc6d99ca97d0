"""Serialized values: their pickle, and their large buffers out of band.

dask moves both without a copy. What a task receives is its own: it may change it in place, as in
the other modes, and no other task sees that.
"""

import errno
import io
import mmap
import os
import pickle
from collections.abc import Callable, Mapping
from typing import Any, Final

from dask.sizeof import sizeof

from batuta.cluster.by_value import ValuePickler

_MIN_OUT_OF_BAND_BYTES: Final = 32 << 10
"""Buffers from this size on stay out of the pickle."""
_MIN_MAPPED_BYTES: Final = 1 << 20
"""Buffers from this size on, together, are mapped: only pages that a task changes are copied."""

Reducer = Callable[[Any], tuple[Any, ...]]


class SerializedValue:
    """A value that can be sent to another process.

    Parameters
    ----------
    pickled : bytes
        Its pickle.
    buffers : tuple of buffers
        Those that the pickle leaves out, in order.
    """

    __slots__ = ("_mapping", "buffers", "pickled")

    def __init__(self, pickled: bytes, buffers: tuple[Any, ...]) -> None:
        self.pickled = pickled
        self.buffers = buffers
        self._mapping: _PrivateMapping | None = None

    def __reduce_ex__(
        self, protocol: Any
    ) -> tuple[type["SerializedValue"], tuple[bytes, tuple[Any, ...]]]:
        # dask spills, and passes results through its scheduler, in older protocols.
        buffers = self.buffers if protocol >= 5 else tuple(map(bytearray, self.buffers))
        return SerializedValue, (self.pickled, buffers)

    @property
    def nbytes(self) -> int:
        """Bytes to be sent."""
        return len(self.pickled) + sum(memoryview(each).nbytes for each in self.buffers)

    def load(self) -> Any:
        """Return the value, whose arrays share the memory of the buffers."""
        return pickle.loads(self.pickled, buffers=self.buffers)  # noqa: S301 - of this user's processes

    def load_copy(self, *, repeatedly: bool = False) -> Any:
        """Return a value whose arrays may be changed, without changing the buffers.

        Parameters
        ----------
        repeatedly : bool
            Whether it will be loaded again in this process: then large buffers are mapped
            copy-on-write rather than copied each time.
        """
        if not self.buffers:
            return self.load()
        views = self._map_buffers() if repeatedly and self.nbytes >= _MIN_MAPPED_BYTES else None
        own: list[Any] = list(views or map(bytearray, self.buffers))
        return pickle.loads(self.pickled, buffers=own)  # noqa: S301 - as above

    def detached(self) -> "SerializedValue":
        """Return a copy that shares no memory with the value that was serialized."""
        return SerializedValue(self.pickled, tuple(map(bytearray, self.buffers)))

    def _map_buffers(self) -> list[memoryview] | None:
        """Map the buffers; return None if the system does not support it, or has no room."""
        if not hasattr(os, "memfd_create"):
            return None
        try:
            if self._mapping is None:
                self._mapping = _PrivateMapping(self.buffers)
            return self._mapping.views()
        except OSError as exc:
            if exc.errno not in {errno.EMFILE, errno.ENFILE, errno.ENOMEM}:
                raise
            return None


class _PrivateMapping:
    """Buffers in a file in memory, mapped again each time they are needed."""

    def __init__(self, buffers: tuple[Any, ...]) -> None:
        self._file = -1
        self._ranges: list[tuple[int, int]] = []
        with open(os.memfd_create("batuta"), "wb") as stream:  # noqa: PTH123 - it has no path
            for each in buffers:
                stream.write(bytes(-stream.tell() % mmap.PAGESIZE))
                begin = stream.tell()
                self._ranges.append((begin, begin + stream.write(memoryview(each).cast("B"))))
            stream.flush()
            self._file = os.dup(stream.fileno())

    def __del__(self) -> None:
        if self._file >= 0:
            os.close(self._file)

    def views(self) -> list[memoryview]:
        """Map the buffers; pages that are written to are copied, and seen by this mapping only."""
        content = memoryview(mmap.mmap(self._file, 0, access=mmap.ACCESS_COPY))
        return [content[begin:end] for begin, end in self._ranges]


@sizeof.register(SerializedValue)  # type: ignore[untyped-decorator]  # dask has no types
def _sizeof(value: SerializedValue) -> int:
    return value.nbytes


class _Pickler(ValuePickler):
    def __init__(self, stream: io.BytesIO, in_band: Callable[[Any], bool], reducers: Any) -> None:
        self.dispatch_table = ValuePickler.dispatch_table.new_child(dict(reducers))
        super().__init__(stream, None, in_band)


def serialize(value: Any, reducers: Mapping[type, Reducer] | None = None) -> SerializedValue:
    """Serialize a value.

    Functions and classes of the main script are serialized whole; others go by their names.

    Parameters
    ----------
    value
        Anything that can be pickled.
    reducers : mapping of type to callable, optional
        How objects of some types are reduced (as in `copyreg`). Without it, classes and functions
        go by their names wherever they have one: in a worker, which has imported them.

    Raises
    ------
    Exception
        Anything that pickling raises.
    """
    buffers: list[pickle.PickleBuffer] = []

    def in_band(buffer: pickle.PickleBuffer) -> bool:
        small = buffer.raw().nbytes < _MIN_OUT_OF_BAND_BYTES
        if not small:
            buffers.append(buffer)
        return small

    if reducers is None:
        try:
            pickled = pickle.dumps(value, protocol=5, buffer_callback=in_band)
            return SerializedValue(pickled, tuple(buffers))
        except Exception:  # noqa: BLE001 - classes of a main script, which cloudpickle can handle
            buffers.clear()
    stream = io.BytesIO()
    _Pickler(stream, in_band, reducers or {}).dump(value)
    return SerializedValue(stream.getvalue(), tuple(buffers))
