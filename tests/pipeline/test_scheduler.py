"""What the scheduler concludes from its memory and from its records, which others change."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError, OperationalError, SQLAlchemyError

from batuta.messaging import ProcessingState as State
from batuta.messaging import Progress
from batuta.pipeline import scheduler
from batuta.pipeline.messages import Outcome, PipelineProcessing, ProcessingRequest
from batuta.pipeline.runner import ProcessingRun
from batuta.pipeline.scheduler import Offer, ProcessingScheduler, SchedulerConfig
from batuta.pipeline.schema import MIGRATIONS
from batuta.pipeline.store import ProcessingStore
from batuta.service.committer import Committer
from batuta.service.database import DatabaseError, open_database
from tests.support.waiting import eventually

T = TypeVar("T")

FIRST = ProcessingRequest(product="B", obs_id="o1", processing_id="p1")
SECOND = FIRST.model_copy(update={"attempt": 2})


class _Committer(Committer):
    """Commits what it may, and refuses as a database that is away."""

    def __init__(self, engine: sa.Engine) -> None:
        super().__init__(engine)
        self.may = asyncio.Event()
        self.may.set()
        self.is_away = False
        self.error: SQLAlchemyError = OperationalError(None, None, Exception("away"))
        self.refused = 0

    async def commit(self, write: Callable[[sa.Connection], T]) -> T:
        await self.may.wait()
        if self.is_away:
            self.refused += 1
            raise self.error
        return await super().commit(write)


class _Runner:
    """Ends each run when it is told how; its progress is the number of its attempt."""

    code = None

    def __init__(self) -> None:
        self.outcomes: asyncio.Queue[Outcome] = asyncio.Queue()
        self.attempts: list[int] = []

    async def run(self, run: ProcessingRun, on_progress: Callable[[Progress], None]) -> Outcome:
        on_progress(Progress(done=run.attempt, total=10))
        self.attempts.append(run.attempt)
        return await self.outcomes.get()


class _Service:
    def __init__(self, engine: sa.Engine, committer: _Committer) -> None:
        self.committer = committer
        self.store = ProcessingStore(engine, committer, ["maker"])
        self.runner = _Runner()
        offers = {"B": Offer(provider="maker", timeout_s=60.0)}
        config = SchedulerConfig(offers=offers, max_concurrent=1, max_queued=10)
        self.scheduler = ProcessingScheduler(config, self.store, self.runner, lambda _: None)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        running = asyncio.create_task(self.scheduler.run())
        try:
            yield
        finally:
            running.cancel()
            await asyncio.wait([running])

    async def until_attempts(self, *attempts: int) -> None:
        async def ran() -> bool:
            return self.runner.attempts == list(attempts)

        await eventually(ran)

    async def recorded(self) -> PipelineProcessing:
        found = await self.store.find("p1")
        assert found is not None
        return found.record


@pytest.fixture
async def service(database_url: str) -> AsyncIterator[_Service]:
    with open_database(database_url, MIGRATIONS) as engine:
        async with _Committer(engine) as committer:
            yield _Service(engine, committer)


async def test_a_late_cancel_leaves_what_has_become_a_later_attempt_in_its_record_alone(
    service: _Service,
) -> None:
    await service.scheduler.submit(FIRST)
    # Committed, and not known to the queue yet: its request goes on after this one.
    await service.store.submit(SECOND, "maker")
    cancelled = await service.scheduler.cancel("p1", attempt=1)
    assert cancelled is not None
    assert (cancelled.state, cancelled.attempt) == (State.QUEUED, 2)
    assert service.scheduler.counts("maker") == (1, 0)
    async with service.running():
        await service.until_attempts(2)


async def test_a_late_cancel_leaves_alone_what_begins_as_a_later_attempt(
    service: _Service,
) -> None:
    await service.scheduler.submit(FIRST)
    await service.store.submit(SECOND, "maker")
    service.committer.may.clear()
    async with service.running():

        async def is_begun() -> bool:
            return service.scheduler.counts("maker") == (0, 1)

        await eventually(is_begun)
        cancelling = asyncio.create_task(service.scheduler.cancel("p1", attempt=1))
        service.committer.may.set()
        cancelled = await cancelling
        assert cancelled is not None
        assert (cancelled.state, cancelled.attempt) == (State.RUNNING, 2)
        await service.until_attempts(2)


@pytest.mark.parametrize("attempt", [None, 2])
async def test_what_waits_is_cancelled_at_the_attempt_that_it_has_in_its_record(
    service: _Service, attempt: int | None
) -> None:
    await service.scheduler.submit(FIRST)
    await service.store.submit(SECOND, "maker")
    cancelled = await service.scheduler.cancel("p1", attempt=attempt)
    assert cancelled is not None
    assert (cancelled.state, cancelled.attempt) == (State.CANCELLED, 2)
    assert cancelled.error == "cancelled on request"
    assert service.scheduler.counts("maker") == (0, 0)


async def test_what_cannot_be_recorded_as_cancelled_still_waits(service: _Service) -> None:
    await service.scheduler.submit(FIRST)
    service.committer.is_away = True
    with pytest.raises(DatabaseError, match="away"):
        await service.scheduler.cancel("p1")
    assert service.scheduler.counts("maker") == (1, 0)
    service.committer.is_away = False
    async with service.running():
        await service.until_attempts(1)


async def test_a_run_starts_and_ends_once_the_database_can_be_written_to(
    service: _Service, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(scheduler, "RECORD_AGAIN_S", 0.01)
    await service.scheduler.submit(FIRST)
    service.committer.is_away = True

    async def waits_twice() -> bool:
        return caplog.text.count("B of o1 waits: ") == 1 and service.committer.refused > 2

    async def has_ended() -> bool:
        return (await service.recorded()).state is State.SUCCEEDED

    async with service.running():
        await eventually(waits_twice)
        assert service.runner.attempts == []
        assert (await service.recorded()).state is State.QUEUED
        service.committer.is_away = False
        await service.until_attempts(1)
        service.committer.is_away = True
        service.committer.refused = 0
        caplog.clear()
        service.runner.outcomes.put_nowait(Outcome())
        await eventually(waits_twice)
        assert (await service.recorded()).state is State.RUNNING
        service.committer.is_away = False
        await eventually(has_ended)


async def test_another_error_of_the_database_ends_the_service(service: _Service) -> None:
    await service.scheduler.submit(FIRST)
    service.committer.error = IntegrityError(None, None, Exception("broken"))
    service.committer.is_away = True
    with pytest.raises(ExceptionGroup) as raised:
        await service.scheduler.run()
    assert "broken" in str(raised.value.exceptions[0])


async def test_the_record_of_an_attempt_has_not_the_progress_of_the_next(
    service: _Service,
) -> None:
    async with service.running():
        await service.scheduler.submit(FIRST)
        await service.until_attempts(1)
        first = await service.recorded()
        assert service.scheduler.current(first).progress.done == 1
        service.runner.outcomes.put_nowait(Outcome(error="broken"))

        async def has_failed() -> bool:
            return (await service.recorded()).state is State.FAILED

        await eventually(has_failed)
        await service.scheduler.submit(SECOND)
        await service.until_attempts(1, 2)
        assert service.scheduler.current(await service.recorded()).progress.done == 2
        # Read before it had ended.
        assert service.scheduler.current(first).progress.done == 0
