"""Schedules processings: queues requests, runs a limited number at a time, records each state."""

import asyncio
import logging
import time
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Final

from batuta.messaging import ProcessingState, Progress
from batuta.pipeline.messages import Outcome, PipelineProcessing, ProcessingRequest
from batuta.pipeline.metrics import ProcessingMetrics
from batuta.pipeline.retention import RetentionFolder
from batuta.pipeline.runner import ProcessingRun, Runner
from batuta.pipeline.store import ProcessingStore, StoredProcessing
from batuta.service.database import UNAVAILABLE, DatabaseError
from batuta.service.problems import ProblemError

LOG: Final = logging.getLogger(__name__)

RETRY_AFTER_S: Final = 2
"""When to retry a request that found the queue full, in seconds (``Retry-After``)."""
RECORD_AGAIN_S: Final = 1.0
"""When to try again to record the start or the end of a run, in seconds."""


@dataclass(frozen=True)
class Offer:
    """A product that can be requested: its provider, and its time limit in seconds."""

    provider: str
    timeout_s: float


@dataclass(frozen=True, kw_only=True)
class SchedulerConfig:
    """The products that a scheduler accepts, by name, and its limits.

    `others` says, after a refusal, what to do about a product that is not among them.
    """

    offers: Mapping[str, Offer]
    others: str = ""
    max_concurrent: int
    max_queued: int


_CANCELLED: Final = Outcome(error="cancelled on request")


