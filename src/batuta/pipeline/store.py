"""The database of a pipeline service: every processing requested, and its state."""

import asyncio
import re
import time
import uuid
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache, partial
from typing import Any, Final, TypeVar

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from batuta.messaging import ProcessingState, Progress
from batuta.messaging.processings import instant_of
from batuta.pipeline.messages import Outcome, PipelineProcessing, ProcessingRequest
from batuta.pipeline.pruning import RecordStore
from batuta.pipeline.runner import ProcessingRun
from batuta.pipeline.schema import WITH_FILES, dropped, processings
from batuta.service.committer import Committer
from batuta.service.database import database_error, reading
from batuta.service.listing import Listing, equals_unindexed
from batuta.service.retention import RetentionRules
from batuta.stages import Stage, rank_of, stage_of

MAX_RESTARTS: Final = 3
"""How often a processing is run again after the service died: it may be the cause."""
MAX_REMOVED: Final = 1000
"""Of how many processings one statement records that their files are removed."""

T = TypeVar("T")

_C: Final = processings.c


@dataclass(frozen=True)
class StoredProcessing:
    """A row of the database: the public record, and what only the service needs."""

    record: PipelineProcessing
    key: str
    runs: int
    log_kept: bool
    recorded: bool = True
    """Whether there is a row of it; False if that was dropped, long after it had succeeded."""
    given: Mapping[str, int] | None = None
    """The versions that it was asked to be made from."""
    graph_version: str | None = None
    stage: Stage | None = None

    @property
    def current_run(self) -> ProcessingRun:
        """The current run."""
        record = self.record
        return ProcessingRun(
            id=record.id,
            product=record.product,
            obs_id=record.obs_id,
            provider=record.provider,
            key=self.key,
            run_id=f"{self.key}-{self.runs}",
            attempt=record.attempt,
            given=self.given,
            graph_version=self.graph_version,
            stage=self.stage,
        )


@dataclass(frozen=True)
class Submission:
    """The result of a request: its processing, and whether it has to be run."""

    stored: StoredProcessing
    to_run: bool


@dataclass(frozen=True, kw_only=True)
class ProcessingFilter:
    """Which processings to list, the newest first; `before` is a cursor."""

    state: ProcessingState | None = None
    product: str | None = None
    obs_id: str | None = None
    before: int | None = None
    limit: int = 100


