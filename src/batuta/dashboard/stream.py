"""The stream of server-sent events (HTML standard, 9.2) by which viewers follow a table.

``event: snapshot`` has all values, ``event: frame`` those that changed, and ``event: tick`` comes
each second, so that a viewer notices by itself when nothing comes any more. The id of an event is
``TABLE-NUMBER``: a dashboard that was restarted has another table, and its numbers begin anew.
"""

import asyncio
import secrets
from collections.abc import AsyncGenerator, Callable
from typing import Final

from batuta.dashboard.live_table import Frame, LiveTable

FRAME_S: Final = 0.1
"""The shortest time between two frames, in seconds."""
TICK_S: Final = 1.0
"""How often viewers are sent something even if nothing changes, in seconds."""
MAX_BEHIND: Final = 100
"""Frames of which a viewer that reads slowly is sent one after the other; beyond, a snapshot."""


def _always() -> bool:
    return True


class FrameStream:
    """Ends the frames of a table, and sends them to each viewer.

    Nothing is queued for a viewer: it is sent what it lacks whenever it has read what came before.
    """

    def __init__(self, table: LiveTable) -> None:
        self._table = table
        self._name = secrets.token_hex(4)
        self._ended = asyncio.Condition()
        self.viewers = 0

    async def run(self) -> None:
        """End a frame whenever something has changed, until cancelled."""
        while True:
            await self._table.wait_for_change()
            self._table.end_frame()
            async with self._ended:
                self._ended.notify_all()
            await asyncio.sleep(FRAME_S)

    async def events(
        self,
        last_event_id: str | None,
        stopping: asyncio.Event,
        may_look: Callable[[], bool] = _always,
    ) -> AsyncGenerator[bytes, None]:
        """Yield what a viewer is sent, from what it has seen last, until it is closed.

        Parameters
        ----------
        last_event_id : str, optional
            The id of the last event that it has seen.
        stopping : asyncio.Event
            Ends it, `TICK_S` after it is set at the latest.
        may_look : callable
            Tells whether the viewer may still look; that ends it as well.
        """
        self.viewers += 1
        try:
            seen = self._number_of(last_event_id)
            while not stopping.is_set() and may_look():
                if seen is None:
                    snapshot = self._table.snapshot()
                    yield self._encoded("snapshot", snapshot)
                    seen = snapshot.number
                frames = self._table.since(seen)
                if frames is None or len(frames) > MAX_BEHIND:
                    seen = None
                    continue
                for frame in frames:
                    yield self._encoded("frame", frame)
                    seen = frame.number
                if not frames and not await self._wait(seen):
                    yield b"event: tick\ndata:\n\n"
        finally:
            self.viewers -= 1

    async def _wait(self, seen: int) -> bool:
        """Wait for a frame after `seen`; return False if none has come within `TICK_S`."""
        try:
            async with asyncio.timeout(TICK_S), self._ended:
                await self._ended.wait_for(lambda: self._table.number > seen)
        except TimeoutError:
            return False
        return True

    def _number_of(self, event_id: str | None) -> int | None:
        name, _, number = (event_id or "").partition("-")
        if name != self._name or not (number.isascii() and number.isdigit()):
            return None
        return int(number[:18])

    def _encoded(self, kind: str, frame: Frame) -> bytes:
        head = f"id: {self._name}-{frame.number}\nevent: {kind}\ndata: ".encode()
        return b"".join((head, frame.body, b"\n\n"))
