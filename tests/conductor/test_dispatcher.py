"""The dispatcher: what pipelines answer reaches the ledger, however the answers are timed."""

import asyncio
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import cast

import pytest
from sqlalchemy.exc import OperationalError

from batuta.conductor.database.ledger import Ledger, Round
from batuta.conductor.database.records import Row
from batuta.conductor.database.requests.due_requests import DueRequest
from batuta.conductor.database.requests.slots import Capacity
from batuta.conductor.decisions.events import Archived, Event, PipelineUnreachable, StatusUpdate
from batuta.conductor.decisions.processing_record import ProcessingRecord
from batuta.conductor.decisions.requests import Poll, PollAction
from batuta.conductor.decisions.rules import Arrival
from batuta.conductor.decisions.staleness import RefusedVersion
from batuta.conductor.dispatch import dispatcher as dispatcher_module
from batuta.conductor.dispatch.archive import Archive
from batuta.conductor.dispatch.dispatcher import Dispatcher
from batuta.conductor.dispatch.providers import Providers
from batuta.messaging import ProcessingState as State
from batuta.sdb.lookup import ArchivedVersion
from tests.conductor.processing_records import RUNNING
from tests.support.waiting import eventually


def requested(processing_id: str) -> DueRequest:
    return DueRequest(processing_id, "B", "o1", "maker", 1)


def polled(processing_id: str) -> Poll:
    return Poll(replace(RUNNING, id=processing_id), PollAction.QUERY)


class OneRoundLedger:
    """A ledger in which everything is due once; records the events that are applied."""

    def __init__(self, requests: Sequence[DueRequest], polls: Sequence[Poll]) -> None:
        self._requests = list(requests)
        self._polls = list(polls)
        self.applied: list[str] = []
        self.on_apply: Callable[[], object] = lambda: None

    def advance(self, events: Sequence[Event], *_capacities: Capacity) -> Round:
        if events:
            self.apply(events)
        requests, self._requests = self._requests, []
        polls, self._polls = self._polls, []
        return Round([], requests, polls, None)

    def apply(self, events: Sequence[Event]) -> list[Row]:
        self.applied += [event.processing_id for event in events]
        self.on_apply()
        return []

    def take_refused(self) -> list[RefusedVersion]:
        return []


class EmptyArchive:
    """An sdb that holds nothing."""

    async def made_unannounced(self, _records: Sequence[ProcessingRecord]) -> list[ArchivedVersion]:
        return []


class EventLedger(OneRoundLedger):
    """A ledger that records the states it is told, of processings that have not ended."""

    def __init__(self, requests: Sequence[DueRequest], polls: Sequence[Poll]) -> None:
        super().__init__(requests, polls)
        self.states: list[State] = []

    def apply(self, events: Sequence[Event]) -> list[Row]:
        self.states += [each.state for each in events if isinstance(each, StatusUpdate)]
        return super().apply(events)

    def unsettled(self, _ids: Collection[str]) -> list[ProcessingRecord]:
        return []


class GatedProviders:
    """Pipelines whose answer for the processing ``late`` comes only when `answer_late` is set.

    It says `late_state`; without one, nobody is there.
    """

    def __init__(self, late_state: State | None = None) -> None:
        self.answer_late = asyncio.Event()
        self.late_state = late_state
        self.waiting: int | None = None
        """How many answers are awaited, once there was a request."""

    async def request(self, request: DueRequest) -> Event:
        return await self._answer(request.processing_id)

    async def poll(self, poll: Poll) -> Event:
        return await self._answer(poll.record.id)

    async def _answer(self, processing_id: str) -> Event:
        if processing_id == "late":
            self.waiting = (self.waiting or 0) + 1
            await self.answer_late.wait()
            self.waiting -= 1
            if self.late_state is None:
                return PipelineUnreachable(
                    processing_id=processing_id, error="gone", asked_attempt=1
                )
        state = self.late_state or State.RUNNING
        return StatusUpdate(processing_id=processing_id, state=state, attempt=1)


