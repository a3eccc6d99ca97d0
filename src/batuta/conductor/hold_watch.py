"""Carrying out what operators hold and release, a little at a time, while decisions go on."""

import asyncio
import logging
import math
from collections.abc import Callable
from typing import Final

from batuta.conductor.database.holds.hold_store import MAX_AT_ONCE, HoldStore
from batuta.conductor.decisions.holds import Hold, HoldState
from batuta.conductor.pruner import Write
from batuta.errors import one_line
from batuta.service.database import UNAVAILABLE

LOG: Final = logging.getLogger(__name__)

IDLE_S: Final = 5.0
"""Holds are read this often, in seconds: another conductor of the same database may place them."""
MIN_SLEEP_S: Final = 0.05
"""At a high rate, several are let go at a time."""
ANSWER_S: Final = 10.0
"""A command is answered after so many seconds at most, though it goes on."""


class HoldWatch:
    """Marks what a hold covers when it begins, and lets it go when it is released.

    Parameters
    ----------
    store : HoldStore
        The holds.
    write : callable
        Runs what writes, in its turn: decisions wait for one small transaction at most.
    wake : callable
        Called when something was let go, or does not stand before others any more.
    on_change : callable
        Told each hold that was placed, has begun, is being released, or has ended.
    """

    def __init__(
        self,
        store: HoldStore,
        write: Write,
        wake: Callable[[], None],
        on_change: Callable[[Hold, HoldState], None],
    ) -> None:
        self.store = store
        self._write = write
        self._wake = wake
        self._on_change = on_change
        self._told: dict[int, HoldState] = {}
        self._changed = asyncio.Event()
        self._commands: list[asyncio.Future[None]] = []

    async def run(self) -> None:
        """Do what is to be done, at its time, until cancelled."""
        while True:
            # Cleared before the holds are read: what is recorded from here on starts another round.
            self._changed.clear()
            commands, self._commands = self._commands, []
            wait_s = IDLE_S
            try:
                next_at = await self.carry_out()
            except UNAVAILABLE as exc:
                LOG.warning("holds: %s; carried out later", one_line(exc))
            else:
                wait_s = min(IDLE_S, max(MIN_SLEEP_S, next_at - self.store.now()))
            for each in commands:
                each.set_result(None)
            try:
                async with asyncio.timeout(wait_s):
                    await self._changed.wait()
            except TimeoutError:
                continue

    async def settle(self) -> None:
        """Wait until what was recorded before is carried out, `ANSWER_S` at most."""
        done = asyncio.get_running_loop().create_future()
        self._commands.append(done)
        self._changed.set()
        await asyncio.wait([done], timeout=ANSWER_S)

    async def carry_out(self) -> float:
        """Do what is to be done by now; return when something is next, infinity if nothing is."""
        found = await asyncio.to_thread(self.store.open_holds)
        times = [await self._carry_out(each) for each in found]
        for number in self._told.keys() - {each.number for each in found}:
            await self._tell_end(number)
        return min(times, default=math.inf)

    async def _carry_out(self, hold: Hold) -> float:
        now = self.store.now()
        self._tell(hold, hold.state(now))
        if hold.catches(now) and not hold.applied:
            await self._mark(hold)
        if hold.released is None:
            return hold.begins if hold.begins > now else math.inf
        next_at: float | None = now
        while next_at is not None and next_at <= self.store.now():
            next_at = await self._write(self.store.let_go, hold.number)
            self._wake()
        if next_at is None:
            await self._tell_end(hold.number)
        return math.inf if next_at is None else next_at

    async def _mark(self, hold: Hold) -> None:
        ids = await asyncio.to_thread(self.store.unmarked, hold)
        for start in range(0, len(ids), MAX_AT_ONCE):
            await self._write(self.store.mark, ids[start : start + MAX_AT_ONCE])
            self._wake()
        await self._write(self.store.set_applied, hold.number)

    def _tell(self, hold: Hold, state: HoldState) -> None:
        if self._told.get(hold.number) is not state:
            self._told[hold.number] = state
            self._on_change(hold, state)

    async def _tell_end(self, number: int) -> None:
        self._told.pop(number, None)
        ended = await asyncio.to_thread(self.store.find, number)
        if ended is not None:
            self._on_change(ended, HoldState.RELEASED)
