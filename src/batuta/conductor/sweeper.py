"""Dropping the oldest records of events in the background, while decisions go on."""

import asyncio
import logging
import time
from typing import Final

import sqlalchemy as sa

from batuta.conductor.database.event_records import drop_events, last_to_drop
from batuta.conductor.pruner import Write
from batuta.conductor.settings import EventRules
from batuta.errors import one_line
from batuta.service.database import UNAVAILABLE, reading

LOG: Final = logging.getLogger(__name__)

SWEEP_INTERVAL_S: Final = 300.0
"""How often old events are looked for, in seconds; first at the start."""
DAY_S: Final = 86_400.0


class EventSweeper:
    """Drops the records of events that are too old, or too many.

    Parameters
    ----------
    engine : sa.Engine
        The conductor's database.
    rules : EventRules
        How long, and how many, are kept.
    write : callable
        Runs what writes, in its turn: decisions wait for one small transaction at most.
    """

    def __init__(self, engine: sa.Engine, rules: EventRules, write: Write) -> None:
        self._engine = engine
        self._rules = rules
        self._write = write

    async def run(self) -> None:
        """Sweep every `SWEEP_INTERVAL_S` until cancelled."""
        while True:
            try:
                await self.sweep()
            except UNAVAILABLE as exc:
                LOG.warning("events: %s; swept later", one_line(exc))
            await asyncio.sleep(SWEEP_INTERVAL_S)

    async def sweep(self) -> int:
        """Drop what is too old or too much, in small transactions; return how many it was."""
        end = await asyncio.to_thread(self._last)
        dropped = 0
        while end is not None:
            began = time.monotonic()
            count = await self._write(self._drop, end)
            if count == 0:
                break
            dropped += count
            # Half of the time at most: what arrives meanwhile is decided without delay.
            await asyncio.sleep(time.monotonic() - began)
        return dropped

    def _last(self) -> tuple[float, int] | None:
        with reading(self._engine) as connection:
            before = time.time() - DAY_S * self._rules.days
            return last_to_drop(connection, before, self._rules.number)

    def _drop(self, end: tuple[float, int]) -> int:
        with self._engine.begin() as connection:
            return drop_events(connection, end)
