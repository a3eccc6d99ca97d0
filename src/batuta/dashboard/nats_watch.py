"""Whether NATS answers: without it the dashboard hears nothing, and nothing says so."""

import asyncio
from typing import Final

import nats.errors

from batuta.errors import one_line
from batuta.messaging import Bus

CHECKED_S: Final = 0.5
"""How often NATS is asked, in seconds."""
ANSWER_S: Final = 2.0
"""How long it may take to answer. A page tells within three seconds that NATS is gone."""
_GIVEN_UP_S: Final = 3600
"""Longer than the client takes to notice by itself that its connection is dead."""


class NatsWatch:
    """Asks NATS for a sign of life.

    Parameters
    ----------
    bus : Bus
        The connection to NATS.
    """

    def __init__(self, bus: Bus) -> None:
        self._client = bus.client
        self._ping: asyncio.Task[str | None] | None = None
        self._pinged_after = 0

    @property
    def reconnections(self) -> int:
        """How many times the connection was lost and made again."""
        return int(self._client.stats["reconnects"])

    async def problem(self) -> str | None:
        """Return why nothing is heard of NATS; None if it answers.

        The connection to a server that hangs, or is cut off, seems to be up for minutes.
        """
        if not self._client.is_connected:
            return "not connected"
        if self._ping is None or self._ping.done() or self._pinged_after != self.reconnections:
            self.close()
            self._pinged_after = self.reconnections
            self._ping = asyncio.create_task(self._answer())
        # An answer that is late must still be awaited: the client stops reading for good when it
        # receives one that nobody awaits any more. After a reconnection, none comes.
        await asyncio.wait([self._ping], timeout=ANSWER_S)
        if not self._ping.done():
            return f"no answer within {ANSWER_S:g} s"
        return self._ping.result()

    def close(self) -> None:
        """Wait for no answer any more."""
        if self._ping is not None:
            self._ping.cancel()

    async def _answer(self) -> str | None:
        try:
            await self._client.flush(_GIVEN_UP_S)
        except (nats.errors.Error, OSError) as exc:
            return one_line(exc) or type(exc).__name__
        return None
