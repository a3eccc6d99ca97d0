"""Switches the profiler of CARS off, in every process that has this folder in PYTHONPATH.

CARS has no option for it. Its own orchestrator stays in place, so that what remains between it
and Batuta is the orchestrator alone.
"""

import importlib.abc
import importlib.machinery
import sys
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

PROFILER = "cars.orchestrator.cluster.log_wrapper"


def _no_profile(
    name: str | None = None,  # noqa: ARG001 - as CARS calls it
    interval: float = 0.1,  # noqa: ARG001
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    return lambda function: function


class _Loader(importlib.abc.Loader):
    """Loads the module as usual, and puts the decorator aside."""

    def __init__(self, loader: importlib.abc.Loader) -> None:
        self._loader = loader

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._loader.exec_module(module)
        module.cars_profile = _no_profile  # type: ignore[attr-defined]


class _Finder(importlib.abc.MetaPathFinder):
    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,
        target: ModuleType | None = None,  # noqa: ARG002 - Python's signature
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != PROFILER:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader)
        return spec


sys.meta_path.insert(0, _Finder())
