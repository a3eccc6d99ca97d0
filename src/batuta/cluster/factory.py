"""From the name of a mode to a cluster."""

import importlib
import platform
import warnings
from collections.abc import Mapping
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, Final

from batuta.cluster.config import AutoConfig, CommonConfig, MultiprocessingConfig, validated
from batuta.cluster.contract import AbstractCluster
from batuta.cluster.resources import available_ram_bytes, usable_cores, workers_that_fit
from batuta.errors import ConfigurationError

MODES: Final = {
    "sequential": "batuta.cluster.sequential:SequentialCluster",
    "multiprocessing": "batuta.cluster.multiprocess:MultiprocessingCluster",
}
"""The class of each mode, imported when it is used."""

AUTO: Final = "auto"
LATER: Final = ("local_dask", "pbs_dask", "slurm_dask")
"""Modes of the specification that this version has not."""

PLUGIN_GROUP: Final = "batuta.clusters"
"""Entry points of this group are modes too: their name, and a class like those of `MODES`."""


def available_modes() -> list[str]:
    """List the modes that can be named in a configuration."""
    return [*MODES, AUTO, *(point.name for point in _plugins())]


def check_configuration(conf: Mapping[str, Any] | None) -> CommonConfig:
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
    given = dict(conf or {})
    mode = given.setdefault("mode", AUTO)
    config: CommonConfig
    if mode == AUTO:
        config = _resolved(validated(AutoConfig, given))
    else:
        config = validated(_cluster_class(mode).config_model, given)
    if isinstance(config, MultiprocessingConfig) and platform.system() == "Windows":
        config = _spawning(config)
    if config.profiling is not None:
        warnings.warn("profiling: this version does not profile yet", stacklevel=2)
    return config


def create_cluster(
    config: CommonConfig, out_dir: Path | None, *, launch_worker: bool = True
) -> AbstractCluster:
    """Make the cluster of a checked configuration."""
    return _cluster_class(config.mode)(config, out_dir, launch_worker=launch_worker)


def _resolved(auto: AutoConfig) -> MultiprocessingConfig:
    return MultiprocessingConfig(
        **auto.model_dump(exclude={"mode", "profiling"}),
        profiling=auto.profiling,
        nb_workers=workers_that_fit(available_ram_bytes(), usable_cores()),
    )


def _spawning(config: MultiprocessingConfig) -> MultiprocessingConfig:
    """Give a configuration that Windows can follow: it cannot fork."""
    if config.mp_mode == "spawn":
        return config
    warnings.warn(
        f"mp_mode: {config.mp_mode!r} does not exist on Windows, 'spawn' is used", stacklevel=3
    )
    return config.model_copy(update={"mp_mode": "spawn"})


def _cluster_class(mode: object) -> type[AbstractCluster]:
    if isinstance(mode, str) and mode in MODES:
        module, name = MODES[mode].split(":")
        found: type[AbstractCluster] = getattr(importlib.import_module(module), name)
        return found
    for point in _plugins():
        if point.name == mode:
            plugin: type[AbstractCluster] = point.load()
            return plugin
    what = "is not available in this version" if mode in LATER else "is not a mode"
    raise ConfigurationError(f"mode: {mode!r} {what} (available: {', '.join(available_modes())})")


def _plugins() -> list[EntryPoint]:
    return list(entry_points(group=PLUGIN_GROUP))