@pytest.mark.parametrize("kind", ["requests", "polls"])
async def test_an_answer_that_arrives_while_others_are_recorded_is_recorded_next(kind: str) -> None:
    requests = [requested("prompt"), requested("late")] if kind == "requests" else []
    polls = [polled("prompt"), polled("late")] if kind == "polls" else []
    ledger = OneRoundLedger(requests, polls)
    providers = GatedProviders()
    loop = asyncio.get_running_loop()
    # The ledger applies the prompt answer: the dispatcher has emptied its list by then.
    ledger.on_apply = partial(loop.call_soon_threadsafe, providers.answer_late.set)

    async def late_is_recorded() -> bool:
        return "late" in ledger.applied

    dispatcher = Dispatcher(
        cast(Ledger, ledger),
        cast(Providers, providers),
        cast(Archive, EmptyArchive()),
        lambda _row: None,
    )
    work = asyncio.create_task(dispatcher.run())
    try:
        await eventually(late_is_recorded)
    finally:
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)
    assert sorted(ledger.applied) == ["late", "prompt"]


class AwayLedger(OneRoundLedger):
    """A ledger whose database is away when it is first read."""

    def __init__(self) -> None:
        super().__init__([], [polled("p1")])
        self.reads = 0

    def unsettled(self, _ids: Collection[str]) -> list[ProcessingRecord]:
        self.reads += 1
        if self.reads == 1:
            raise OperationalError("SELECT", {}, ConnectionError("the server closed it"))
        return []


class DoneProviders:
    """Pipelines that answer success."""

    async def poll(self, poll: Poll) -> Event:
        return StatusUpdate(processing_id=poll.record.id, state=State.SUCCEEDED, attempt=1)


@pytest.mark.parametrize("told", ["answered", "reported"])
async def test_a_success_told_while_the_database_is_away_is_recorded_once_it_is_back(
    monkeypatch: pytest.MonkeyPatch, told: str
) -> None:
    monkeypatch.setattr(dispatcher_module, "DATABASE_RETRY_S", 0.01)
    ledger = AwayLedger()
    dispatcher = Dispatcher(
        cast(Ledger, ledger),
        cast(Providers, DoneProviders()),
        cast(Archive, EmptyArchive()),
        lambda _: None,
    )

    async def recorded() -> bool:
        return ledger.applied == ["p1"]

    if told == "reported":
        await dispatcher.apply(
            [StatusUpdate(processing_id="p1", state=State.SUCCEEDED, attempt=1, reported_by="p")]
        )
        assert await recorded()
        return
    work = asyncio.create_task(dispatcher.run())
    try:
        await eventually(recorded)
    finally:
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)


class HalfAnnouncedLedger(OneRoundLedger):
    """A ledger that has not heard yet of what the sdb holds."""

    def __init__(self, requests: Sequence[DueRequest], polls: Sequence[Poll]) -> None:
        super().__init__(requests, polls)
        self.settled: list[str] = []
        self.answered: list[str] = []

    def on_data(
        self,
        _arrivals: Sequence[Arrival],
        made: Sequence[Archived],
        _capacity: Capacity,
        _heard: object = (),
        answers: Sequence[Event] = (),
    ) -> tuple[list[DueRequest], list[Row]]:
        self.settled += [each.processing_id for each in made]
        self.answered += [each.processing_id for each in answers]
        return [], []

    def unsettled(self, ids: Collection[str]) -> list[ProcessingRecord]:
        return [replace(RUNNING, id=each) for each in ids if each not in self.settled]


class HalfArchive:
    """An sdb that holds the product of ``made``; it is asked once."""

    def __init__(self) -> None:
        self.asked = 0

    async def made_unannounced(self, records: Sequence[ProcessingRecord]) -> list[ArchivedVersion]:
        self.asked += 1
        version = ArchivedVersion(
            product="B",
            obs_id="o1",
            version=1,
            sha256="0" * 64,
            created=datetime.now(UTC),
            processing_id="made",
        )
        return [version for record in records if record.id == "made"]


