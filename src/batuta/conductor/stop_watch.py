"""Telling providers to stop what was stopped in the record."""

import asyncio
import logging
from collections.abc import Sequence
from typing import Final

from batuta.conductor.database.stops import StopStore
from batuta.conductor.decisions.stops import Stop
from batuta.conductor.dispatch.providers import Providers
from batuta.conductor.pruner import Write

LOG: Final = logging.getLogger(__name__)

CHECK_S: Final = 1.0
"""How often it looks for what is due, in seconds: what is stopped now is told at once."""
MAX_TOLD_AT_ONCE: Final = 8


class StopWatch:
    """Tells providers what to stop, until they answer.

    Parameters
    ----------
    stops : StopStore
        What is to be told.
    providers : Providers
        Are told.
    write : callable
        Runs what writes, in its turn.
    """

    def __init__(self, stops: StopStore, providers: Providers, write: Write) -> None:
        self.stops = stops
        self._providers = providers
        self._write = write
        self._wakeup = asyncio.Event()

    def wake(self) -> None:
        """Look for what is due now."""
        self._wakeup.set()

    async def run(self) -> None:
        """Send the stops that are due to their providers, until cancelled."""
        while True:
            self._wakeup.clear()
            due: Sequence[Stop] = await self._write(self.stops.take_due)
            for start in range(0, len(due), MAX_TOLD_AT_ONCE):
                await asyncio.gather(*map(self._tell, due[start : start + MAX_TOLD_AT_ONCE]))
            if due:
                continue
            try:
                async with asyncio.timeout(CHECK_S):
                    await self._wakeup.wait()
            except TimeoutError:
                continue

    async def _tell(self, stop: Stop) -> None:
        answer = await self._providers.stop(stop)
        if answer.failure is not None:
            LOG.warning(
                "%s of %s: stopped, and not at its provider: %s",
                stop.product,
                stop.obs_id,
                answer.failure,
            )
        await self._write(self.stops.record, stop, answer)
