"""The log file of the main process."""

import logging
from pathlib import Path
from typing import Final

from batuta.cluster.worker import LOG_FORMAT

FILE_NAME: Final = "batuta.log"


class MainLog:
    """Writes what this process logs in ``<out_dir>/batuta.log``, while it is open."""

    def __init__(self, out_dir: Path) -> None:
        self._handler = logging.FileHandler(out_dir / FILE_NAME, encoding="utf-8", delay=True)
        self._handler.setFormatter(logging.Formatter(LOG_FORMAT))
        self._logger = logging.getLogger("batuta")
        self._level = self._logger.level
        if self._level == logging.NOTSET:
            self._logger.setLevel(logging.INFO)
        logging.getLogger().addHandler(self._handler)

    def close(self) -> None:
        """Leave logging as it was."""
        logging.getLogger().removeHandler(self._handler)
        self._handler.close()
        self._logger.setLevel(self._level)