class ProcessingScheduler:
    """Queues requests and has a runner execute them.

    Each state is committed to the store before it is reported: whatever was reported survives.

    Parameters
    ----------
    config : SchedulerConfig
        The products on offer, and the limits.
    store : ProcessingStore
        Where processings are recorded.
    runner : Runner
        Executes them.
    on_change : callable
        Called with the record at each new state and each progress.
    retention : RetentionFolder or None
        Where the profiles of ended runs are; None where none are retained.
    """

    def __init__(
        self,
        config: SchedulerConfig,
        store: ProcessingStore,
        runner: Runner,
        on_change: Callable[[PipelineProcessing], None],
        retention: RetentionFolder | None = None,
    ) -> None:
        self._config = config
        self._store = store
        self._runner = runner
        self._on_change = on_change
        self._retention = retention
        self._queue = _Queue()
        self._submitting = 0
        self._running: dict[str, _RunningProcessing] = {}
        self._running_by_provider: Counter[str] = Counter()
        self._changed = asyncio.Event()
        self.metrics = ProcessingMetrics(self._count)

    def counts(self, provider: str) -> tuple[int, int]:
        """Return how many processings of `provider` are queued, and how many run."""
        return self._queue.by_provider[provider], self._running_by_provider[provider]

    async def submit(self, request: ProcessingRequest) -> tuple[PipelineProcessing, bool]:
        """Record a request; return its processing, and whether this request starts it.

        Raises
        ------
        ProblemError
            If the product is unknown, the queue is full, or the id is another processing's.
        """
        offer = self._config.offers.get(request.product)
        if offer is None:
            known = sorted(self._config.offers)
            detail = f"product {request.product!r}: not offered here (known: {', '.join(known)})"
            if self._config.others:
                detail = f"{detail}; {self._config.others}"
            raise ProblemError(HTTPStatus.NOT_FOUND, detail, known=known)
        await self._refuse_when_full(request)
        # Counted at once: the commit is awaited, and requests that arrive meanwhile would
        # all find the same free place in the queue.
        self._submitting += 1
        try:
            submitted = await self._store.submit(request, offer.provider)
        finally:
            self._submitting -= 1
        _refuse_mismatch(submitted.stored.record, request)
        if submitted.to_run:
            self._enqueue(submitted.stored)
        else:
            self._queue.renew(submitted.stored)
        return self.current(submitted.stored.record), submitted.to_run

    def replace_offers(self, offers: Mapping[str, Offer]) -> None:
        """Accept requests for other products from now on."""
        self._config = replace(self._config, offers=offers)

    async def recover(self) -> None:
        """Resume the processings that a previous service has left."""
        for stored in await self._store.recover():
            if stored.record.state is ProcessingState.QUEUED:
                self._enqueue(stored)
            else:
                # Given up; but its last run may have left a profile.
                profiled = self._has_profile(stored.current_run)
                ended = await self._store.record_profile(stored.record.id) if profiled else stored
                self._on_change(ended.record)

    async def run(self) -> None:
        """Run what is queued until cancelled; then stop what runs and requeue it in the store."""
        async with asyncio.TaskGroup() as group:
            while True:
                await self._changed.wait()
                self._changed.clear()
                while self._queue and len(self._running) < self._config.max_concurrent:
                    # No await from here to the registration in `_running`: a processing that has
                    # not ended is always in one of the two, where `cancel` looks for it.
                    stored, queued_at = self._queue.pop_oldest()
                    running = _RunningProcessing(stored.record)
                    self._running[stored.record.id] = running
                    self._running_by_provider[stored.record.provider] += 1
                    group.create_task(self._run_processing(running, queued_at))

    async def cancel(
        self, processing_id: str, attempt: int | None = None
    ) -> PipelineProcessing | None:
        """Cancel a processing that has not ended; return its record once it has.

        With `attempt`, one that is at a later attempt by now is left alone.
        """
        queued = self._queue.pop(processing_id, attempt)
        if queued is not None:
            await self._cancel_queued(queued, attempt)
        running = self._running.get(processing_id)
        if running is not None and not await running.is_at_later(attempt):
            running.cancel()
            await running.finished.wait()
        stored = await self._store.find(processing_id)
        return self.current(stored.record) if stored else None

    async def _cancel_queued(self, queued: StoredProcessing, attempt: int | None) -> None:
        """Cancel what was taken out of the queue; by its record, it may be at a later attempt."""
        try:
            stored = await self._store.cancel_queued(queued.record.id, _CANCELLED, attempt)
        except DatabaseError:
            self._enqueue(queued)
            raise
        if stored.record.state is ProcessingState.CANCELLED:
            self.metrics.record_end(stored.record)
            self._on_change(stored.record)
        else:
            self._enqueue(stored)

    def current(self, record: PipelineProcessing) -> PipelineProcessing:
        """Return `record` with the progress it has now."""
        running = self._running.get(record.id)
        if running is None or record.state is not ProcessingState.RUNNING:
            return record
        if running.record.attempt != record.attempt:  # begun since the record was read
            return record
        return record.model_copy(update={"progress": running.record.progress})

    async def _refuse_when_full(self, request: ProcessingRequest) -> None:
        if len(self._queue) + self._submitting < self._config.max_queued:
            return
        # A repeated request adds nothing to the queue, and must be answered as before.
        if request.processing_id and await self._store.find(request.processing_id):
            return
        raise ProblemError(
            HTTPStatus.TOO_MANY_REQUESTS,
            f"queue full: {self._config.max_queued} processings wait (max_queued); retry later",
            {"Retry-After": str(RETRY_AFTER_S)},
        )

    def _enqueue(self, stored: StoredProcessing) -> None:
        self._queue.push(stored)
        self._on_change(stored.record)
        self._changed.set()

    async def _run_processing(self, running: "_RunningProcessing", queued_at: float) -> None:
        try:
            stored = await self._record(
                running.record,
                lambda: self._store.record_start(running.record.id, self._runner.code),
            )
            running.record = stored.record
            running.recorded.set()
            self._on_change(running.record)
            self.metrics.record_start(running.record, time.monotonic() - queued_at)
            state, outcome = await self._execute(running, stored.current_run)
            await self._end(
                running.record, state, outcome, profiled=self._has_profile(stored.current_run)
            )
        except asyncio.CancelledError:
            # The service stops. The end of this run may have been under way to the database: then
            # it is committed first, in order, and `requeue` leaves an ended processing alone.
            self._on_change((await self._store.requeue(running.record.id)).record)
            raise
        finally:
            del self._running[running.record.id]
            self._running_by_provider[running.record.provider] -= 1
            running.recorded.set()
            running.finished.set()
            self._changed.set()

    async def _execute(
        self, running: "_RunningProcessing", processing_run: ProcessingRun
    ) -> tuple[ProcessingState, Outcome]:
        def on_progress(progress: Progress) -> None:
            running.record = running.record.model_copy(update={"progress": progress})
            self._on_change(running.record)

        offer = self._config.offers.get(processing_run.product)
        if offer is None:
            return ProcessingState.FAILED, Outcome(
                error=f"{processing_run.product}: no longer offered here"
            )
        timeout_s = offer.timeout_s
        try:
            async with asyncio.timeout(timeout_s):
                outcome = await running.run_cancellable(
                    self._runner.run(processing_run, on_progress)
                )
        except TimeoutError:
            error = f"timed out after {timeout_s:g} s (timeout_s)"
            return ProcessingState.FAILED, Outcome(error=error)
        if outcome is None:
            return ProcessingState.CANCELLED, _CANCELLED
        return ProcessingState.FAILED if outcome.error else ProcessingState.SUCCEEDED, outcome

    def _has_profile(self, processing_run: ProcessingRun) -> bool:
        return self._retention is not None and self._retention.has_profiles(processing_run.run_id)

    async def _end(
        self,
        record: PipelineProcessing,
        state: ProcessingState,
        outcome: Outcome,
        *,
        profiled: bool = False,
    ) -> None:
        stored = await self._record(
            record, lambda: self._store.record_end(record, state, outcome, profiled=profiled)
        )
        self.metrics.record_end(stored.record)
        self._on_change(stored.record)

    async def _record(
        self, record: PipelineProcessing, write: Callable[[], Awaitable[StoredProcessing]]
    ) -> StoredProcessing:
        """Record the start or the end of a run, once the database can be written to.

        Its disk may be full, or it may be away, for a while. A service that ended for it would kill
        all that runs, and count it as runs that were interrupted. `/health` tells of the database.
        """
        waits = False
        while True:
            try:
                return await write()
            except DatabaseError as exc:
                if not isinstance(exc.__cause__, UNAVAILABLE):
                    raise
                if not waits:
                    LOG.warning("%s of %s waits: %s", record.product, record.obs_id, exc)
                waits = True
            await asyncio.sleep(RECORD_AGAIN_S)

    def _count(self) -> Mapping[str, int]:
        queued, running = ProcessingState.QUEUED.value, ProcessingState.RUNNING.value
        return Counter({queued: len(self._queue), running: len(self._running)})


