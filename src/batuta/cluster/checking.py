"""Checks the keys of a configuration by the model of its mode."""

import platform
import warnings
from dataclasses import replace
from typing import Any

from batuta.cluster.config import AutoConfig, CommonConfig, MultiprocessingConfig
from batuta.cluster.config_keys import keys_of, validated
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
    if isinstance(config, MultiprocessingConfig) and "max_tasks_per_worker" in given:
        config = replace(config, max_tasks_given=True)
    if platform.system() == "Windows":
        config = _spawning(config)
    if config.profiling is not None:
        check_available(config.profiling.options())
    return config


def _resolve_auto(auto: AutoConfig) -> MultiprocessingConfig:
    """Return the configuration of as many workers as this machine has room for."""
    return MultiprocessingConfig(
        **{key: getattr(auto, key) for key in keys_of(auto) if key != "mode"},
        nb_workers=workers_that_fit(available_ram_bytes(), usable_cores()),
    )


def _spawning(config: Any) -> Any:
    """Return a configuration that Windows can follow: it cannot fork."""
    mp_mode = getattr(config, "mp_mode", "spawn")
    if mp_mode == "spawn":
        return config
    warnings.warn(f"mp_mode: {mp_mode!r} does not exist on Windows, 'spawn' is used", stacklevel=4)
    return replace(config, mp_mode="spawn")
