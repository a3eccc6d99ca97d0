"""Values on their way between processes: their pickle, and their large buffers apart.

dask moves both without a copy. What a task receives is its own: it may change it in place, as
under the other modes, and nobody else sees that.
"""

import errno
import io
import mmap
import os
import pickle
from collections.abc import Callable, Mapping
from typing import Any, Final

import cloudpickle
from dask.sizeof import sizeof

_APART_BYTES: Final = 32 << 10
"""Buffers from this size on stay out of the pickle."""
_MAPPED_BYTES: Final = 1 << 20
"""Buffers that are more together are mapped, so that only pages that a task changes are copied."""

Reduce = Callable[[Any], tuple[Any, ...]]


class Pack:
    """A value, ready to travel.

    Parameters
    ----------
    body : bytes
        Its pickle.
    buffers : tuple of buffers
        Those that the pickle leaves out, in order.
    """

    __slots__ = ("_map", "body", "buffers")

    def __init__(self, body: bytes, buffers: tuple[Any, ...]) -> None:
        self.body = body
        self.buffers = buffers
        self._map: _PrivateMap | None = None

    def __reduce_ex__(self, protocol: Any) -> tuple[type["Pack"], tuple[bytes, tuple[Any, ...]]]:
        # dask spills, and passes results through its scheduler, in older protocols.
        buffers = self.buffers if protocol >= 5 else tuple(map(bytearray, self.buffers))
        return Pack, (self.body, buffers)

    @property
    def nbytes(self) -> int:
        """How much travels."""
        return len(self.body) + sum(memoryview(each).nbytes for each in self.buffers)

    def open(self) -> Any:
        """Return the value; its arrays are in the buffers of the pack."""
        return pickle.loads(self.body, buffers=self.buffers)  # noqa: S301 - of this user's processes

    def open_own(self, *, often: bool = False) -> Any:
        """Return a value whose arrays may be changed, and leave the pack as it is.

        Parameters
        ----------
        often : bool
            Whether others will open it here too: then large buffers are not copied each time.
        """
        if not self.buffers:
            return self.open()
        views = self._mapped() if often and self.nbytes >= _MAPPED_BYTES else None
        own: list[Any] = list(views or map(bytearray, self.buffers))
        return pickle.loads(self.body, buffers=own)  # noqa: S301 - as above

    def apart(self) -> "Pack":
        """Return a pack that shares no memory with the value that was packed."""
        return Pack(self.body, tuple(map(bytearray, self.buffers)))

    def _mapped(self) -> list[memoryview] | None:
        """Map the buffers; None where the system has no room or no way for it."""
        if not hasattr(os, "memfd_create"):
            return None
        try:
            if self._map is None:
                self._map = _PrivateMap(self.buffers)
            return self._map.views()
        except OSError as exc:
            if exc.errno not in {errno.EMFILE, errno.ENFILE, errno.ENOMEM}:
                raise
            return None


class _PrivateMap:
    """Buffers in a file in memory, mapped anew each time they are asked for."""

    def __init__(self, buffers: tuple[Any, ...]) -> None:
        self._file = -1
        self._places: list[tuple[int, int]] = []
        with open(os.memfd_create("batuta"), "wb") as stream:  # noqa: PTH123 - it has no path
            for each in buffers:
                stream.write(bytes(-stream.tell() % mmap.PAGESIZE))
                begin = stream.tell()
                self._places.append((begin, begin + stream.write(memoryview(each).cast("B"))))
            stream.flush()
            self._file = os.dup(stream.fileno())

    def __del__(self) -> None:
        if self._file >= 0:
            os.close(self._file)

    def views(self) -> list[memoryview]:
        """Map them; pages that are written to are copied."""
        content = memoryview(mmap.mmap(self._file, 0, access=mmap.ACCESS_COPY))
        return [content[begin:end] for begin, end in self._places]


@sizeof.register(Pack)  # type: ignore[untyped-decorator]  # dask has no types
def _sizeof_pack(pack: Pack) -> int:
    return pack.nbytes


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]  # it has no types
    def __init__(self, stream: io.BytesIO, keep: Callable[[Any], bool], special: Any) -> None:
        self.dispatch_table = cloudpickle.Pickler.dispatch_table.new_child(dict(special))
        super().__init__(stream, protocol=5, buffer_callback=keep)


def packed(value: Any, special: Mapping[type, Reduce] | None = None) -> Pack:
    """Pack a value.

    Functions and classes of the main script travel with it; others go by their names.

    Parameters
    ----------
    value
        Whatever can be pickled.
    special : mapping of type to callable, optional
        How objects of some types are reduced (as in `copyreg`). Without it, classes and functions
        go by their names where they have one: in a worker, which has them.

    Raises
    ------
    Exception
        Whatever pickling raises.
    """
    buffers: list[pickle.PickleBuffer] = []

    def keep_inside(buffer: pickle.PickleBuffer) -> bool:
        small = buffer.raw().nbytes < _APART_BYTES
        if not small:
            buffers.append(buffer)
        return small

    if special is None:
        try:
            body = pickle.dumps(value, protocol=5, buffer_callback=keep_inside)
            return Pack(body, tuple(buffers))
        except Exception:  # noqa: BLE001 - classes of a main script: the slower way knows them
            buffers.clear()
    stream = io.BytesIO()
    _Pickler(stream, keep_inside, special or {}).dump(value)
    return Pack(stream.getvalue(), tuple(buffers))
