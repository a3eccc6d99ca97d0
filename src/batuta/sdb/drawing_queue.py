"""The queue of drawings: what was asked for last is drawn next."""

import asyncio
from collections.abc import AsyncIterator, Hashable
from contextlib import asynccontextmanager


class DrawingQueue:
    """Bounds how many drawings run at once, and how many wait.

    A stack rather than a queue in order of arrival: who looks at a picture now does not wait for
    hundreds that somebody asked for earlier, and may have left.

    Parameters
    ----------
    at_once : int
        How many run at the same time.
    max_waiting : int
        How many wait; of more, the one that was asked for longest ago is cancelled.
    """

    def __init__(self, at_once: int, max_waiting: int) -> None:
        self._free = at_once
        self._max_waiting = max_waiting
        self._waiting: dict[Hashable, asyncio.Future[None]] = {}
        """By key, in the order in which they were last asked for."""

    @asynccontextmanager
    async def turn(self, key: Hashable) -> AsyncIterator[None]:
        """Wait for a turn, and keep it while the block runs; only one may wait under a key."""
        await self._wait(key)
        try:
            yield
        finally:
            self._pass_on()

    def ask_again(self, key: Hashable) -> None:
        """Let what waits under `key`, if anything does, be the next."""
        turn = self._waiting.pop(key, None)
        if turn is not None:
            self._waiting[key] = turn

    async def _wait(self, key: Hashable) -> None:
        if self._free:
            self._free -= 1
            return
        turn = self._waiting[key] = asyncio.get_running_loop().create_future()
        if len(self._waiting) > self._max_waiting:
            self._waiting.pop(next(iter(self._waiting))).cancel()
        try:
            await turn
        except asyncio.CancelledError:
            self._waiting.pop(key, None)
            # It had its turn already, and was cancelled before it ran.
            if not turn.cancelled():
                self._pass_on()
            raise

    def _pass_on(self) -> None:
        while self._waiting:
            _, turn = self._waiting.popitem()
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1
