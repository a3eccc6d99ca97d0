"""The outbox: announcements recorded with their products, published until NATS has them."""

import asyncio
import logging
from collections.abc import Sequence
from typing import Any, Final

import sqlalchemy as sa
from starlette.concurrency import run_in_threadpool

from batuta.messaging import Bus, DataAvailable, MessagingError
from batuta.messaging.subjects import SDB_SOURCE
from batuta.sdb.tables import OUTBOX
from batuta.service.database import reading

LOG: Final = logging.getLogger(__name__)

BATCH: Final = 256
RETRY_S: Final = 1.0
LOOK_AGAIN_S: Final = 5.0
"""Another sdb on the same database may have died before it announced its own."""

Row = sa.Row[Any]


class Announcer:
    """Publishes the outbox on ``data.sdb``, in order, and removes what NATS has stored.

    Killed between the two, it publishes again under the same event id.
    """

    def __init__(self, engine: sa.Engine, bus: Bus) -> None:
        self._engine = engine
        self._bus = bus
        self._woken = asyncio.Event()

    def wake(self) -> None:
        """Have the outbox looked at now."""
        self._woken.set()

    async def run(self) -> None:
        """Announce until cancelled."""
        self._bus.on_reconnected(self._reconnected)
        while True:
            self._woken.clear()
            try:
                emptied = await self._announce_all()
            except sa.exc.OperationalError as exc:
                LOG.warning("announcements kept until the database answers: %s", exc.orig)
                emptied = False
            await self._wait(LOOK_AGAIN_S if emptied else RETRY_S)

    async def _announce_all(self) -> bool:
        """Publish what waits; False if NATS did not take all of it."""
        while rows := await run_in_threadpool(self._oldest):
            published = await self._publish(rows)
            await run_in_threadpool(self._remove, published)
            if len(published) < len(rows):
                return False
        return True

    def length(self) -> int:
        """How many announcements wait."""
        with reading(self._engine) as connection:
            return connection.scalar(sa.select(sa.func.count()).select_from(OUTBOX)) or 0

    async def _reconnected(self) -> None:
        self.wake()

    async def _wait(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._woken.wait()
        except TimeoutError:
            return

    def _oldest(self) -> Sequence[Row]:
        with reading(self._engine) as connection:
            return connection.execute(sa.select(OUTBOX).order_by(OUTBOX.c.id).limit(BATCH)).all()

    async def _publish(self, rows: Sequence[Row]) -> list[int]:
        """Publish `rows` and return the ids of those that NATS has, up to the first that failed."""
        published: list[int] = []
        for row in rows:
            event = DataAvailable.model_validate(row.event)
            try:
                await self._bus.publish_data(event, SDB_SOURCE, row.event_id)
            except MessagingError as exc:
                LOG.warning("announcements kept until NATS has them: %s", exc)
                break
            published.append(row.id)
        return published

    def _remove(self, ids: Sequence[int]) -> None:
        with self._engine.begin() as connection:
            connection.execute(sa.delete(OUTBOX).where(OUTBOX.c.id.in_(ids)))