class ProcessingStore:
    """Reads and writes the processings of a service."""

    def __init__(self, engine: sa.Engine, committer: Committer, providers: Collection[str]) -> None:
        self._engine = engine
        # Pipelines may share a database: each recovers, lists and expires its own rows only.
        self._own = _C.provider.in_(providers)
        self._committer = committer

    async def submit(self, request: ProcessingRequest, provider: str) -> Submission:
        """Record a request.

        A known id is restarted only by a higher attempt; while it is queued, it becomes that
        attempt.
        """
        return await self._commit(lambda db: _submit(db, request, provider))

    async def record_start(self, processing_id: str, code: str | None = None) -> StoredProcessing:
        """Record that a run starts, with the version `code` of its pipeline's code."""
        values = {"state": ProcessingState.RUNNING.value, "started": time.time(), "code": code}
        return await self._commit(lambda db: _changed(db, processing_id, values, runs_more=1))

    async def record_end(
        self,
        record: PipelineProcessing,
        state: ProcessingState,
        outcome: Outcome,
        *,
        profiled: bool,
    ) -> StoredProcessing:
        """Record the end of a processing, with the progress of `record`."""
        return await self._update(
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
                # Code may have been loaded between the record of the start and the start.
                **({"code": outcome.code} if outcome.code else {}),
            },
        )

    async def cancel_queued(
        self, processing_id: str, outcome: Outcome, attempt: int | None = None
    ) -> StoredProcessing:
        """Record that a queued processing is cancelled; return it as it is then.

        With `attempt`, one that has become a later attempt stays queued.
        """
        return await self._commit(lambda db: _cancel_queued(db, processing_id, outcome, attempt))

    async def requeue(self, processing_id: str) -> StoredProcessing:
        """Queue a processing again whose run was stopped with the service; one that ended stays."""
        return await self._commit(lambda db: _requeue(db, processing_id))

    async def recover(self) -> list[StoredProcessing]:
        """Return the processings that a previous service has left, the oldest first.

        Those that were running are queued again, unless restarted `MAX_RESTARTS` times already.
        """
        return await self._commit(self._recover)

    async def find(self, processing_id: str) -> StoredProcessing | None:
        """Return the processing `processing_id`, if there is one."""
        return await asyncio.to_thread(self._find, processing_id)

    async def list_page(
        self, selected: ProcessingFilter
    ) -> tuple[list[PipelineProcessing], int | None]:
        """Return one page of processings, and the cursor of the next; None on the last page."""
        return await asyncio.to_thread(self._list_page, selected)

    async def record_profile(self, processing_id: str) -> StoredProcessing:
        """Record that an ended processing has a profile."""
        return await self._update(processing_id, {"profile_kept": True})

    async def expired_keys(self, before: float) -> list[str]:
        """Return the keys of processings with files that ended before a time, in seconds."""
        return await asyncio.to_thread(self._expired_keys, before)

    async def record_removal(self, keys: Sequence[str]) -> None:
        """Record that the logs and profiles of `keys` have been removed."""
        # Many may expire at once, after a pause of weeks: the values of a statement are bounded.
        for start in range(0, len(keys), MAX_REMOVED):
            change = sa.update(processings).where(_C.key.in_(keys[start : start + MAX_REMOVED]))
            change = change.values(log_kept=False, profile_kept=False)
            await self._commit(partial(_execute, change=change))

    def records(self, rules: RetentionRules, *, with_files: bool) -> RecordStore:
        """Return what drops records by `rules`; `with_files`, once their files are removed."""
        return RecordStore(self._engine, self._own, rules, with_files=with_files)

    async def commit(self, write: Callable[[sa.Connection], T]) -> T:
        """Commit `write` with what others write; raise `DatabaseError` if the database refuses."""
        return await self._commit(write)

    async def _commit(self, write: Callable[[sa.Connection], T]) -> T:
        """Commit `write`; raise `DatabaseError` if the database refuses."""
        try:
            return await self._committer.commit(write)
        except SQLAlchemyError as exc:
            raise database_error(self._engine, exc) from exc

    async def _update(self, processing_id: str, values: dict[str, Any]) -> StoredProcessing:
        return await self._commit(lambda db: _changed(db, processing_id, values))

    def _find(self, processing_id: str) -> StoredProcessing | None:
        with reading(self._engine) as db:
            return _find(db, processing_id)

    def _list_page(self, selected: ProcessingFilter) -> tuple[list[PipelineProcessing], int | None]:
        after = None if selected.before is None else (selected.before,)
        with reading(self._engine) as db:
            rows, following = _list(selected, self._own).page(db, selected.limit, after)
        return [_from_row(row).record for row in rows], following[0] if following else None

    def _expired_keys(self, before: float) -> list[str]:
        # As the index says it: it does not grow with those whose files are gone.
        query = sa.select(_C.key).where(sa.text(WITH_FILES), _C.ended < before, self._own)
        with reading(self._engine) as db:
            return list(db.scalars(query))

    def _recover(self, db: sa.Connection) -> list[StoredProcessing]:
        was_running = sa.and_(self._own, _C.state == ProcessingState.RUNNING.value)
        too_often = _C.restarts >= MAX_RESTARTS
        error = f"the service died {MAX_RESTARTS + 1} times while this processing ran; giving up"
        given_up = sa.update(processings).where(was_running, too_often)
        given_up = given_up.values(
            state=ProcessingState.FAILED.value, error=error, ended=time.time()
        )
        again = sa.update(processings).where(was_running)
        again = again.values(
            state=ProcessingState.QUEUED.value, restarts=_C.restarts + 1, started=None
        )
        ended = [_from_row(row) for row in db.execute(given_up.returning(processings))]
        db.execute(again)
        queued = sa.select(processings).where(self._own, _C.state == ProcessingState.QUEUED.value)
        return ended + [_from_row(row) for row in db.execute(queued.order_by(_C.number))]


