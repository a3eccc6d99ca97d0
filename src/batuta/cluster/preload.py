"""Modules that every worker imports when it starts, before any job."""

from typing import Final

FORKSERVER_VARIABLE: Final = "BATUTA_FORKSERVER"
"""Describes the main process to the forkserver: see `batuta.cluster.local.forkserver_path`."""

_MODULES: Final[dict[str, None]] = {}


def add_module(name: str) -> None:
    """Import the module `name` first in every worker that starts from now on.

    Modules are imported in the order in which they were added, before those of the tasks. So a
    module may prepare the imports of the others.
    """
    _MODULES[name] = None


def modules() -> tuple[str, ...]:
    """List the modules that were added, in order."""
    return tuple(_MODULES)
