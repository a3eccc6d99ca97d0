"""Modules that every worker imports when it starts, before any job."""

from typing import Final

FORKSERVER_VARIABLE: Final = "BATUTA_FORKSERVER"
"""Where the forkserver learns of the main process: see `batuta.cluster.local.forkserver_path`."""

_MODULES: Final[dict[str, None]] = {}


def add_module(name: str) -> None:
    """Have every worker that starts from now on import the module `name` first.

    Modules are imported in the order in which they were added, before those of the tasks. A
    module may so prepare the imports of the others.
    """
    _MODULES[name] = None


def modules() -> tuple[str, ...]:
    """List the modules that were added, in order."""
    return tuple(_MODULES)
