"""Where what the main process logs goes: a file of the output folder, and the screen."""

import contextlib
import logging
from pathlib import Path
from typing import Final

from batuta.cluster.execution import LOG_FORMAT
from batuta.orchestrator.screen import Screen

FILE_NAME: Final = "batuta.log"


class _LogFile(logging.FileHandler):
    """A file whose disk may be full: the message is lost, and what goes on is not ended by it."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write a message."""
        try:
            super().emit(record)
        except OSError:  # it is opened by the first message
            self.handleError(record)

    def close(self) -> None:
        """Write what is left, if there is room; the full disk was told by what met it first."""
        with contextlib.suppress(OSError):
            super().close()


class MainLog:
    """Has the log of this process written while it is open.

    Where the program has configured no logging, warnings go to the screen too.

    Parameters
    ----------
    out_dir : Path or None
        Where ``batuta.log`` is written; None is nowhere.
    """

    def __init__(self, out_dir: Path | None) -> None:
        self._logger = logging.getLogger("batuta")
        self._level = self._logger.level
        self._handlers: list[logging.Handler] = []
        if not self._logger.hasHandlers():
            self._handlers.append(Screen())
        if out_dir is not None:
            to_file = _LogFile(
                out_dir / FILE_NAME, encoding="utf-8", delay=True, errors="backslashreplace"
            )
            to_file.setFormatter(logging.Formatter(LOG_FORMAT))
            self._handlers.append(to_file)
        if self._level == logging.NOTSET:
            self._logger.setLevel(logging.INFO)
        for handler in self._handlers:
            logging.getLogger().addHandler(handler)

    def close(self) -> None:
        """Leave logging as it was."""
        for handler in self._handlers:
            logging.getLogger().removeHandler(handler)
            handler.close()
        self._logger.setLevel(self._level)
