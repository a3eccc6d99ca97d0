"""Puts our modules where CARS imports its own orchestrator from.

To be imported before anything of CARS, in the main process and in each worker: a task that is
unpickled imports the module of its function, and so the orchestrator.
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
"""What a worker imports before all else."""

REPLACED: Final = "cars.orchestrator"
"""The package of CARS that is not imported any more."""

MODULES: Final = {
    "cars.orchestrator": None,
    "cars.orchestrator.cluster": None,
    "cars.orchestrator.cluster.log_wrapper": "batuta.compat.cars.log_wrapper",
    "cars.orchestrator.orchestrator": "batuta.compat.cars.orchestrator",
}
"""What is imported by each name; None is an empty package."""


class CarsFinder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds the modules of `MODULES`, and refuses the rest of the package."""

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None = None,  # noqa: ARG002 - Python's signature
        target: ModuleType | None = None,  # noqa: ARG002
    ) -> importlib.machinery.ModuleSpec | None:
        """Describe the module that stands for `fullname`; None is not ours to find.

        Raises
        ------
        ModuleNotFoundError
            For a module of CARS's orchestrator that has no equivalent here.
        """
        if fullname != REPLACED and not fullname.startswith(f"{REPLACED}."):
            return None
        if fullname not in MODULES:
            raise ModuleNotFoundError(
                f"{fullname}: Batuta replaces {REPLACED} and has no such module"
                f" (there are {', '.join(MODULES)})",
                name=fullname,
            )
        return importlib.machinery.ModuleSpec(fullname, self, is_package=MODULES[fullname] is None)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> None:
        """Leave it to Python."""

    def exec_module(self, module: ModuleType) -> None:
        """Return the module the public names of ours."""
        ours = MODULES[module.__name__]
        if ours is not None:
            source = importlib.import_module(ours)
            vars(module).update({name: getattr(source, name) for name in source.__all__})


def install() -> None:
    """Have CARS import our modules from now on; harmless when done before.

    Raises
    ------
    ImportError
        If CARS has imported its own orchestrator already.
    """
    if any(isinstance(finder, CarsFinder) for finder in sys.meta_path):
        return
    if REPLACED in sys.modules:
        raise ImportError(
            f"{REPLACED} is imported already: call install() before anything of CARS is imported",
            name=REPLACED,
        )
    sys.meta_path.insert(0, CarsFinder())


def install_everywhere() -> None:
    """Have CARS run on Batuta in this process, and in every worker that it starts.

    Raises
    ------
    ImportError
        If CARS has imported its own orchestrator already.
    """
    install()
    preload.add_module(WORKER)
