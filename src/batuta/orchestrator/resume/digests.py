"""Digests of values and functions: 16 bytes, the same in every process and in every run.

A value is digested as pickle would write it, without what does not matter: which equal objects
are identical, and the order of sets and dictionaries. A function or a class is digested by its
code and by everything that its code refers to.

Journals on disk hold these digests: whatever is hashed here, tags such as ``"array"`` included,
must stay as it is, or `batuta.orchestrator.resume.header.FORMAT` must change.
"""

import pickle
import weakref
from collections.abc import Callable, Iterable, Mapping
from hashlib import blake2b
from types import FunctionType, MappingProxyType, MethodType, ModuleType
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from batuta.cluster.tasks import Delayed, Scattered
from batuta.datasets.cars_dataset import CarsDataset
from batuta.datasets.loaded_libraries import PANDAS, XARRAY, loaded_class
from batuta.datasets.tiles import CarsDict
from batuta.orchestrator.resume.code import is_user_code
from batuta.orchestrator.resume.definitions import DefinitionDigester

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

DIGEST_BYTES: Final = 16
_CACHED_FROM_BYTES: Final = 4096
"""Arrays of this size and above are digested once, however many tasks take them."""


class Digester:
    """Digests values, and caches the digests of large ones for as long as these live.

    To be used for one pass, in which no value changes.

    Parameters
    ----------
    of_delayed : callable
        Returns the bytes that stand for a delayed object.
    """

    def __init__(self, of_delayed: Callable[[Delayed], bytes]) -> None:
        self._of_delayed = of_delayed
        self._cache: dict[int, tuple[weakref.ref[Any], bytes]] = {}
        self._definitions = DefinitionDigester(self._digest_member)
        self._in_progress: set[int] = set()
        """Ids of the values being digested, so that a value that contains itself ends."""

    def digest(self, value: Any) -> bytes:
        """Digest a value.

        Raises
        ------
        pickle.PicklingError, TypeError, AttributeError, RecursionError
            If it cannot be pickled.
        """
        try:
            return self._pickle(value, memo=False)
        except ValueError:  # a list that contains itself: without its memo, pickle cannot follow it
            return self._pickle(value, memo=True)

    def _pickle(self, value: Any, *, memo: bool) -> bytes:
        stream = _HashStream()
        pickler = _Pickler(stream, self.digest_special)
        pickler.fast = not memo
        pickler.dump(value)
        return stream.hash.digest()

    def digest_special(self, value: Any) -> bytes | None:
        """Digest a value of a type that is treated specially; None for any other."""
        digest_value = _special_digest(value)
        if digest_value is None:
            return None
        if id(value) in self._in_progress:
            return b"itself"
        # An id is reused once its object is gone: the weak reference tells whether it was.
        cached = self._cache.get(id(value))
        if cached is not None and cached[0]() is value and self._may_cache(value):
            return cached[1]
        self._in_progress.add(id(value))
        try:
            digest = digest_value(self, value)
        finally:
            self._in_progress.discard(id(value))
        if self._may_cache(value):
            self._cache[id(value)] = (weakref.ref(value), digest)
        return digest

    def _may_cache(self, value: Any) -> bool:
        """Whether a value is large enough, and has the same digest wherever it is met.

        Inside a definition, other definitions are only identified, so that a value which holds
        some has another digest there. An array of numbers holds none.
        """
        kind = type(value)
        if kind not in _CACHED_TYPES and _library_digest(kind) is None:
            return False
        if getattr(value, "nbytes", _CACHED_FROM_BYTES) < _CACHED_FROM_BYTES:
            return False
        is_plain = isinstance(value, np.ndarray) and not value.dtype.hasobject
        return is_plain or not self._definitions.is_active

    def _digest_member(self, value: Any) -> bytes:
        """Digest a member of a definition; if it cannot be pickled, those parts of it that can."""
        try:
            return self.digest(value)
        except Exception:  # noqa: BLE001 - whatever the pickling of a user's object raises
            return self._digest_parts(value)

    def _digest_parts(self, value: Any) -> bytes:
        if id(value) in self._in_progress:
            return b"itself"
        self._in_progress.add(id(value))
        try:
            return self.digest((type(value), [self._digest_member(each) for each in _parts(value)]))
        finally:
            self._in_progress.discard(id(value))

    # A method for each special type

    def digest_delayed(self, delayed: Delayed) -> bytes:
        """Digest the task that computes it."""
        return self._of_delayed(delayed)

    def digest_definition(self, definition: FunctionType | type) -> bytes:
        """Digest the code of a function or a class, and of what it refers to."""
        return self._definitions.digest(definition)

    def digest_module(self, module: ModuleType) -> bytes:
        """Digest the name: what a function uses of a module is digested separately."""
        return self.digest(("module", module.__name__))

    def digest_wrapped(self, wrapper: Any) -> bytes:
        """Digest the wrapped function, without the wrapper's cache of results or compiled code."""
        return self.digest(("wrapped", type(wrapper), wrapper.__wrapped__))

    def digest_descriptor(self, descriptor: Any) -> bytes:
        """Digest the functions of a property, a class method or a static method."""
        names = ("fget", "fset", "fdel", "__func__")
        functions = [getattr(descriptor, name, None) for name in names]
        return self.digest((type(descriptor), functions))

    def digest_method(self, method: MethodType) -> bytes:
        """Digest the function and the object that it is bound to."""
        return self.digest(("method", method.__func__, method.__self__))

    def digest_array(self, array: npt.NDArray[Any]) -> bytes:
        """Digest the data type, the shape and the values, whatever their layout in memory."""
        if array.dtype.hasobject:
            return self.digest(("array", array.shape, array.tolist()))
        state = _hash(repr((array.dtype.descr, array.shape)).encode())
        if array.nbytes:
            state.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
        return state.digest()

    def digest_dict(self, content: Mapping[Any, Any]) -> bytes:
        """Digest the pairs, whatever their order."""
        if all(type(key) is str for key in content):
            return self.digest(("dict", [(key, content[key]) for key in sorted(content)]))
        pairs = sorted((self.digest(key), self.digest(value)) for key, value in content.items())
        return self.digest(("pairs", pairs))

    def digest_set(self, content: Iterable[Any]) -> bytes:
        """Digest the members, whatever their order."""
        return self.digest(("set", sorted(map(self.digest, content))))

    def digest_variable(self, variable: "xr.Variable") -> bytes:
        """Digest dimensions, values and attributes."""
        return self.digest((variable.dims, variable.to_numpy(), variable.attrs))

    def digest_dataset(self, dataset: "xr.Dataset") -> bytes:
        """Digest variables, coordinates and attributes, without xarray's internal state."""
        variables = {name: self.digest_variable(each) for name, each in dataset.variables.items()}
        return self.digest(("Dataset", variables, set(dataset.coords), dataset.attrs))

    def digest_data_array(self, array: "xr.DataArray") -> bytes:
        """Digest values, coordinates and attributes."""
        coords = {name: self.digest_variable(each.variable) for name, each in array.coords.items()}
        return self.digest(("DataArray", array.name, self.digest_variable(array.variable), coords))

    def digest_frame(self, frame: "pd.DataFrame") -> bytes:
        """Digest the columns in their order, the index and the attributes."""
        columns = [
            (label, repr(frame.dtypes.iloc[rank]), frame.iloc[:, rank].to_numpy())
            for rank, label in enumerate(frame.columns)
        ]
        index = (list(frame.index.names), frame.index.to_numpy())
        return self.digest(("DataFrame", columns, index, frame.attrs))

    def digest_cars_dict(self, tile: CarsDict) -> bytes:
        """Digest content and attributes."""
        return self.digest(("CarsDict", tile.data, tile.attrs))

    def digest_cars_dataset(self, dataset: CarsDataset) -> bytes:
        """Digest the grid, the attributes and the tiles."""
        what = (dataset.dataset_type, dataset.name, dataset.attributes)
        return self.digest(
            ("CarsDataset", what, dataset.tiling_grid, dataset.overlaps, dataset.tiles)
        )

    def digest_scattered(self, scattered: Scattered) -> bytes:
        """Digest the scattered value."""
        return self.digest(scattered.value)


