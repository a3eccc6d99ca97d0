"""The transactional outbox: announcements are committed with their products, then published."""

import asyncio
import json
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
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

DELETE_AFTER_S: Final = 0.1
"""How long rows stay that NATS has acknowledged, so that one commit deletes many.

One at once for each would compete for the disk, and for the interpreter, with what consumers ask
about the announcement."""
MAX_IN: Final = 500
"""Values in one ``IN``: databases have a limit."""
MAX_FRESH: Final = 4096
"""Announcements that wait in memory; if there are more, the outbox is read."""

_DELETE: Final = sa.delete(OUTBOX).where(
    OUTBOX.c.id == sa.bindparam("id"), OUTBOX.c.event_id == sa.bindparam("event_id")
)
"""By both: SQLite gives the id of a row that was deleted to the next one."""

_COUNT: Final = sa.select(sa.func.count()).select_from(
    sa.select(OUTBOX.c.id).limit(MAX_COUNTED).subquery()
)


@dataclass(frozen=True, slots=True)
class Announcement:
    """A row of the outbox."""

    id: int
    event_id: str
    type: str
    event: Any
    """An object of JSON, unless it is no event; the text itself, if that is no JSON."""


class Announcer:
    """Publishes the outbox on ``data.sdb``, in order, and deletes what NATS has acknowledged.

    Rows are handed over once they are committed. Those that were not, or could not be published,
    are read from the outbox. A row is deleted only after its acknowledgement: killed between the
    two, the announcer publishes it again under the same event id, and NATS or its consumers drop
    the duplicate.

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
        self._reads_outbox = True
        self._fresh: list[Announcement] = []
        self._published = asyncio.Event()
        self._acknowledged: dict[str, int] = {}
        """The ids of rows that are to be deleted, by their event ids."""

    def wake(self) -> None:
        """Read the outbox now rather than at the next poll."""
        self._reads_outbox = True
        self._woken.set()

    def announce(self, announcement: Announcement) -> None:
        """Publish a row that has been committed, after those that were handed over before."""
        if len(self._fresh) < MAX_FRESH:
            self._fresh.append(announcement)
        else:
            self._reads_outbox = True
        self._woken.set()

    async def run(self) -> None:
        """Publish until cancelled."""
        self._bus.on_reconnected(self._reconnected)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._publish_until_cancelled())
                group.create_task(self._delete_until_cancelled())
        finally:
            await self._try_to_delete()

    async def _publish_until_cancelled(self) -> None:
        reads_at = time.monotonic()
        while True:
            self._woken.clear()
            if self._reads_outbox or time.monotonic() >= reads_at:
                self._reads_outbox = False
                reads_at = time.monotonic() + POLL_INTERVAL_S
                done = await self._try_to_publish_outbox()
            else:
                fresh, self._fresh = self._fresh, []
                done = await self._publish(fresh)
            if done:
                await self._wait(reads_at - time.monotonic())
            else:
                self._reads_outbox = True
                await self._wait(RETRY_WAIT_S)

    async def _try_to_publish_outbox(self) -> bool:
        try:
            return await self._publish_outbox()
        except UNAVAILABLE as exc:
            LOG.warning("announcements wait until the database answers: %s", one_line(exc))
            return False

    async def _publish_outbox(self) -> bool:
        """Publish all rows; return False if NATS did not acknowledge all of them."""
        while True:
            self._fresh.clear()  # committed before they were handed over: they are read
            rows = await run_in_threadpool(self._oldest)
            if not await self._publish(rows):
                return False
            if len(rows) < BATCH:
                return True  # rows inserted since then are handed over
            await self._delete_acknowledged()

    async def _publish(self, rows: Sequence[Announcement]) -> bool:
        """Publish `rows`, in order; return False if NATS did not acknowledge one, and log why."""
        waiting = [row for row in rows if row.event_id not in self._acknowledged]
        for batch in _concurrent_batches(waiting):
            errors = await asyncio.gather(*map(self._publish_one, batch))
            self._acknowledged |= {
                row.event_id: row.id
                for row, error in zip(batch, errors, strict=True)
                if error is None
            }
            self._published.set()
            failed = next((error for error in errors if error is not None), None)
            if failed is not None:
                LOG.warning("announcements wait until NATS acknowledges them: %s", failed)
                return False
        return True

    async def _delete_until_cancelled(self) -> None:
        while True:
            await self._published.wait()
            await asyncio.sleep(DELETE_AFTER_S)
            self._published.clear()
            if not await self._try_to_delete():
                self._published.set()
                await asyncio.sleep(RETRY_WAIT_S)

    async def _try_to_delete(self) -> bool:
        try:
            await self._delete_acknowledged()
        except UNAVAILABLE as exc:
            LOG.warning("announcements cannot be deleted: %s", one_line(exc))
            return False
        return True

    async def _delete_acknowledged(self) -> None:
        rows = [{"id": id_, "event_id": event_id} for event_id, id_ in self._acknowledged.items()]
        if rows:
            await self._committer.commit(partial(_delete, rows))
        # Only then: until they are deleted, they are read, and must be told from the others.
        for row in rows:
            self._acknowledged.pop(str(row["event_id"]), None)

    def length(self) -> int:
        """Return the number of announcements not published yet; `MAX_COUNTED` if there are more."""
        with self._reading() as (connection, acknowledged):
            return _count_waiting(connection, acknowledged)

    def oldest_age_s(self) -> float:
        """Return how long the oldest announcement has waited, in seconds; 0 if none does."""
        with self._reading() as (connection, acknowledged):
            return _oldest_age_s(connection, acknowledged)

    def problem(self) -> str | None:
        """Return in one line how long announcements have waited, if it is too long. It blocks."""
        try:
            with self._reading() as (connection, acknowledged):
                age_s = _oldest_age_s(connection, acknowledged)
                if age_s <= MAX_AGE_S:
                    return None
                number = _count_waiting(connection, acknowledged)
        except UNAVAILABLE:
            return None  # that is said of the database
        return f"the oldest of {number} waits for {age_s:.0f} s"

    @contextmanager
    def _reading(self) -> Iterator[tuple[sa.Connection, Mapping[str, int]]]:
        # Copied first: what was acknowledged, and is deleted and forgotten while the outbox is
        # read, is not taken for one that waits.
        acknowledged = self._acknowledged.copy()
        with reading(self._engine) as connection:
            yield connection, acknowledged

    async def _reconnected(self) -> None:
        self.wake()

    async def _wait(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._woken.wait()
        except TimeoutError:
            return

    def _oldest(self) -> list[Announcement]:
        with reading(self._engine) as connection:
            event = _as_bytes(OUTBOX.c.event, connection.dialect.name)
            columns = OUTBOX.c.id, OUTBOX.c.event_id, OUTBOX.c.type, event
            rows = connection.execute(sa.select(*columns).order_by(OUTBOX.c.id).limit(BATCH))
            return [Announcement(row.id, row.event_id, row.type, _read(row.event)) for row in rows]

    async def _publish_one(self, row: Announcement) -> MessagingError | None:
        try:
            event = data_of_type(row.type, row.event)
        except MalformedEventError as exc:
            return await self._put_aside(row, exc)
        try:
            await self._bus.publish_data(event, SDB_SOURCE, row.event_id)
        except MessagingError as exc:
            return exc
        return None

    async def _put_aside(
        self, row: Announcement, reason: MalformedEventError
    ) -> MessagingError | None:
        """Make a dead letter of what an earlier version recorded: it must not stop the others."""
        LOG.error(
            "announcement %s: no event, stored as a dead letter: %s", row.event_id, one_line(reason)
        )
        payload = json.dumps(row.event).encode()
        # By both: SQLite gives the id of a row that was deleted to the next one, of which NATS
        # would take the letter for the same.
        origin = f"outbox of the sdb, {row.event_id}#{row.id}"
        try:
            await self._bus.publish_dead_letter(DATA_STREAM, payload, one_line(reason), origin)
        except MessagingError as exc:
            return exc
        return None


def _as_bytes(column: sa.Column[Any], dialect: str) -> sa.ColumnElement[bytes]:
    """Return the text of a column of JSON: SQLite may have any bytes there."""
    if dialect == "sqlite":
        return sa.cast(column, sa.LargeBinary).label(column.name)
    text = sa.func.convert_to(sa.cast(column, sa.Text), "UTF8")
    return sa.type_coerce(text, sa.LargeBinary).label(column.name)


def _read(stored: bytes) -> Any:
    try:
        return json.loads(stored.decode())
    except (ValueError, RecursionError):
        return stored.decode(errors="replace")


def _concurrent_batches(rows: Sequence[Announcement]) -> Iterator[list[Announcement]]:
    """Split `rows` into batches that may be in flight together.

    Two versions of one product are never in one batch: if the first of them failed, the second
    would overtake it.
    """
    batch: list[Announcement] = []
    instances: set[tuple[str, str] | None] = set()
    for row in rows:
        instance = _instance_of(row)
        if instance in instances or len(batch) == MAX_IN_FLIGHT:
            yield batch
            batch, instances = [], set()
        batch.append(row)
        instances.add(instance)
    if batch:
        yield batch


def _instance_of(row: Announcement) -> tuple[str, str] | None:
    """Return what a row announces a version of; of one that is no event, whatever it has there."""
    if not isinstance(row.event, Mapping):
        return None
    return str(row.event.get("product")), str(row.event.get("obs_id"))


def _count_waiting(connection: sa.Connection, acknowledged: Mapping[str, int]) -> int:
    """Count the rows that are not `acknowledged`; those are there until they are deleted."""
    rows = connection.scalar(_COUNT) or 0
    ids, there = list(acknowledged.values()), 0
    for start in range(0, len(ids), MAX_IN):
        some = sa.select(OUTBOX.c.event_id).where(OUTBOX.c.id.in_(ids[start : start + MAX_IN]))
        # SQLite gives the id of a row that was deleted to the next one.
        there += sum(each in acknowledged for each in connection.scalars(some))
    return max(rows - there, 0)


def _oldest_age_s(connection: sa.Connection, acknowledged: Mapping[str, int]) -> float:
    several = sa.select(OUTBOX.c.event_id).order_by(OUTBOX.c.id).limit(len(acknowledged) + 1)
    known = connection.scalars(several).all()
    oldest = next((each for each in known if each not in acknowledged), None)
    if oldest is None:
        return 0.0
    recorded = datetime.fromisoformat(oldest.rpartition("@")[2])
    return max((utc_now() - recorded).total_seconds(), 0.0)


def _delete(rows: Sequence[Mapping[str, Any]], connection: sa.Connection) -> None:
    connection.execute(_DELETE, rows)
