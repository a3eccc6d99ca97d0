"""Translation of the configuration of CARS's orchestrator into that of Batuta's."""

from collections.abc import Mapping
from typing import Any, Final

from batuta.cluster.resources import MB, RAM_PER_WORKER_MB, available_ram_bytes, usable_cores
from batuta.errors import ConfigurationError

MODES: Final = {None: "multiprocessing", "mp": "multiprocessing"}
"""The names of CARS for modes that Batuta names otherwise."""


def translate_configuration(conf: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the configuration that is equivalent to one of CARS.

    Parameters
    ----------
    conf : mapping or None
        As in the documentation of CARS. The default mode is ``multiprocessing``; its
        `nb_workers` defaults to ``auto``, and is at most one per core.

    Raises
    ------
    ConfigurationError
        If it has `resume`.
    """
    translated = dict(conf or {})
    mode = translated.get("mode")
    translated["mode"] = MODES.get(mode, mode) if isinstance(mode, str | None) else mode
    if translated.get("resume"):
        raise ConfigurationError(
            "resume: true given, false expected: a raster written by CARS cannot be resumed"
            " after a kill"
        )
    if translated.get("profiling") == {}:
        del translated["profiling"]
    if translated["mode"] == "multiprocessing":
        translated["nb_workers"] = _nb_workers(translated)
    return translated


def _nb_workers(conf: Mapping[str, Any]) -> Any:
    asked = conf.get("nb_workers", "auto")
    if asked == "auto":
        return _workers_that_fit(conf.get("max_ram_per_worker", RAM_PER_WORKER_MB))
    return min(asked, usable_cores().amount) if type(asked) is int else asked


def _workers_that_fit(ram_mb: Any) -> int:
    if type(ram_mb) not in {int, float} or ram_mb <= 0:
        return 1  # the check of all keys names the invalid one
    return max(1, min(int(available_ram_bytes().amount // (ram_mb * MB)), usable_cores().amount))
