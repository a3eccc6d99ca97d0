"""Dropping what is finished and old in the background, while decisions go on."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar

import sqlalchemy as sa

from batuta.conductor.database.orders import CommandLog
from batuta.conductor.database.retention.dropping import (
    SERVICE,
    Batch,
    Candidate,
    RetentionStore,
    in_chunks,
)
from batuta.conductor.pruning_lock import PruningLock, lock_file, lock_server
from batuta.errors import one_line
from batuta.service.database import UNAVAILABLE
from batuta.service.operators import Operator
from batuta.service.record_archive import ArchiveError
from batuta.service.retention import PRUNE_INTERVAL_S, PruneReport

LOG: Final = logging.getLogger(__name__)

RETRY_S: Final = 600.0
"""After so long what could not be archived is tried again, in seconds."""

T = TypeVar("T")


class Write(Protocol):
    """Runs a method that writes to the database, where writes wait for each other."""

    def __call__(self, work: Callable[..., T], *args: Any) -> Awaitable[T]:
        """Return what `work` returns."""


class Pruner:
    """Applies the rules of retention: once a day, and on request.

    Parameters
    ----------
    engine : sa.Engine
        The conductor's database.
    store : RetentionStore
        Finds, archives and drops.
    write : callable
        Runs what writes, in its turn: decisions wait for one small transaction at most.

    Attributes
    ----------
    observations, processings : int
        Dropped since the start.
    """

    def __init__(self, engine: sa.Engine, store: RetentionStore, write: Write) -> None:
        self._engine = engine
        self._store = store
        self._write = write
        self._commands = CommandLog(engine)
        self._turn = asyncio.Lock()
        self._problem: str | None = None
        self.observations = 0
        self.processings = 0

    def problem(self) -> str | None:
        """Return why the last sweep could not archive, in one line; None if it could."""
        return self._problem

    async def run(self) -> None:
        """Sweep once a day until cancelled."""
        while True:
            wait_s = PRUNE_INTERVAL_S
            try:
                await self.apply()
            except (ArchiveError, *UNAVAILABLE) as exc:
                LOG.warning("retention: %s; tried again in %g s", one_line(exc), RETRY_S)
                wait_s = RETRY_S
            await asyncio.sleep(wait_s)

    async def preview(self) -> PruneReport:
        """Return what would be dropped now."""
        report = self._new_report(applied=False)
        async for candidates in self._candidates():
            _count(report, candidates)
        return await self._with_free_space(report)

    async def apply(self, by: Operator | None = None) -> PruneReport:
        """Archive and drop what is finished and old, and return that; `by` has ordered it.

        Nothing is dropped if another conductor of the same database does it at this moment.

        Raises
        ------
        ArchiveError
            If the archive cannot be written: what was not archived is not dropped. Or if another
            conductor may prune by now.
        """
        report = self._new_report(applied=True)
        under_way = await asyncio.to_thread(self._store.batch_under_way)
        if under_way is None and not self._store.rules.drops:
            return await self._with_free_space(report)
        async with self._turn, self._alone() as lock:
            if lock is not None:
                number = None if by is None else await self._write(self._record, by)
                try:
                    await self._sweep(report, lock)
                except ArchiveError as exc:
                    self._problem = str(exc)
                    raise
                finally:
                    if number is not None:
                        await self._write(self._commands.add, number, report.processings)
                self._problem = None
        return await self._with_free_space(report)

    def _record(self, by: Operator) -> int:
        rules = self._store.rules.model_dump(mode="json", exclude_none=True)
        return self._commands.begin(by, "prune --apply", rules)

    async def _sweep(self, report: PruneReport, lock: PruningLock) -> None:
        if (left := await asyncio.to_thread(self._store.batch_under_way)) is not None:
            await self._drop(left, report, lock)
        waiting: list[str] = []
        async for candidates in self._candidates():
            waiting += [each.obs_id for each in candidates]
            if len(waiting) >= BATCH:
                await self._drop(await self._begin(waiting, lock), report, lock)
                waiting = []
        if waiting:
            await self._drop(await self._begin(waiting, lock), report, lock)
        if report.observations:
            LOG.info(
                "retention: %d observations dropped, with %d processings",
                report.observations,
                report.processings,
            )

    def _begin(self, obs_ids: list[str], lock: PruningLock) -> Awaitable[Batch]:
        return self._write(lock.held(self._store.begin_batch), obs_ids)

    async def _drop(self, batch: Batch, report: PruneReport, lock: PruningLock) -> None:
        snapshots = await asyncio.to_thread(lock.held(self._store.archive_batch), batch)
        changed = False
        for chunk in in_chunks(snapshots):
            began = time.monotonic()
            gone = await self._write(lock.held(self._store.drop), chunk, batch.file)
            changed |= len(gone) < len(chunk)
            processings = sum(len(each.processings) for each in gone)
            self.observations += len(gone)
            self.processings += processings
            report.observations = (report.observations or 0) + len(gone)
            report.processings += processings
            # Half of the time at most: what arrives meanwhile is decided without delay.
            await asyncio.sleep(time.monotonic() - began)
        if batch.file is None:
            return
        if changed:
            await asyncio.to_thread(lock.held(self._store.archive_dropped), batch)
        await self._write(lock.held(self._store.end_batch))
        report.archive.append(batch.file)

    async def _candidates(self) -> AsyncIterator[list[Candidate]]:
        after: str | None = "" if self._store.rules.drops else None
        while after is not None:
            candidates, after = await asyncio.to_thread(self._store.candidates, after)
            yield candidates

    @asynccontextmanager
    async def _alone(self) -> AsyncIterator[PruningLock | None]:
        """Let no other conductor of the database prune meanwhile; None if one does already."""
        if self._engine.dialect.name == "postgresql":
            lock = await asyncio.to_thread(lock_server, self._engine)
        else:
            lock = lock_file(Path(f"{self._engine.url.database}-pruning"))
        try:
            yield lock
        finally:
            if lock is not None:
                await asyncio.to_thread(lock.close)

    def _new_report(self, *, applied: bool) -> PruneReport:
        return PruneReport(
            service=SERVICE, rules=self._store.rules, applied=applied, observations=0
        )

    async def _with_free_space(self, report: PruneReport) -> PruneReport:
        free = await asyncio.to_thread(self._store.free_bytes)
        return report.model_copy(update={"free_bytes": free})


def _count(report: PruneReport, candidates: list[Candidate]) -> None:
    report.observations = (report.observations or 0) + len(candidates)
    report.processings += sum(each.processings for each in candidates)


BATCH: Final = 500
"""Observations in one file, about."""