def _list(selected: ProcessingFilter, own: sa.ColumnElement[bool]) -> Listing:
    """List processings, the newest first, by the filter that selects few."""
    state = selected.state.value if selected.state is not None else None
    named = [(_C.obs_id, selected.obs_id), (_C.state, state), (_C.product, selected.product)]
    given = [(column, value) for column, value in named if value is not None]
    # The first two have an index in this order.
    first = next((each for each in given if each[0] is not _C.product), None)
    return Listing(
        query=sa.select(processings),
        key=[_C.number],
        descending=True,
        selected=[] if first is None else [first[0] == first[1]],
        checked=[own, *(equals_unindexed(*each) for each in given if each is not first)],
    )


def _find(db: sa.Connection, processing_id: str) -> StoredProcessing | None:
    row = db.execute(_BY_ID, {"of": processing_id}).one_or_none()
    if row is not None:
        return _from_row(row)
    kept = db.execute(_DROPPED_BY_ID, {"of": processing_id}).one_or_none()
    return _from_dropped(kept) if kept is not None else None


# Built once: to build a statement takes SQLAlchemy four times as long as to execute it.
_BY_ID: Final = sa.select(processings).where(_C.id == sa.bindparam("of"))
_DROPPED_BY_ID: Final = sa.select(dropped).where(dropped.c.id == sa.bindparam("of"))
_ADD: Final = sa.insert(processings).returning(processings)


@cache
def _change(names: tuple[str, ...]) -> Any:
    """Return the statement that sets columns `names` of the processing `of` to ``new_...``."""
    values: dict[str, Any] = {
        name: sa.bindparam(f"new_{name}", type_=_C[name].type) for name in names
    }
    change = sa.update(processings).where(_C.id == sa.bindparam("of"))
    return change.values(values | {"runs": _C.runs + sa.bindparam("more")}).returning(processings)


def _changed(
    db: sa.Connection, processing_id: str, values: Mapping[str, Any], *, runs_more: int = 0
) -> StoredProcessing:
    """Set columns of a processing, count `runs_more` runs more, and return it."""
    new = {f"new_{name}": value for name, value in values.items()}
    row = db.execute(_change(tuple(values)), {**new, "of": processing_id, "more": runs_more}).one()
    return _from_row(row)


_UUID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def _submit(db: sa.Connection, request: ProcessingRequest, provider: str) -> Submission:
    known = _find(db, request.processing_id) if request.processing_id else None
    if known is None:
        return Submission(_add(db, request, provider), to_run=True)
    if _waits_as_earlier_attempt(known.record, request):
        # The earlier attempt was given up, such as while nobody could reach this service. What the
        # new one is to be made from may be newer, and is what the conductor records.
        return Submission(_changed(db, known.record.id, _asked(request)), to_run=False)
    if not _may_restart(known.record, request):
        return Submission(known, to_run=False)
    if not known.recorded:
        db.execute(sa.delete(dropped).where(dropped.c.id == known.record.id))
        return Submission(_add(db, request, provider), to_run=True)
    again = {**_INITIAL_VALUES, **_asked(request)}
    return Submission(_changed(db, known.record.id, again), to_run=True)


def _waits_as_earlier_attempt(known: PipelineProcessing, request: ProcessingRequest) -> bool:
    return known.state is ProcessingState.QUEUED and _is_later_attempt(known, request)


def _is_later_attempt(known: PipelineProcessing, request: ProcessingRequest) -> bool:
    same = (known.product, known.obs_id) == (request.product, request.obs_id)
    return same and request.attempt > known.attempt


