"""The loggers of dask, which write to the screen themselves unless they are redirected."""

import logging
from contextlib import AbstractContextManager
from typing import Any, Final

from batuta.cluster.dask.process_state import SharedProcessState, State

_REDIRECTED: Final[dict[str, Any]] = {"level": logging.WARNING, "propagate": True, "handlers": []}


def read() -> State:
    """Return the settings of each logger of dask that has handlers of its own."""
    names = [name for name in logging.root.manager.loggerDict if name.startswith("distributed")]
    with_handlers = [name for name in names if logging.getLogger(name).handlers]
    return {
        (name, attribute): _copy(getattr(logging.getLogger(name), attribute))
        for name in with_handlers
        for attribute in _REDIRECTED
    }


def write(state: State) -> None:
    """Set attributes of loggers."""
    for (name, attribute), value in state.items():
        logger = logging.getLogger(name)
        if attribute == "level":
            logger.setLevel(value)  # which also clears the cache of levels, unlike the attribute
        else:
            setattr(logger, attribute, _copy(value))


def redirected(state: State) -> State:
    """Return a state where dask's warnings, and nothing less, go where all other records go."""
    return {key: _REDIRECTED.get(key[1], value) for key, value in state.items()}


def _copy(value: Any) -> Any:
    """Copy lists of handlers and filters, which loggers change in place."""
    return value[:] if isinstance(value, list) else value


_LOGGERS: Final = SharedProcessState(read, write)


def dask_loggers_redirected() -> AbstractContextManager[None]:
    """Send dask's warnings where those of the program go, rather than to the screen."""
    return _LOGGERS.changed(redirected)
