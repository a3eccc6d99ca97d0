"""The outbox: announcements recorded with their products, published until NATS has them."""

import asyncio
import logging
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, Final

import sqlalchemy as sa
from starlette.concurrency import run_in_threadpool

from batuta.messaging import Bus, DataAvailable, MessagingError
from batuta.messaging.subjects import SDB_SOURCE
from batuta.sdb.tables import OUTBOX
from batuta.service.committer import Committer
from batuta.service.database import reading

LOG: Final = logging.getLogger(__name__)

BATCH: Final = 256
MAX_AT_ONCE: Final = 64
"""How many announcements NATS is sent before it has answered the first."""
RETRY_S: Final = 1.0
LOOK_AGAIN_S: Final = 5.0
"""Another sdb on the same database may have died before it announced its own."""

Row = sa.Row[Any]


class Announcer:
    """Publishes the outbox on ``data.sdb``, in order, and removes what NATS has stored.

    Killed between the two, it publishes again under the same event id.

    Parameters
    ----------
    engine : sqlalchemy.Engine
        Where the outbox is read.
    committer : Committer
        Removes what is done; those removals share the commits of imports.
    bus : Bus
        Where it publishes.
    """

    def __init__(self, engine: sa.Engine, committer: Committer, bus: Bus) -> None:
        self._engine = engine
        self._committer = committer
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
            published, error = await self._publish(rows)
            if published:
                await self._committer.commit(partial(_remove, published))
            if error is not None:
                LOG.warning("announcements kept until NATS has them: %s", error)
                return False
            if len(rows) < BATCH:
                break  # whoever recorded more since has woken us
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

    async def _publish(self, rows: Sequence[Row]) -> tuple[list[int], MessagingError | None]:
        """Publish `rows` up to a wave that failed; return the ids of those that NATS has."""
        published: list[int] = []
        for wave in _waves(rows):
            errors = await asyncio.gather(*map(self._publish_one, wave))
            published += [row.id for row, error in zip(wave, errors, strict=True) if error is None]
            failed = next((error for error in errors if error is not None), None)
            if failed is not None:
                return published, failed
        return published, None

    async def _publish_one(self, row: Row) -> MessagingError | None:
        event = DataAvailable.model_validate(row.event)
        try:
            await self._bus.publish_data(event, SDB_SOURCE, row.event_id)
        except MessagingError as exc:
            return exc
        return None


def _waves(rows: Sequence[Row]) -> Iterator[list[Row]]:
    """Cut `rows` into what is published at once: never two versions of one product.

    Were the first of them refused, the second would overtake it.
    """
    wave: list[Row] = []
    instances: set[tuple[str, str]] = set()
    for row in rows:
        instance = (row.event["product"], row.event["obs_id"])
        if instance in instances or len(wave) == MAX_AT_ONCE:
            yield wave
            wave, instances = [], set()
        wave.append(row)
        instances.add(instance)
    if wave:
        yield wave


def _remove(ids: Sequence[int], connection: sa.Connection) -> None:
    connection.execute(sa.delete(OUTBOX).where(OUTBOX.c.id.in_(ids)))
