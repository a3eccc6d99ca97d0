"""What values and functions are, in 16 bytes: the same in every process and in every run.

Values are read as they would be pickled, but for what a pickle tells that does not matter: which
equal objects are one, and the order of sets and dictionaries. Functions and classes count by their
code and by what that names.
"""

import pickle
import weakref
from collections.abc import Callable, Iterable, Mapping
from hashlib import blake2b
from types import FunctionType, MappingProxyType, MethodType, ModuleType
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr

from batuta.cluster.tasks import Delayed, Scattered
from batuta.datasets import CarsDataset, CarsDict
from batuta.orchestrator.resume.code import is_ours
from batuta.orchestrator.resume.definitions import Definitions

DIGEST_BYTES: Final = 16
_REMEMBERED_BYTES: Final = 4096
"""Arrays from this size are read once, however many tasks take them."""


class Digester:
    """Digests values; what it has read once it remembers for as long as that lives.

    To be used for one pass, in which nothing changes.

    Parameters
    ----------
    of_delayed : callable
        Gives what stands for a delayed object.
    """

    def __init__(self, of_delayed: Callable[[Delayed], bytes]) -> None:
        self._of_delayed = of_delayed
        self._remembered: dict[int, tuple[weakref.ref[Any], bytes]] = {}
        self._definitions = Definitions(self._of_held)
        self._open: set[int] = set()
        """What is being read, so that what holds itself ends."""

    def of(self, value: Any) -> bytes:
        """Digest a value.

        Raises
        ------
        pickle.PicklingError, TypeError, AttributeError, RecursionError
            If it cannot be pickled.
        """
        try:
            return self._read(value, memo=False)
        except ValueError:  # a list that holds itself: pickle finds out which by a memo alone
            return self._read(value, memo=True)

    def _read(self, value: Any, *, memo: bool) -> bytes:
        stream = _HashStream()
        pickler = _Pickler(stream, self.known)
        pickler.fast = not memo
        pickler.dump(value)
        return stream.hash.digest()

    def known(self, value: Any) -> bytes | None:
        """Digest a value that needs care; None for those that pickle reads as well."""
        reader = _reader_of(value)
        if reader is None:
            return None
        if id(value) in self._open:
            return b"itself"
        remembered = self._remembered.get(id(value))
        if remembered is not None and remembered[0]() is value and self._may_remember(value):
            return remembered[1]
        self._open.add(id(value))
        try:
            digest = reader(self, value)
        finally:
            self._open.discard(id(value))
        if self._may_remember(value):
            self._remembered[id(value)] = (weakref.ref(value), digest)
        return digest

    def _may_remember(self, value: Any) -> bool:
        """Tell whether a value is worth it, and the same wherever it is met.

        Within a definition, other definitions are named only; an array of numbers holds none.
        """
        if type(value) not in _REMEMBERED or getattr(value, "nbytes", _REMEMBERED_BYTES) < (
            _REMEMBERED_BYTES
        ):
            return False
        is_plain = isinstance(value, np.ndarray) and not value.dtype.hasobject
        return is_plain or not self._definitions.is_reading

    def _of_held(self, value: Any) -> bytes:
        """Digest what a definition holds; of what cannot be pickled, what can be in it."""
        try:
            return self.of(value)
        except Exception:  # noqa: BLE001 - whatever the pickling of a user's object raises
            return self._of_pieces(value)

    def _of_pieces(self, value: Any) -> bytes:
        if id(value) in self._open:
            return b"itself"
        self._open.add(id(value))
        try:
            return self.of((type(value), [self._of_held(each) for each in _pieces(value)]))
        finally:
            self._open.discard(id(value))

    # One way to read for each type

    def of_delayed(self, delayed: Delayed) -> bytes:
        """Digest what will compute it."""
        return self._of_delayed(delayed)

    def of_definition(self, definition: FunctionType | type) -> bytes:
        """Digest the code of a function or a class, and of what it names."""
        return self._definitions.of(definition)

    def of_module(self, module: ModuleType) -> bytes:
        """Digest the name: what a function takes from it is read apart."""
        return self.of(("module", module.__name__))

    def of_wrapped(self, wrapper: Any) -> bytes:
        """Digest what a library wraps, and not its cache of results or of compiled code."""
        return self.of(("wrapped", type(wrapper), wrapper.__wrapped__))

    def of_descriptor(self, descriptor: Any) -> bytes:
        """Digest the functions of a property, a class method or a static method."""
        names = ("fget", "fset", "fdel", "__func__")
        functions = [getattr(descriptor, name, None) for name in names]
        return self.of((type(descriptor), functions))

    def of_method(self, method: MethodType) -> bytes:
        """Digest the function and what it is bound to."""
        return self.of(("method", method.__func__, method.__self__))

    def of_array(self, array: npt.NDArray[Any]) -> bytes:
        """Digest the data type, the shape and the values; their layout in memory is no matter."""
        if array.dtype.hasobject:
            return self.of(("array", array.shape, array.tolist()))
        found = _hash(repr((array.dtype.descr, array.shape)).encode())
        if array.nbytes:
            found.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
        return found.digest()

    def of_dict(self, content: Mapping[Any, Any]) -> bytes:
        """Digest the pairs, whatever their order."""
        if all(type(key) is str for key in content):
            return self.of(("dict", [(key, content[key]) for key in sorted(content)]))
        pairs = sorted((self.of(key), self.of(value)) for key, value in content.items())
        return self.of(("pairs", pairs))

    def of_set(self, content: Iterable[Any]) -> bytes:
        """Digest the members, whatever their order."""
        return self.of(("set", sorted(map(self.of, content))))

    def of_variable(self, variable: xr.Variable) -> bytes:
        """Digest dimensions, values and attributes."""
        return self.of((variable.dims, variable.to_numpy(), variable.attrs))

    def of_dataset(self, dataset: xr.Dataset) -> bytes:
        """Digest variables, coordinates and attributes; not what xarray keeps for itself."""
        variables = {name: self.of_variable(each) for name, each in dataset.variables.items()}
        return self.of(("Dataset", variables, set(dataset.coords), dataset.attrs))

    def of_data_array(self, array: xr.DataArray) -> bytes:
        """Digest values, coordinates and attributes."""
        coords = {name: self.of_variable(each.variable) for name, each in array.coords.items()}
        return self.of(("DataArray", array.name, self.of_variable(array.variable), coords))

    def of_frame(self, frame: pd.DataFrame) -> bytes:
        """Digest columns in their order, index and attributes."""
        columns = [
            (label, repr(frame.dtypes.iloc[rank]), frame.iloc[:, rank].to_numpy())
            for rank, label in enumerate(frame.columns)
        ]
        index = (list(frame.index.names), frame.index.to_numpy())
        return self.of(("DataFrame", columns, index, frame.attrs))

    def of_cars_dict(self, tile: CarsDict) -> bytes:
        """Digest content and attributes."""
        return self.of(("CarsDict", tile.data, tile.attrs))

    def of_cars_dataset(self, dataset: CarsDataset) -> bytes:
        """Digest the grid, the attributes and the tiles."""
        what = (dataset.dataset_type, dataset.name, dataset.attributes)
        return self.of(("CarsDataset", what, dataset.tiling_grid, dataset.overlaps, dataset.tiles))

    def of_scattered(self, scattered: Scattered) -> bytes:
        """Digest the value that it stands for."""
        return self.of(scattered.value)