class _HashStream:
    """A file that hashes what is written to it."""

    def __init__(self) -> None:
        self.hash = _hash(b"")

    def write(self, content: Any) -> int:
        self.hash.update(content)
        return len(content)


class _Pickler(pickle.Pickler):
    """Pickles a value, and replaces those of special types by their digests."""

    def __init__(self, stream: _HashStream, digest_special: Callable[[Any], bytes | None]) -> None:
        super().__init__(stream, protocol=5)
        self._digest_special = digest_special

    def persistent_id(self, obj: Any) -> bytes | None:
        return self._digest_special(obj)


def _hash(content: bytes) -> "blake2b":
    return blake2b(content, digest_size=DIGEST_BYTES)


_SPECIAL_DIGESTS: Final[dict[type, Callable[[Digester, Any], bytes]]] = {
    Delayed: Digester.digest_delayed,
    Scattered: Digester.digest_scattered,
    FunctionType: Digester.digest_definition,
    ModuleType: Digester.digest_module,
    property: Digester.digest_descriptor,
    staticmethod: Digester.digest_descriptor,
    classmethod: Digester.digest_descriptor,
    MappingProxyType: Digester.digest_dict,
    MethodType: Digester.digest_method,
    np.ndarray: Digester.digest_array,
    np.memmap: Digester.digest_array,
    dict: Digester.digest_dict,
    set: Digester.digest_set,
    frozenset: Digester.digest_set,
    CarsDict: Digester.digest_cars_dict,
    CarsDataset: Digester.digest_cars_dataset,
}

_LIBRARY_DIGESTS: Final[dict[str, tuple[str, Callable[[Digester, Any], bytes]]]] = {
    "Dataset": (XARRAY, Digester.digest_dataset),
    "DataArray": (XARRAY, Digester.digest_data_array),
    "DataFrame": (PANDAS, Digester.digest_frame),
}
"""By the name of a class, its library, which may not be imported."""

_CACHED_TYPES: Final = frozenset({Scattered, np.ndarray, np.memmap, CarsDataset})


def _special_digest(value: Any) -> Callable[[Digester, Any], bytes] | None:
    kind = type(value)
    if (method := _SPECIAL_DIGESTS.get(kind) or _library_digest(kind)) is not None:
        return method
    if issubclass(kind, type):
        return Digester.digest_definition
    if kind.__dictoffset__ and "__wrapped__" in getattr(value, "__dict__", ()):
        return None if is_user_code(kind.__module__) else Digester.digest_wrapped
    return None


def _library_digest(kind: type) -> Callable[[Digester, Any], bytes] | None:
    library, method = _LIBRARY_DIGESTS.get(kind.__name__, ("", None))
    return method if method is not None and kind is loaded_class(library, kind.__name__) else None


def _parts(value: Any) -> list[Any]:
    if isinstance(value, Mapping):
        return [each for pair in value.items() for each in pair]
    if isinstance(value, (list, tuple)):
        return list(value)
    return sorted(getattr(value, "__dict__", {}).items())
