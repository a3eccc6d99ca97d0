"""Keeps xarray from importing dask where a program has no arrays of dask.

The first Dataset of a process makes xarray import dask.array, of which it needs the class of its
arrays, to recognise them: 350 modules, half a second of processor time and 30 MB in each process.
An array of dask is there only once dask.array was imported: until then, there is no class to know.
"""

import importlib
import importlib.util
import sys
from types import ModuleType
from typing import Any

from xarray.namedarray import pycompat


class _LazyDask:
    """What xarray knows of dask, looked up when it asks (`xarray.namedarray.pycompat`)."""

    available = True

    @property
    def type(self) -> tuple[type[Any], ...]:
        """The class of arrays of dask; none as long as nobody can have one."""
        found = getattr(sys.modules.get("dask.array"), "Array", None)
        return () if found is None else (found,)

    @property
    def module(self) -> ModuleType:
        """The package."""
        return importlib.import_module("dask")

    @property
    def version(self) -> Any:
        """Its version, to be compared."""
        versions = importlib.import_module("packaging.version")  # as xarray has it
        return versions.Version(self.module.__version__)


def make_dask_lazy() -> None:
    """Defer the import of dask by xarray until an array of dask exists.

    Where xarray has asked for dask already, or keeps what it knows elsewhere, nothing is changed.
    """
    known = getattr(pycompat, "_cached_duck_array_modules", None)
    if isinstance(known, dict) and importlib.util.find_spec("dask") is not None:
        known.setdefault("dask", _LazyDask())