class AskedProviders:
    """Pipelines that record what they are asked about."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def request(self, request: DueRequest) -> Event:
        return self._answer(request.processing_id)

    async def poll(self, poll: Poll) -> Event:
        return self._answer(poll.record.id)

    def _answer(self, processing_id: str) -> Event:
        self.asked.append(processing_id)
        return StatusUpdate(processing_id=processing_id, state=State.RUNNING, attempt=1)


@pytest.mark.parametrize("kind", ["polls", "further attempts"])
async def test_pipelines_are_not_asked_for_what_the_sdb_holds_by_now(kind: str) -> None:
    ids = ["made", "under_way"]
    again = [replace(requested(each), attempt=2) for each in ids]
    polls = [polled(each) for each in ids]
    ledger = HalfAnnouncedLedger(*(([], polls) if kind == "polls" else (again, [])))
    archive, providers = HalfArchive(), AskedProviders()
    dispatcher = Dispatcher(
        cast(Ledger, ledger), cast(Providers, providers), cast(Archive, archive), lambda _row: None
    )

    async def answered() -> bool:
        return ledger.applied == ["under_way"]

    work = asyncio.create_task(dispatcher.run())
    try:
        await eventually(answered)
    finally:
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)
    assert ledger.settled == ["made"]
    assert providers.asked == ["under_way"]
    assert archive.asked == (1 if kind == "polls" else 2)


@pytest.mark.parametrize("kind", ["requests", "polls"])
async def test_an_answer_that_tells_no_more_than_running_is_recorded_with_the_end(
    monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(dispatcher_module, "ROUND_WAIT_S", 3600)
    ids = ["ends", "goes_on"]
    requests, polls = [requested(each) for each in ids], [polled(each) for each in ids]
    ledger = HalfAnnouncedLedger(*((requests, []) if kind == "requests" else ([], polls)))
    providers = AskedProviders()
    dispatcher = Dispatcher(
        cast(Ledger, ledger),
        cast(Providers, providers),
        cast(Archive, EmptyArchive()),
        lambda _row: None,
    )

    async def asked() -> bool:
        return sorted(providers.asked) == ids

    async def recorded() -> bool:
        return ledger.applied == ["goes_on"]

    work = asyncio.create_task(dispatcher.run())
    try:
        await eventually(asked)
        made = Archived(processing_id="ends", product="B", obs_id="o1", provider="maker")
        await dispatcher.on_data([], [made])
        assert (ledger.answered, ledger.applied) == (["ends"], [])
        # What waits is recorded by the next round, whatever it is for.
        dispatcher.wake()
        await eventually(recorded)
    finally:
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)


@pytest.mark.parametrize("kind", ["requests", "polls"])
async def test_an_answer_from_which_something_follows_is_recorded_at_once(
    monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(dispatcher_module, "ROUND_WAIT_S", 3600)
    requests, polls = [requested("late")], [polled("late")]
    ledger = OneRoundLedger(*((requests, []) if kind == "requests" else ([], polls)))
    providers = GatedProviders()
    providers.answer_late.set()
    dispatcher = Dispatcher(
        cast(Ledger, ledger),
        cast(Providers, providers),
        cast(Archive, EmptyArchive()),
        lambda _row: None,
    )

    async def recorded() -> bool:
        return ledger.applied == ["late"]

    work = asyncio.create_task(dispatcher.run())
    try:
        await eventually(recorded)
    finally:
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)


@pytest.mark.parametrize("answered", [False, True], ids=["being asked", "just answered"])
async def test_a_success_that_is_reported_is_recorded_after_the_answer_given_before(
    monkeypatch: pytest.MonkeyPatch, *, answered: bool
) -> None:
    monkeypatch.setattr(dispatcher_module, "ROUND_WAIT_S", 3600)
    ledger = EventLedger([], [polled("late")])
    providers = GatedProviders(State.RUNNING)
    dispatcher = Dispatcher(
        cast(Ledger, ledger),
        cast(Providers, providers),
        cast(Archive, EmptyArchive()),
        lambda _row: None,
    )
    report = StatusUpdate(processing_id="late", state=State.SUCCEEDED, attempt=1, reported_by="p")

    async def asked() -> bool:
        return providers.waiting == (0 if answered else 1)

    async def recorded() -> bool:
        return ledger.states[-2:] == [State.RUNNING, State.SUCCEEDED]

    if answered:
        providers.answer_late.set()
    work = asyncio.create_task(dispatcher.run())
    try:
        await eventually(asked)
        await dispatcher.apply([report])
        providers.answer_late.set()
        await eventually(recorded)
    finally:
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)


async def test_what_waits_for_room_at_a_provider_does_not_wait_for_a_round(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(dispatcher_module, "ROUND_WAIT_S", 3600)
    monkeypatch.setattr(dispatcher_module, "MAX_REQUESTS_PER_PROVIDER", 1)
    ledger = OneRoundLedger([requested("first")], [])
    providers = AskedProviders()
    dispatcher = Dispatcher(
        cast(Ledger, ledger),
        cast(Providers, providers),
        cast(Archive, EmptyArchive()),
        lambda _row: None,
    )

    async def recorded() -> bool:
        return ledger.applied == ["first"]

    work = asyncio.create_task(dispatcher.run())
    try:
        await eventually(recorded)
    finally:
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)
