"""The validators of FastAPI's routes, built once in a process.

A service builds one for each parameter of each of its routes when it starts. Tests start hundreds
of services in one process, which would build the same ones: a fifth of all that these tests do.
"""

from importlib import import_module
from typing import Any

_FIELDS = "fastapi._compat.v2"


def share_validators() -> None:
    """Make FastAPI build one validator for all declarations that are equal."""
    try:
        fields = import_module(_FIELDS)
    except ModuleNotFoundError:
        return  # an older FastAPI, which has them elsewhere
    build = vars(fields)["TypeAdapter"]
    built: dict[tuple[Any, str], Any] = {}

    def shared(declared: Any, *, config: Any = None) -> Any:
        if config is not None:
            return build(declared, config=config)
        # What a description shows by its address stays there: its validator holds it.
        key = (declared.__origin__, repr(declared.__metadata__))
        if key not in built:
            built[key] = build(declared)
        return built[key]

    vars(fields)["TypeAdapter"] = shared
