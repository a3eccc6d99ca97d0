"""Who imports the inputs of all observations, each until it is acknowledged."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

from batuta.errors import BatutaError
from batuta.sdb import SdbClient
from tests.support.chaos.graph import INPUTS, content_of

THREADS: Final = 3
AHEAD: Final = 40
"""Observations that are imported and not complete, at most, about."""
RETRY_S: Final = 10.0
PAUSE_S: Final = 0.2


class Sender:
    """Imports the inputs of observations, in threads of its own.

    Parameters
    ----------
    url : str
        The sdb.
    observations : int
        How many there are.
    complete : callable
        Returns how many are complete, about: it is never far ahead.
    """

    def __init__(
        self, url: str, observations: int, complete: Callable[[], float], folder: Path
    ) -> None:
        self._url = url
        self._observations = observations
        self._complete = complete
        self._folder = folder
        self._over = threading.Event()
        self._threads = [
            threading.Thread(target=self._send, args=(number,), daemon=True)
            for number in range(THREADS)
        ]
        self.repeated = 0
        """How many imports were sent again, since nobody had answered."""

    def start(self) -> None:
        """Begin to send."""
        self._folder.mkdir()
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Send nothing more."""
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _send(self, first: int) -> None:
        for number in range(first, self._observations, THREADS):
            while number > self._complete() + AHEAD and not self._over.is_set():
                self._over.wait(PAUSE_S)
            for product in INPUTS:
                self._import(product, obs_id(number), identified=number % 2 == 0)

    def _import(self, product: str, obs_id: str, *, identified: bool) -> None:
        path = self._folder / f"{obs_id}.{product}"
        path.write_bytes(content_of(product, obs_id, {}))
        # Every other one says which import it is; the sdb knows the others again by their bytes.
        processing_id = f"import-{obs_id}-{product}" if identified else None
        while not self._over.is_set():
            try:
                with SdbClient(self._url, retry_for_s=RETRY_S) as sdb:
                    sdb.import_file(path, product, obs_id, processing_id=processing_id)
            except BatutaError:
                self.repeated += 1
                self._over.wait(PAUSE_S)
            else:
                path.unlink()
                return


def obs_id(number: int) -> str:
    """Return the name of an observation."""
    return f"obs-{number + 1:04}"
