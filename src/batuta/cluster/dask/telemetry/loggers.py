"""The loggers of dask, which write by themselves, and are had to leave it to ours."""

import logging
from contextlib import AbstractContextManager
from typing import Any, Final

from batuta.cluster.dask.process_state import Lent, State

_QUIET: Final[dict[str, Any]] = {"level": logging.WARNING, "propagate": True, "handlers": []}


def read() -> State:
    """Return what is set of each logger of dask that writes by itself."""
    names = [name for name in logging.root.manager.loggerDict if name.startswith("distributed")]
    writing = [name for name in names if logging.getLogger(name).handlers]
    return {
        (name, attribute): _plain(getattr(logging.getLogger(name), attribute))
        for name in writing
        for attribute in _QUIET
    }


def write(state: State) -> None:
    """Set attributes of loggers."""
    for (name, attribute), value in state.items():
        logger = logging.getLogger(name)
        if attribute == "level":
            logger.setLevel(value)
        else:
            setattr(logger, attribute, _plain(value))


def quiet(before: State) -> State:
    """Have warnings alone of dask go where all else goes."""
    return {key: _QUIET.get(key[1], value) for key, value in before.items()}


def _plain(value: Any) -> Any:
    return value[:] if isinstance(value, list) else value


_OF_THIS_PROGRAM: Final = Lent(read, write)


def quiet_dask() -> AbstractContextManager[None]:
    """Have dask's own warnings go where those of the program go, rather than on the screen."""
    return _OF_THIS_PROGRAM.changed(quiet)