class _Queue:
    """Queued processings in order of arrival, with constant-time lookup and counts by provider."""

    def __init__(self) -> None:
        self._waiting: OrderedDict[str, tuple[StoredProcessing, float]] = OrderedDict()
        self.by_provider: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._waiting)

    def push(self, stored: StoredProcessing) -> None:
        self._waiting[stored.record.id] = (stored, time.monotonic())
        self.by_provider[stored.record.provider] += 1

    def pop_oldest(self) -> tuple[StoredProcessing, float]:
        _, (stored, queued_at) = self._waiting.popitem(last=False)
        self.by_provider[stored.record.provider] -= 1
        return stored, queued_at

    def renew(self, stored: StoredProcessing) -> None:
        """Replace one that waits, in its place: it may have become a later attempt."""
        if (found := self._waiting.get(stored.record.id)) is not None:
            self._waiting[stored.record.id] = (stored, found[1])

    def pop(self, processing_id: str, attempt: int | None) -> StoredProcessing | None:
        """Take one out, unless it is at a later attempt than that."""
        found = self._waiting.get(processing_id)
        if found is None or (attempt is not None and found[0].record.attempt > attempt):
            return None
        del self._waiting[processing_id]
        self.by_provider[found[0].record.provider] -= 1
        return found[0]


class _RunningProcessing:
    """A processing that is running, and the means to cancel it."""

    def __init__(self, record: PipelineProcessing) -> None:
        self.record = record
        self.recorded = asyncio.Event()
        """Set once its start is recorded: at which attempt it is, is known then."""
        self.finished = asyncio.Event()
        self._cancelled = False
        self._task: asyncio.Task[Outcome] | None = None

    async def is_at_later(self, attempt: int | None) -> bool:
        """Return whether it is at a later attempt than that, if one is given."""
        if attempt is None:
            return False
        await self.recorded.wait()
        return self.record.attempt > attempt

    def cancel(self) -> None:
        self._cancelled = True
        if self._task is not None:
            self._task.cancel()

    def is_cancelled(self) -> bool:
        return self._cancelled

    async def run_cancellable(self, work: Coroutine[None, None, Outcome]) -> Outcome | None:
        """Run `work`; return None if it was cancelled by `cancel`.

        A cancellation from outside (the service stops, the time is over) is raised instead, even
        where both arrive together: the caller must not go on.
        """
        # `cancel` may have been called while the start was being recorded.
        if self.is_cancelled():
            work.close()
            return None
        self._task = asyncio.create_task(work)
        try:
            return await self._task
        except asyncio.CancelledError:
            if _is_current_task_cancelled() or not self.is_cancelled():
                raise
            return None


def _is_current_task_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _refuse_mismatch(known: PipelineProcessing, request: ProcessingRequest) -> None:
    if (known.product, known.obs_id) != (request.product, request.obs_id):
        raise ProblemError(
            HTTPStatus.CONFLICT,
            f"processing_id {known.id!r}: already used for {known.product} of {known.obs_id}",
        )
