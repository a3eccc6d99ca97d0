"""Of one upload, one request is served at a time; the last one that comes goes before."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from batuta.sdb.uploads.partial_file import HashedPart


@dataclass
class Turn:
    """What this process knows of an upload from one request to the next.

    Attributes
    ----------
    interrupted : asyncio.Event
        Set once another request waits for its turn.
    hashed : HashedPart or None
        What was hashed of its file.
    """

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    interrupted: asyncio.Event = field(default_factory=asyncio.Event)
    waiting: int = 0
    hashed: HashedPart | None = None

    @property
    def is_taken(self) -> bool:
        """Whether a request is served, or waits."""
        return self.lock.locked() or self.waiting > 0


class Turns:
    """The turns of uploads, by their names; those of which there is nothing to know are dropped."""

    def __init__(self) -> None:
        self._turns: dict[str, Turn] = {}

    def is_taken(self, upload_id: str) -> bool:
        """Return whether a request for an upload is served, or waits."""
        turn = self._turns.get(upload_id)
        return turn is not None and turn.is_taken

    @asynccontextmanager
    async def take(self, upload_id: str) -> AsyncIterator[Turn]:
        """Interrupt who is served, and wait until that has ended."""
        turn = self._turns.setdefault(upload_id, Turn())
        turn.waiting += 1
        turn.interrupted.set()
        try:
            await turn.lock.acquire()
        finally:
            turn.waiting -= 1
            if not turn.waiting:
                turn.interrupted.clear()
        try:
            yield turn
        finally:
            turn.lock.release()
            if turn.hashed is None and not turn.is_taken:
                self._turns.pop(upload_id, None)
