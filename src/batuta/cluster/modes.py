"""The modes that a configuration can name, and the class of each, imported when it is used."""

import importlib
from typing import TYPE_CHECKING, Final

from batuta.cluster.contract import AbstractCluster
from batuta.errors import ConfigurationError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

MODES: Final = {
    "sequential": "batuta.cluster.sequential:SequentialCluster",
    "multiprocessing": "batuta.cluster.local.cluster:MultiprocessingCluster",
    "local_dask": "batuta.cluster.dask.local:LocalDaskCluster",
    "pbs_dask": "batuta.cluster.dask.jobs.deployment:PbsDaskCluster",
    "slurm_dask": "batuta.cluster.dask.jobs.deployment:SlurmDaskCluster",
    "dask": "batuta.cluster.dask.existing:ExistingDaskCluster",
}

AUTO: Final = "auto"
"""Not a cluster of its own: `batuta.cluster.check_configuration` resolves it."""
_EXTRAS: Final = {"dask": "dask", "distributed": "dask", "dask_jobqueue": "dask"}
"""By a module that some modes need, the extra of this package that installs it."""

PLUGIN_GROUP: Final = "batuta.clusters"
"""Entry points of this group are modes too: their name, and a class like those of `MODES`."""


def available_modes() -> list[str]:
    """List the modes that can be named in a configuration."""
    return [*MODES, AUTO, *(point.name for point in _plugins())]


def cluster_class(mode: object) -> type[AbstractCluster]:
    """Return the class of a mode; import it if need be.

    Raises
    ------
    ConfigurationError
        If the mode is unknown, or needs a package that is not installed.
    """
    if isinstance(mode, str) and mode in MODES:
        return _class_of(mode)
    for point in _plugins():
        if point.name == mode:
            plugin: type[AbstractCluster] = point.load()
            return plugin
    raise ConfigurationError(
        f"mode: {mode!r} is not a mode (available: {', '.join(available_modes())})"
    )


def _class_of(mode: str) -> type[AbstractCluster]:
    module, name = MODES[mode].split(":")
    try:
        found: type[AbstractCluster] = getattr(importlib.import_module(module), name)
    except ModuleNotFoundError as exc:
        extra = _EXTRAS.get(str(exc.name).partition(".")[0])
        if extra is None:
            raise
        raise ConfigurationError(
            f"mode: {mode!r} needs {exc.name}: pip install 'batuta[{extra}]'"
        ) from exc
    return found


def _plugins() -> list["EntryPoint"]:
    # On use: a twentieth of a second, for modes that are not ours.
    from importlib.metadata import entry_points  # noqa: PLC0415

    return list(entry_points(group=PLUGIN_GROUP))
