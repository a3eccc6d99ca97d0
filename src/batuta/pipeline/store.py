"""What a pipeline remembers: every processing asked for, and how far it is."""

import asyncio
import time
import uuid
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, TypeVar

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from batuta.messaging import ProcessingState, Progress
from batuta.pipeline.messages import Outcome, PipelineProcessing, ProcessingRequest
from batuta.pipeline.runner import Job
from batuta.pipeline.schema import processings
from batuta.service.committer import Committer
from batuta.service.database import database_error, reading

MAX_RESTARTS: Final = 3
"""A processing during which the service died so often is not run again: it may be why."""

T = TypeVar("T")

_C: Final = processings.c
_ENDED: Final = [state.value for state in ProcessingState if state.ended]


@dataclass(frozen=True)
class Stored:
    """A processing as it is in the database."""

    record: PipelineProcessing
    key: str
    runs: int
    log_kept: bool

    @property
    def job(self) -> Job:
        """Its current run."""
        record = self.record
        return Job(
            id=record.id,
            product=record.product,
            obs_id=record.obs_id,
            provider=record.provider,
            key=self.key,
            run=f"{self.key}-{self.runs}",
            attempt=record.attempt,
        )


@dataclass(frozen=True)
class Submitted:
    """What became of a request: its processing, and whether it is to be run."""

    stored: Stored
    to_run: bool


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Which processings to list, the newest first; `before` is a cursor."""

    state: ProcessingState | None = None
    product: str | None = None
    obs_id: str | None = None
    before: int | None = None
    limit: int = 100


class Store:
    """The processings of a service, in its database."""

    def __init__(self, engine: sa.Engine, committer: Committer, providers: Collection[str]) -> None:
        self._engine = engine
        # Pipelines may share a database: each takes up, lists and sweeps what is its own.
        self._own = _C.provider.in_(providers)
        self._committer = committer

    async def submit(self, request: ProcessingRequest, provider: str) -> Submitted:
        """Record a request; one known by its id is started again only by a higher attempt."""
        return await self._commit(lambda db: _submit(db, request, provider))

    async def running(self, processing_id: str) -> Stored:
        """Record that a run starts."""
        values = {"state": ProcessingState.RUNNING.value, "started": time.time()}
        return await self._set(processing_id, {**values, "runs": _C.runs + 1})

    async def ended(
        self,
        record: PipelineProcessing,
        state: ProcessingState,
        outcome: Outcome,
        *,
        profiled: bool,
    ) -> Stored:
        """Record the end of a processing, with the progress of `record`."""
        return await self._set(
            record.id,
            {
                "state": state.value,
                "error": outcome.error,
                "inputs": [each.model_dump() for each in outcome.inputs],
                "outputs": [each.model_dump() for each in outcome.outputs],
                "done": record.progress.done,
                "total": record.progress.total,
                "ended": time.time(),
                "profile_kept": profiled,
            },
        )

    async def put_back(self, processing_id: str) -> Stored:
        """Record that a run was stopped with the service, and is to be run again."""
        return await self._commit(lambda db: _put_back(db, processing_id))

    async def recover(self) -> list[Stored]:
        """Take up what a service that is gone has left, the oldest first.

        What was running is to be run again, unless it has been so `MAX_RESTARTS` times.
        """
        return await self._commit(self._recover)

    async def find(self, processing_id: str) -> Stored | None:
        """Return the processing `processing_id`, if there is one."""
        return await asyncio.to_thread(self._find, processing_id)

    async def page(self, selection: Selection) -> tuple[list[PipelineProcessing], int | None]:
        """Return processings and the cursor of those that follow."""
        return await asyncio.to_thread(self._page, selection)

    async def profiled(self, processing_id: str) -> Stored:
        """Record that the profile of a processing that has ended is kept."""
        return await self._set(processing_id, {"profile_kept": True})

    async def outdated(self, before: float) -> list[str]:
        """Keys of what is kept of processings that ended before a time, in seconds."""
        return await asyncio.to_thread(self._outdated, before)

    async def forget(self, keys: Sequence[str]) -> None:
        """Record that the logs and profiles of `keys` are kept no more."""
        change = sa.update(processings).where(_C.key.in_(keys))
        change = change.values(log_kept=False, profile_kept=False)
        await self._commit(lambda db: db.execute(change) and None)

    async def _commit(self, write: Callable[[sa.Connection], T]) -> T:
        """Raise `DatabaseError` where the database refuses."""
        try:
            return await self._committer.commit(write)
        except SQLAlchemyError as exc:
            raise database_error(self._engine, exc) from exc

    async def _set(self, processing_id: str, values: dict[str, Any]) -> Stored:
        change = sa.update(processings).where(_C.id == processing_id).values(**values)
        return await self._commit(
            lambda db: _stored(db.execute(change.returning(processings)).one())
        )

    def _find(self, processing_id: str) -> Stored | None:
        with reading(self._engine) as db:
            return _find(db, processing_id)

    def _page(self, selection: Selection) -> tuple[list[PipelineProcessing], int | None]:
        wanted = {
            _C.state: selection.state and selection.state.value,
            _C.product: selection.product,
            _C.obs_id: selection.obs_id,
        }
        query = sa.select(processings).order_by(_C.number.desc()).limit(selection.limit + 1)
        query = query.where(
            self._own, *(column == value for column, value in wanted.items() if value)
        )
        if selection.before is not None:
            query = query.where(_C.number < selection.before)
        with reading(self._engine) as db:
            rows = list(db.execute(query))
        more = len(rows) > selection.limit
        rows = rows[: selection.limit]
        return [_stored(row).record for row in rows], rows[-1].number if more else None

    def _outdated(self, before: float) -> list[str]:
        query = sa.select(_C.key).where(
            self._own, _C.log_kept, _C.state.in_(_ENDED), _C.ended < before
        )
        with reading(self._engine) as db:
            return list(db.scalars(query))

    def _recover(self, db: sa.Connection) -> list[Stored]:
        was_running = sa.and_(self._own, _C.state == ProcessingState.RUNNING.value)
        too_often = _C.restarts >= MAX_RESTARTS
        error = f"the service died {MAX_RESTARTS + 1} times while it ran: not run again"
        given_up = sa.update(processings).where(was_running, too_often)
        given_up = given_up.values(
            state=ProcessingState.FAILED.value, error=error, ended=time.time()
        )
        again = sa.update(processings).where(was_running)
        again = again.values(
            state=ProcessingState.QUEUED.value, restarts=_C.restarts + 1, started=None
        )
        ended = [_stored(row) for row in db.execute(given_up.returning(processings))]
        db.execute(again)
        queued = sa.select(processings).where(self._own, _C.state == ProcessingState.QUEUED.value)
        return ended + [_stored(row) for row in db.execute(queued.order_by(_C.number))]


def _find(db: sa.Connection, processing_id: str) -> Stored | None:
    row = db.execute(sa.select(processings).where(_C.id == processing_id)).one_or_none()
    return _stored(row) if row is not None else None


def _submit(db: sa.Connection, request: ProcessingRequest, provider: str) -> Submitted:
    known = _find(db, request.processing_id) if request.processing_id else None
    if known is None:
        return Submitted(_add(db, request, provider), to_run=True)
    if not _starts_again(known.record, request):
        return Submitted(known, to_run=False)
    again = {**_FRESH, "attempt": request.attempt}
    change = sa.update(processings).where(_C.id == known.record.id).values(**again)
    return Submitted(_stored(db.execute(change.returning(processings)).one()), to_run=True)


def _starts_again(known: PipelineProcessing, request: ProcessingRequest) -> bool:
    same = (known.product, known.obs_id) == (request.product, request.obs_id)
    may = known.state in (ProcessingState.FAILED, ProcessingState.CANCELLED)
    return same and may and request.attempt > known.attempt


_FRESH: Final[dict[str, Any]] = {
    "state": ProcessingState.QUEUED.value,
    "restarts": 0,
    "done": 0,
    "total": 0,
    "error": None,
    "inputs": [],
    "outputs": [],
    "started": None,
    "ended": None,
    "log_kept": True,
    "profile_kept": False,
}


def _add(db: sa.Connection, request: ProcessingRequest, provider: str) -> Stored:
    added = sa.insert(processings).values(
        id=request.processing_id or str(uuid.uuid4()),
        key=uuid.uuid4().hex,
        provider=provider,
        product=request.product,
        obs_id=request.obs_id,
        attempt=request.attempt,
        runs=0,
        **_FRESH,
    )
    return _stored(db.execute(added.returning(processings)).one())


def _put_back(db: sa.Connection, processing_id: str) -> Stored:
    mine = _C.id == processing_id
    still = sa.update(processings).where(mine, _C.state == ProcessingState.RUNNING.value)
    db.execute(still.values(state=ProcessingState.QUEUED.value, started=None))
    return _stored(db.execute(sa.select(processings).where(mine)).one())


def _stored(row: sa.Row[Any]) -> Stored:
    record = PipelineProcessing(
        id=row.id,
        product=row.product,
        obs_id=row.obs_id,
        state=ProcessingState(row.state),
        attempt=row.attempt,
        progress=Progress(done=row.done, total=row.total),
        error=row.error,
        started=_when(row.started),
        ended=_when(row.ended),
        provider=row.provider,
        inputs=row.inputs,
        outputs=row.outputs,
        profile=f"/processing/{row.id}/profile" if row.profile_kept else None,
    )
    return Stored(record, row.key, row.runs, row.log_kept)


def _when(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