def _may_restart(known: PipelineProcessing, request: ProcessingRequest) -> bool:
    may = known.state in (ProcessingState.FAILED, ProcessingState.CANCELLED)
    may |= request.remake and known.state is ProcessingState.SUCCEEDED
    return may and _is_later_attempt(known, request)


_INITIAL_VALUES: Final[dict[str, Any]] = {
    "state": ProcessingState.QUEUED.value,
    "restarts": 0,
    "done": 0,
    "total": 0,
    "error": None,
    "inputs": [],
    "outputs": [],
    "started": None,
    "ended": None,
    "code": None,
    "log_kept": True,
    "profile_kept": False,
    "archive_file": None,
}


def _asked(request: ProcessingRequest) -> dict[str, Any]:
    """Return what each request, of an attempt, says anew."""
    return {
        "attempt": request.attempt,
        "given": request.inputs,
        "graph_version": request.graph_version,
        "stage": None if request.stage is None else rank_of(request.stage),
    }


def _file_key(processing_id: str) -> str:
    """Return what the files of a processing are named by: its id where that is a UUID.

    Any other may differ from a known one by case alone, or be what another is named by.
    """
    return processing_id if _UUID.fullmatch(processing_id) else uuid.uuid4().hex


def _add(db: sa.Connection, request: ProcessingRequest, provider: str) -> StoredProcessing:
    processing_id = request.processing_id or str(uuid.uuid4())
    added = {
        "id": processing_id,
        "key": _file_key(processing_id),
        "provider": provider,
        "product": request.product,
        "obs_id": request.obs_id,
        "runs": 0,
        **_INITIAL_VALUES,
        **_asked(request),
    }
    return _from_row(db.execute(_ADD, added).one())


def _cancel_queued(
    db: sa.Connection, processing_id: str, outcome: Outcome, attempt: int | None
) -> StoredProcessing:
    mine = _C.id == processing_id
    meant = sa.true() if attempt is None else _C.attempt <= attempt
    change = sa.update(processings).where(mine, meant, _C.state == ProcessingState.QUEUED.value)
    cancelled = ProcessingState.CANCELLED.value
    db.execute(change.values(state=cancelled, error=outcome.error, ended=time.time()))
    return _from_row(db.execute(sa.select(processings).where(mine)).one())


def _requeue(db: sa.Connection, processing_id: str) -> StoredProcessing:
    mine = _C.id == processing_id
    still = sa.update(processings).where(mine, _C.state == ProcessingState.RUNNING.value)
    db.execute(still.values(state=ProcessingState.QUEUED.value, started=None))
    return _from_row(db.execute(sa.select(processings).where(mine)).one())


def _from_row(row: sa.Row[Any]) -> StoredProcessing:
    record = PipelineProcessing(
        id=row.id,
        product=row.product,
        obs_id=row.obs_id,
        state=ProcessingState(row.state),
        attempt=row.attempt,
        progress=Progress(done=row.done, total=row.total),
        error=row.error,
        started=_utc(row.started),
        ended=_utc(row.ended),
        provider=row.provider,
        inputs=row.inputs,
        outputs=row.outputs,
        profile=f"/processing/{row.id}/profile" if row.profile_kept else None,
        code=row.code,
    )
    return StoredProcessing(
        record,
        row.key,
        row.runs,
        row.log_kept,
        given=row.given,
        graph_version=row.graph_version,
        stage=None if row.stage is None else stage_of(row.stage),
    )


def _from_dropped(row: sa.Row[Any]) -> StoredProcessing:
    record = PipelineProcessing(
        id=row.id,
        product=row.product,
        obs_id=row.obs_id,
        state=ProcessingState.SUCCEEDED,
        attempt=row.attempt,
        ended=_utc(row.ended),
        provider=row.provider,
    )
    return StoredProcessing(record, key="", runs=0, log_kept=False, recorded=False)


def _utc(seconds: float | None) -> datetime | None:
    return None if seconds is None else instant_of(seconds)


def _execute(db: sa.Connection, change: sa.Update) -> None:
    db.execute(change)
