"""The configuration of CARS's orchestrator, in the words of ours."""

from collections.abc import Mapping
from typing import Any, Final

from batuta.cluster.config import RAM_PER_WORKER_MB
from batuta.cluster.resources import MB, available_ram_bytes, usable_cores
from batuta.errors import ConfigurationError

MODES: Final = {None: "multiprocessing", "mp": "multiprocessing"}
"""What CARS calls a mode otherwise than we do."""


def ours(conf: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the configuration that stands for one of CARS.

    Parameters
    ----------
    conf : mapping or None
        As in the documentation of CARS. Without a mode it is ``multiprocessing``; its
        `nb_workers` may be ``auto``, which is the default, and is at most one per core.

    Raises
    ------
    ConfigurationError
        If it asks for `resume`.
    """
    given = dict(conf or {})
    mode = given.get("mode")
    given["mode"] = MODES.get(mode, mode) if isinstance(mode, str | None) else mode
    if given.get("resume"):
        raise ConfigurationError(
            "resume: true given, false expected: CARS writes its rasters in a way that a killed"
            " run leaves unfinished"
        )
    if given.get("profiling") == {}:
        del given["profiling"]
    if given["mode"] == "multiprocessing":
        given["nb_workers"] = _nb_workers(given)
    return given


def _nb_workers(conf: Mapping[str, Any]) -> Any:
    asked = conf.get("nb_workers", "auto")
    if asked == "auto":
        return _that_fit(conf.get("max_ram_per_worker", RAM_PER_WORKER_MB))
    return min(asked, usable_cores().amount) if type(asked) is int else asked


def _that_fit(ram_mb: Any) -> int:
    if type(ram_mb) not in {int, float} or ram_mb <= 0:
        return 1  # the wrong key is named when all are checked
    return max(1, min(int(available_ram_bytes().amount // (ram_mb * MB)), usable_cores().amount))
