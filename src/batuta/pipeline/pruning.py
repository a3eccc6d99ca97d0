"""Drops the records of processings that ended long ago, to the archive or for good.

A record is dropped once its log and profile have been removed. Of one that succeeded its id and
attempt stay, so that a request which is repeated, however late, does not run it again.

With an archive, rows are marked with the file that they go to, the file is written, whole, and the
rows are deleted: killed at any point, the next sweep continues with the marked rows and the same
file. A row that is restarted meanwhile loses its mark, and the file is written again without it.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar

import sqlalchemy as sa

from batuta.errors import one_line
from batuta.messaging import ProcessingState
from batuta.messaging.processings import instant_of
from batuta.pipeline.schema import dropped, processings
from batuta.service.database import UNAVAILABLE, DatabaseError, insert, reading
from batuta.service.operators import Operator
from batuta.service.record_archive import ArchiveError, new_file_name, write_archive
from batuta.service.retention import PRUNE_INTERVAL_S, PruneReport, RetentionRules

LOG: Final = logging.getLogger(__name__)

BATCH: Final = 500
"""Records in one file, and deleted in one transaction."""
RETRY_S: Final = 600.0

T = TypeVar("T")
Row = sa.Row[Any]

_C: Final = processings.c


class Commit(Protocol):
    """Commits a write with those of others."""

    def __call__(self, write: Callable[[sa.Connection], T]) -> Awaitable[T]:
        """Return what `write` returns, once committed."""


class RecordStore:
    """Finds and drops the records of a service; the methods that write are given a transaction.

    Parameters
    ----------
    engine : sa.Engine
        The service's database.
    own : sa.ColumnElement
        Which rows are the service's.
    rules : RetentionRules
        What is dropped, and where it goes.
    with_files : bool
        Whether processings have logs: then they are removed first.
    """

    def __init__(
        self,
        engine: sa.Engine,
        own: sa.ColumnElement[bool],
        rules: RetentionRules,
        *,
        with_files: bool,
    ) -> None:
        self._engine = engine
        self._own = own
        self._files_removed = sa.not_(_C.log_kept) if with_files else sa.true()
        self.rules = rules

    def count(self, now: float) -> int:
        """Count the records that may be dropped."""
        with reading(self._engine) as db:
            return db.scalar(sa.select(sa.func.count()).where(self._may_drop(now))) or 0

    def marked(self) -> tuple[str | None, list[Row]]:
        """Return the records that are marked with one file, and that; none if there are none."""
        with reading(self._engine) as db:
            marked = self._own, _C.archive_file.is_not(None)
            file = db.scalar(sa.select(_C.archive_file).where(*marked).limit(1))
        return file, self.marked_with(file) if file is not None else []

    def marked_with(self, file: str) -> list[Row]:
        """Return the records that are marked with a file."""
        with reading(self._engine) as db:
            return list(
                db.execute(sa.select(processings).where(self._own, _C.archive_file == file))
            )

    def mark(self, db: sa.Connection, file: str | None, now: float) -> None:
        """Mark the next records that may be dropped with a file."""
        chosen = sa.select(_C.number).where(self._may_drop(now)).order_by(_C.ended).limit(BATCH)
        db.execute(sa.update(processings).where(_C.number.in_(chosen)).values(archive_file=file))

    def unmark(self, db: sa.Connection) -> None:
        """Remove the marks of all records."""
        marked = self._own, _C.archive_file.is_not(None)
        db.execute(sa.update(processings).where(*marked).values(archive_file=None))

    def drop_marked(self, db: sa.Connection, file: str, written: Sequence[Row]) -> bool:
        """Drop the records marked with a file; return False if others are than were written."""
        rows = db.execute(
            sa.select(processings).where(self._own, _C.archive_file == file).with_for_update()
        ).all()
        if {row.id for row in rows} != {row.id for row in written}:
            return False
        _drop(db, rows)
        return True

    def drop_next(self, db: sa.Connection, now: float) -> int:
        """Drop the next records, which go to no file; return how many."""
        rows = db.execute(
            sa.select(processings)
            .where(self._may_drop(now))
            .order_by(_C.ended)
            .limit(BATCH)
            .with_for_update()
        ).all()
        _drop(db, rows)
        return len(rows)

    def free_bytes(self) -> int | None:
        """Return the free space in the file of the database; None where a server looks after it."""
        if self._engine.dialect.name != "sqlite":
            return None
        with reading(self._engine) as db:
            pages = db.scalar(sa.text("PRAGMA freelist_count"))
            return int(pages or 0) * int(db.scalar(sa.text("PRAGMA page_size")) or 0)

    def _may_drop(self, now: float) -> sa.ColumnElement[bool]:
        succeeded = ProcessingState.SUCCEEDED.value
        failed = [each.value for each in ProcessingState if each.ended and each.value != succeeded]
        before = {each: self.rules.cutoff(now, succeeded=each) for each in (True, False)}
        return sa.and_(
            self._own,
            self._files_removed,
            # The index knows no more than the time.
            _C.ended < self.rules.latest_cutoff(now),
            sa.or_(
                sa.and_(_C.state == succeeded, _C.ended < before[True]),
                sa.and_(_C.state.in_(failed), _C.ended < before[False]),
            ),
        )


class RecordPruner:
    """Applies the rules of retention to a service's records: once a day, and on request.

    Parameters
    ----------
    name : str
        Of the service.
    store : RecordStore
        Finds and drops.
    commit : callable
        Commits what is written with what others write.
    on_dropped : callable
        Called with the number of records that were dropped.

    Attributes
    ----------
    problem : str or None
        Why the last sweep could not archive, in one line.
    """

    def __init__(
        self, name: str, store: RecordStore, commit: Commit, on_dropped: Callable[[int], None]
    ) -> None:
        self._name = name
        self._store = store
        self._commit = commit
        self._on_dropped = on_dropped
        self._turn = asyncio.Lock()
        self.problem: str | None = None

    async def run(self) -> None:
        """Sweep once a day until cancelled."""
        while True:
            wait_s = PRUNE_INTERVAL_S
            try:
                await self.apply()
            except (ArchiveError, DatabaseError, *UNAVAILABLE) as exc:
                LOG.warning("retention: %s; tried again in %g s", one_line(exc), RETRY_S)
                wait_s = RETRY_S
            await asyncio.sleep(wait_s)

    async def preview(self) -> PruneReport:
        """Return what would be dropped now."""
        report = PruneReport(service=self._name, rules=self._store.rules, applied=False)
        if self._store.rules.drops:
            report.processings = await asyncio.to_thread(self._store.count, time.time())
        return await self._with_free_space(report)

    async def apply(self, by: Operator | None = None) -> PruneReport:
        """Archive and drop what is old, and return that; `by` has ordered it.

        Raises
        ------
        ArchiveError
            If the archive cannot be written: what was not archived is not dropped.
        """
        report = PruneReport(service=self._name, rules=self._store.rules, applied=True)
        async with self._turn:
            try:
                await self._sweep(report)
            except ArchiveError as exc:
                self.problem = str(exc)
                raise
            self.problem = None
        if report.processings:
            ordered = "" if by is None else f", ordered by {by.label}"
            LOG.info("retention: %d records of processings dropped%s", report.processings, ordered)
        return await self._with_free_space(report)

    async def _sweep(self, report: PruneReport) -> None:
        store, folder = self._store, self._store.rules.archive
        if folder is not None:
            while await self._archive_next(folder, report):
                pass
            return
        await self._commit(store.unmark)  # the rules had an archive before
        dropped_now = BATCH if store.rules.drops else 0
        while dropped_now == BATCH:
            dropped_now = await self._commit(partial(store.drop_next, now=time.time()))
            self._count(report, dropped_now)

    async def _archive_next(self, folder: Path, report: PruneReport) -> bool:
        """Archive and drop the records that are marked, or the next ones; False without any."""
        store = self._store
        file, rows = await asyncio.to_thread(store.marked)
        if file is None and store.rules.drops:
            now = time.time()
            await self._commit(partial(store.mark, file=new_file_name(self._name, now), now=now))
            file, rows = await asyncio.to_thread(store.marked)
        if file is None:
            return False
        await asyncio.to_thread(write_archive, folder, file, map(_archive_record, rows))
        while not await self._commit(partial(store.drop_marked, file=file, written=rows)):
            rows = await asyncio.to_thread(store.marked_with, file)
            await asyncio.to_thread(write_archive, folder, file, map(_archive_record, rows))
        self._count(report, len(rows))
        report.archive += [file] if rows else []
        return True

    def _count(self, report: PruneReport, number: int) -> None:
        report.processings += number
        self._on_dropped(number)

    async def _with_free_space(self, report: PruneReport) -> PruneReport:
        free = await asyncio.to_thread(self._store.free_bytes)
        return report.model_copy(update={"free_bytes": free})


def _drop(db: sa.Connection, rows: Sequence[Row]) -> None:
    names = [column.name for column in dropped.columns]
    kept = [
        {name: row._mapping[name] for name in names}
        for row in rows
        if row.state == ProcessingState.SUCCEEDED.value
    ]
    if kept:
        db.execute(insert(db, dropped).on_conflict_do_nothing(), kept)
    db.execute(sa.delete(processings).where(_C.number.in_([row.number for row in rows])))


def _archive_record(row: Row) -> dict[str, Any]:
    """Return a record as a line of the archive; times are UTC, in ISO 8601."""
    values = {name: row._mapping[name] for name in _ARCHIVED}
    for name in ("started", "ended"):
        values[name] = instant_of(values[name]).isoformat() if values[name] is not None else None
    return {**values, "archived": instant_of(time.time()).isoformat()}


_ARCHIVED: Final = (
    "id",
    "provider",
    "product",
    "obs_id",
    "state",
    "attempt",
    "error",
    "inputs",
    "outputs",
    "code",
    "started",
    "ended",
)
