"""Checks the keys of a configuration by the model of its mode; imports pydantic."""

import platform
import warnings
from typing import Any

from batuta.cluster.config import AutoConfig, CommonConfig, MultiprocessingConfig, validated
from batuta.cluster.modes import AUTO, cluster_class
from batuta.cluster.resources import available_ram_bytes, usable_cores, workers_that_fit
from batuta.profiling.capture.factory import check_available


def check_keys(given: dict[str, Any]) -> CommonConfig:
    """Check the keys of a configuration: see `batuta.cluster.check_configuration`."""
    mode = given.setdefault("mode", AUTO)
    config: CommonConfig
    if mode == AUTO:
        config = _resolve_auto(validated(AutoConfig, given))
    else:
        config = validated(cluster_class(mode).config_model, given)
    if platform.system() == "Windows":
        config = _spawning(config)
    if config.profiling is not None:
        check_available(config.profiling.options())
    return config


def _resolve_auto(auto: AutoConfig) -> MultiprocessingConfig:
    """Return the configuration of as many workers as this machine has room for."""
    return MultiprocessingConfig(
        **auto.model_dump(exclude={"mode", "profiling"}),
        profiling=auto.profiling,
        nb_workers=workers_that_fit(available_ram_bytes(), usable_cores()),
    )


def _spawning(config: CommonConfig) -> CommonConfig:
    """Return a configuration that Windows can follow: it cannot fork."""
    mp_mode = getattr(config, "mp_mode", "spawn")
    if mp_mode == "spawn":
        return config
    warnings.warn(f"mp_mode: {mp_mode!r} does not exist on Windows, 'spawn' is used", stacklevel=4)
    return config.model_copy(update={"mp_mode": "spawn"})
