"""The transactional outbox: announcements are committed with their products, then published."""

import asyncio
import json
import logging
from collections.abc import Iterator, Sequence
from datetime import datetime
from functools import partial
from typing import Any, Final

import sqlalchemy as sa
from starlette.concurrency import run_in_threadpool

from batuta.errors import one_line
from batuta.messaging import Bus, MalformedEventError, MessagingError, utc_now
from batuta.messaging.events import data_of_type
from batuta.messaging.subjects import DATA_STREAM, SDB_SOURCE
from batuta.sdb.tables import OUTBOX
from batuta.service.committer import Committer
from batuta.service.database import UNAVAILABLE, reading

LOG: Final = logging.getLogger(__name__)

BATCH: Final = 256
MAX_IN_FLIGHT: Final = 64
"""Announcements published before NATS has acknowledged the first."""
RETRY_WAIT_S: Final = 1.0
MAX_AGE_S: Final = 60.0
"""Announcements that wait longer are a matter of health."""
POLL_INTERVAL_S: Final = 5.0
"""Another sdb on the same database may have died before it published its own announcements."""
MAX_COUNTED: Final = 20_000
"""Announcements that are counted: beyond, NATS has been away for so long that their age tells."""

Row = sa.Row[Any]

_COUNT: Final = sa.select(sa.func.count()).select_from(
    sa.select(OUTBOX.c.id).limit(MAX_COUNTED).subquery()
)


class Announcer:
    """Publishes the outbox on ``data.sdb``, in order, and deletes what NATS has acknowledged.

    A row is deleted only after its acknowledgement: killed between the two, the announcer
    publishes it again under the same event id, and NATS or its consumers drop the duplicate.

    Parameters
    ----------
    engine : sqlalchemy.Engine
        Where the outbox is read.
    committer : Committer
        Deletes acknowledged rows; the deletions share the commits of imports.
    bus : Bus
        Where it publishes.
    """

    def __init__(self, engine: sa.Engine, committer: Committer, bus: Bus) -> None:
        self._engine = engine
        self._committer = committer
        self._bus = bus
        self._woken = asyncio.Event()

    def wake(self) -> None:
        """Read the outbox now rather than at the next poll."""
        self._woken.set()

    async def run(self) -> None:
        """Publish until cancelled."""
        self._bus.on_reconnected(self._reconnected)
        while True:
            self._woken.clear()
            try:
                emptied = await self._publish_all()
            except UNAVAILABLE as exc:
                LOG.warning("announcements wait until the database answers: %s", one_line(exc))
                emptied = False
            await self._wait(POLL_INTERVAL_S if emptied else RETRY_WAIT_S)

    async def _publish_all(self) -> bool:
        """Publish all rows; return False if NATS did not acknowledge all of them."""
        while rows := await run_in_threadpool(self._oldest):
            published, error = await self._publish(rows)
            if published:
                await self._committer.commit(partial(_remove, published))
            if error is not None:
                LOG.warning("announcements wait until NATS acknowledges them: %s", error)
                return False
            if len(rows) < BATCH:
                break  # rows inserted since then have set `_woken`
        return True

    def length(self) -> int:
        """Return the number of announcements not published yet; `MAX_COUNTED` if there are more."""
        with reading(self._engine) as connection:
            return connection.scalar(_COUNT) or 0

    def oldest_age_s(self) -> float:
        """Return how long the oldest announcement has waited, in seconds; 0 if none does."""
        with reading(self._engine) as connection:
            oldest = connection.scalar(sa.select(OUTBOX.c.event_id).order_by(OUTBOX.c.id).limit(1))
        if oldest is None:
            return 0.0
        recorded = datetime.fromisoformat(oldest.rpartition("@")[2])
        return max((utc_now() - recorded).total_seconds(), 0.0)

    def problem(self) -> str | None:
        """Return in one line how long announcements have waited, if it is too long. It blocks."""
        try:
            age_s = self.oldest_age_s()
        except UNAVAILABLE:
            return None  # that is said of the database
        if age_s <= MAX_AGE_S:
            return None
        return f"the oldest of {self.length()} waits for {age_s:.0f} s"

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
        """Publish `rows` up to the first batch with a failure; return the acknowledged ids."""
        published: list[int] = []
        for batch in _concurrent_batches(rows):
            errors = await asyncio.gather(*map(self._publish_one, batch))
            published += [row.id for row, error in zip(batch, errors, strict=True) if error is None]
            failed = next((error for error in errors if error is not None), None)
            if failed is not None:
                return published, failed
        return published, None

    async def _publish_one(self, row: Row) -> MessagingError | None:
        try:
            event = data_of_type(row.type, row.event)
        except MalformedEventError as exc:
            return await self._put_aside(row, exc)
        try:
            await self._bus.publish_data(event, SDB_SOURCE, row.event_id)
        except MessagingError as exc:
            return exc
        return None

    async def _put_aside(self, row: Row, reason: MalformedEventError) -> MessagingError | None:
        """Make a dead letter of what an earlier version recorded: it must not stop the others."""
        LOG.error(
            "announcement %s: no event, stored as a dead letter: %s", row.event_id, one_line(reason)
        )
        payload = json.dumps(row.event).encode()
        try:
            await self._bus.publish_dead_letter(
                DATA_STREAM, payload, one_line(reason), f"outbox of the sdb#{row.id}"
            )
        except MessagingError as exc:
            return exc
        return None


def _concurrent_batches(rows: Sequence[Row]) -> Iterator[list[Row]]:
    """Split `rows` into batches that may be in flight together.

    Two versions of one product are never in one batch: if the first of them failed, the second
    would overtake it.
    """
    batch: list[Row] = []
    instances: set[tuple[object, object]] = set()
    for row in rows:
        instance = (row.event.get("product"), row.event.get("obs_id"))
        if instance in instances or len(batch) == MAX_IN_FLIGHT:
            yield batch
            batch, instances = [], set()
        batch.append(row)
        instances.add(instance)
    if batch:
        yield batch


def _remove(ids: Sequence[int], connection: sa.Connection) -> None:
    connection.execute(sa.delete(OUTBOX).where(OUTBOX.c.id.in_(ids)))
