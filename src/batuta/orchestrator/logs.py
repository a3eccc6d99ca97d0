"""Logging of the main process: to a file of the output folder, and to the screen."""

import contextlib
import logging
from pathlib import Path
from typing import Final

from batuta.cluster.execution import LOG_FORMAT
from batuta.orchestrator.screen import Screen

FILE_NAME: Final = "batuta.log"


class _LogFile(logging.FileHandler):
    """A log file that drops messages when its disk is full, instead of ending the run."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record."""
        try:
            super().emit(record)
        except OSError:  # from opening it, at the first record
            self.handleError(record)

    def close(self) -> None:
        """Close the file; a full disk has been reported already, by whoever met it first."""
        with contextlib.suppress(OSError):
            super().close()


class MainLog:
    """Writes the log of this process for as long as it is open.

    If the program has not configured logging, warnings are shown on the screen too.

    Parameters
    ----------
    out_dir : Path or None
        Folder of ``batuta.log``; None writes no file.
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
        """Restore the logging configuration."""
        for handler in self._handlers:
            logging.getLogger().removeHandler(handler)
            handler.close()
        self._logger.setLevel(self._level)
