"""Looking after the clock: what it planned while it was ahead does not wait for hours."""

import asyncio
import logging
from typing import Final

from batuta.conductor.database.planned_times import PlannedTimes
from batuta.conductor.pruner import Write

LOG: Final = logging.getLogger(__name__)

CHECK_S: Final = 30.0
"""How often it looks, in seconds."""


class ClockWatch:
    """Brings back what is planned for later than it may be.

    Once that is so at two looks in a row: a clock that is set back for a moment makes all that is
    planned seem to be too late.

    Parameters
    ----------
    times : PlannedTimes
        The database.
    write : callable
        Runs what writes, in its turn.
    """

    def __init__(self, times: PlannedTimes, write: Write) -> None:
        self._times = times
        self._write = write

    async def run(self) -> None:
        """Look every `CHECK_S` until cancelled."""
        were_ahead = False
        while True:
            are_ahead = await self._write(self._times.any_ahead)
            if are_ahead and were_ahead:
                moved = await self._write(self._times.bring_back)
                LOG.warning("the clock was ahead: brought %d times back that it planned", moved)
            were_ahead = are_ahead
            await asyncio.sleep(CHECK_S)