class _HashStream:
    """A file that keeps the hash of what is written in it."""

    def __init__(self) -> None:
        self.hash = _hash(b"")

    def write(self, content: Any) -> int:
        self.hash.update(content)
        return len(content)


class _Pickler(pickle.Pickler):
    """Pickles, and asks first whether a value needs care."""

    def __init__(self, stream: _HashStream, known: Callable[[Any], bytes | None]) -> None:
        super().__init__(stream, protocol=5)
        self._known = known

    def persistent_id(self, obj: Any) -> bytes | None:
        return self._known(obj)


def _hash(content: bytes) -> "blake2b":
    return blake2b(content, digest_size=DIGEST_BYTES)


_READERS: Final[dict[type, Callable[[Digester, Any], bytes]]] = {
    Delayed: Digester.of_delayed,
    Scattered: Digester.of_scattered,
    FunctionType: Digester.of_definition,
    ModuleType: Digester.of_module,
    property: Digester.of_descriptor,
    staticmethod: Digester.of_descriptor,
    classmethod: Digester.of_descriptor,
    MappingProxyType: Digester.of_dict,
    MethodType: Digester.of_method,
    np.ndarray: Digester.of_array,
    np.memmap: Digester.of_array,
    dict: Digester.of_dict,
    set: Digester.of_set,
    frozenset: Digester.of_set,
    xr.Dataset: Digester.of_dataset,
    xr.DataArray: Digester.of_data_array,
    pd.DataFrame: Digester.of_frame,
    CarsDict: Digester.of_cars_dict,
    CarsDataset: Digester.of_cars_dataset,
}

_REMEMBERED: Final = frozenset(
    {Scattered, np.ndarray, np.memmap, xr.Dataset, xr.DataArray, pd.DataFrame, CarsDataset}
)


def _reader_of(value: Any) -> Callable[[Digester, Any], bytes] | None:
    kind = type(value)
    if (reader := _READERS.get(kind)) is not None:
        return reader
    if issubclass(kind, type):
        return Digester.of_definition
    if kind.__dictoffset__ and "__wrapped__" in getattr(value, "__dict__", ()):
        return None if is_ours(kind.__module__) else Digester.of_wrapped
    return None


def _pieces(value: Any) -> list[Any]:
    if isinstance(value, Mapping):
        return [each for pair in value.items() for each in pair]
    if isinstance(value, (list, tuple)):
        return list(value)
    return sorted(getattr(value, "__dict__", {}).items())
