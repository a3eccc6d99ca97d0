"""An import hook that replaces the orchestrator of CARS by ours.

To be installed before any module of CARS is imported, in the main process and in each worker:
unpickling a task imports the module of its function, and so the orchestrator.
"""

import importlib
import importlib.abc
import importlib.machinery
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Final

from batuta.cluster import preload

WORKER: Final = "batuta.compat.cars.worker"
"""The module that a worker imports before any other."""

REPLACED: Final = "cars.orchestrator"
"""The package of CARS that is replaced."""

MODULES: Final = {
    "cars.orchestrator": None,
    "cars.orchestrator.cluster": None,
    "cars.orchestrator.cluster.log_wrapper": "batuta.compat.cars.log_wrapper",
    "cars.orchestrator.orchestrator": "batuta.compat.cars.orchestrator",
}
"""The replacement of each module; None is an empty package."""


class CarsFinder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds the modules of `MODULES`, and refuses the rest of the package."""

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None = None,  # noqa: ARG002 - Python's signature
        target: ModuleType | None = None,  # noqa: ARG002
    ) -> importlib.machinery.ModuleSpec | None:
        """Return the spec of the replacement of `fullname`; None outside of the package.

        Raises
        ------
        ModuleNotFoundError
            For a module of CARS's orchestrator that has no replacement.
        """
        if fullname != REPLACED and not fullname.startswith(f"{REPLACED}."):
            return None
        if fullname not in MODULES:
            raise ModuleNotFoundError(
                f"{fullname}: Batuta replaces {REPLACED} and has no such module"
                f" (available: {', '.join(MODULES)})",
                name=fullname,
            )
        return importlib.machinery.ModuleSpec(fullname, self, is_package=MODULES[fullname] is None)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> None:
        """Let Python create it."""

    def exec_module(self, module: ModuleType) -> None:
        """Fill the module with the public names of its replacement."""
        replacement = MODULES[module.__name__]
        if replacement is not None:
            source = importlib.import_module(replacement)
            vars(module).update({name: getattr(source, name) for name in source.__all__})


def install() -> None:
    """Make CARS import our modules from now on. Idempotent.

    Raises
    ------
    ImportError
        If CARS has already imported its own orchestrator.
    """
    if any(isinstance(finder, CarsFinder) for finder in sys.meta_path):
        return
    # Before CARS makes a Dataset: for which xarray would import dask.
    importlib.import_module("batuta.datasets.tile_types")
    if REPLACED in sys.modules:
        raise ImportError(
            f"{REPLACED} is already imported: call install() before importing any module of CARS",
            name=REPLACED,
        )
    sys.meta_path.insert(0, CarsFinder())


def install_everywhere() -> None:
    """Make CARS run on Batuta in this process, and in every worker that it starts.

    Raises
    ------
    ImportError
        If CARS has already imported its own orchestrator.
    """
    install()
    preload.add_module(WORKER)
