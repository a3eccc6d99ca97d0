"""From the name of a mode to a cluster."""

import importlib
from collections.abc import Mapping
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from batuta.cluster.contract import AbstractCluster
from batuta.errors import ConfigurationError, describe_value

if TYPE_CHECKING:
    from batuta.cluster.config import CommonConfig

MODES: Final = {
    "sequential": "batuta.cluster.sequential:SequentialCluster",
    "multiprocessing": "batuta.cluster.local.cluster:MultiprocessingCluster",
    "local_dask": "batuta.cluster.dask.local:LocalDaskCluster",
    "pbs_dask": "batuta.cluster.dask.jobs.deployment:PbsDaskCluster",
    "slurm_dask": "batuta.cluster.dask.jobs.deployment:SlurmDaskCluster",
    "dask": "batuta.cluster.dask.existing:ExistingDaskCluster",
}
"""The class of each mode, imported when it is used."""

AUTO: Final = "auto"
_EXTRAS: Final = {"dask": "dask", "distributed": "dask", "dask_jobqueue": "dask"}
"""What must be installed to have modules that some modes need."""

PLUGIN_GROUP: Final = "batuta.clusters"
"""Entry points of this group are modes too: their name, and a class like those of `MODES`."""


def available_modes() -> list[str]:
    """List the modes that can be named in a configuration."""
    return [*MODES, AUTO, *(point.name for point in _plugins())]


def check_configuration(conf: Mapping[str, Any] | None) -> "CommonConfig":
    """Check a configuration and fill it in; `auto` becomes `multiprocessing`.

    Parameters
    ----------
    conf : mapping or None
        As in the tables of docs/reference/orchestrator.md; None or no mode is ``auto``.

    Raises
    ------
    ConfigurationError
        With one line per mistake.
    """
    # Workers, which check nothing, and programs that only declare do without pydantic.
    from batuta.cluster.checking import checked  # noqa: PLC0415

    if not isinstance(conf, Mapping | None):
        raise ConfigurationError(
            f"orchestrator_conf: {describe_value(conf)} given, a mapping of keys or None expected"
        )
    return checked(dict(conf or {}))


def create_cluster(
    config: "CommonConfig", out_dir: Path | None, *, launch_worker: bool = True
) -> AbstractCluster:
    """Make the cluster of a checked configuration."""
    return cluster_class(config.mode)(config, out_dir, launch_worker=launch_worker)


def cluster_class(mode: object) -> type[AbstractCluster]:
    """Return the class of a mode; import it if need be.

    Raises
    ------
    ConfigurationError
        If there is no such mode; it names those there are.
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


def _plugins() -> list[EntryPoint]:
    return list(entry_points(group=PLUGIN_GROUP))
