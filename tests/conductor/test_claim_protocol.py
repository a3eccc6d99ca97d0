"""Conductors of one database as a state machine: pauses, crashes, lost and repeated messages.

Each rule is one thing that a conductor, the pipeline or the network does, one transaction at most;
hypothesis chooses their order. What a paused conductor has read from the database it may still do,
however late.
"""

from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import Enum, auto
from typing import Any, Final, TypeVar

import hypothesis.strategies as st
import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from batuta.conductor.database.ledger import Ledger
from batuta.conductor.database.requests.due_requests import DueRequest
from batuta.conductor.database.requests.slots import Capacity
from batuta.conductor.database.schema import processings
from batuta.conductor.decisions.events import (
    Archived,
    Event,
    Interface,
    NoStateTold,
    PipelineUnreachable,
    StatusUpdate,
    UnknownToPipeline,
)
from batuta.conductor.decisions.processing_record import WaitConfig
from batuta.conductor.decisions.requests import Poll
from batuta.conductor.decisions.rules import Arrival
from batuta.messaging import ProcessingState as State
from batuta.testing import FakeClock
from tests.conductor.graphs import graph_of
from tests.conductor.harness import Harness, OpenLedger

SLOTS: Final = 3
MAX_ATTEMPTS: Final = 60
"""None of these schedules spends as many: each product must be made in the end."""
CAPACITY: Final = Capacity(total=100)
GRAPH: Final = graph_of(
    ["A"],
    {
        name: {"m_input": list(inputs), "max_attempts": MAX_ATTEMPTS}
        for name, inputs in {"B": "A", "C": "A", "D": "BC"}.items()
    },
    {"maker": {"max_concurrent": SLOTS}},
)
MOST_OBSERVATIONS: Final = 4
WHICH: Final = st.integers(0, 1)
NUMBER: Final = st.integers(0, 20)
TAKING_SLOTS: Final = (State.REQUESTED, State.QUEUED, State.RUNNING)
"""Of a processing that takes a slot of its provider."""


T = TypeVar("T")


class Fate(Enum):
    """What becomes of a request."""

    ANSWERED = auto()
    ANSWER_LOST = auto()
    NOT_CONNECTED = auto()


@dataclass
class Work:
    """A processing, as the pipeline knows it."""

    request: DueRequest
    state: State
    attempt: int

    def told(self, asked_attempt: int | None, reported_by: str | None = None) -> StatusUpdate:
        return StatusUpdate(
            processing_id=self.request.processing_id,
            asked_attempt=asked_attempt,
            state=self.state,
            attempt=self.attempt,
            archived=True if self.state is State.SUCCEEDED else None,
            reported_by=reported_by,
            interface=Interface.ATTEMPTS,
        )


@dataclass
class Pipeline:
    """A pipeline that keeps to the whole contract, with its archive."""

    works: dict[str, Work] = field(default_factory=dict)
    begun: Counter[tuple[str, int]] = field(default_factory=Counter)
    archived: Counter[tuple[str, str]] = field(default_factory=Counter)

    def post(self, request: DueRequest) -> StatusUpdate:
        # What it is sent under, which is another id for a pipeline that counts no attempts.
        id_ = request.request_id or request.processing_id
        work = self.works.get(id_)
        if work is None or (work.state is State.FAILED and request.attempt > work.attempt):
            self.works[id_] = work = Work(request, State.RUNNING, request.attempt)
            self.begun[id_, request.attempt] += 1
        return work.told(asked_attempt=request.attempt)

    def get(self, poll: Poll) -> Event:
        work = self.works.get(poll.record.pipeline_id or poll.record.id)
        if work is not None:
            return work.told(asked_attempt=poll.record.attempt)
        return UnknownToPipeline(
            processing_id=poll.record.id,
            asked_attempt=poll.record.attempt,
            polled_state=poll.record.state,
            counts_attempts=True,
        )

    def running(self) -> list[Work]:
        return [each for each in self.works.values() if each.state is State.RUNNING]

    def end(self, work: Work, *, well: bool) -> None:
        work.state = State.SUCCEEDED if well else State.FAILED
        if well:
            self.archived[work.request.obs_id, work.request.product] += 1


@dataclass
class Conductor:
    """One of the conductors: its ledger, and what it has read or heard and not yet acted on."""

    ledger: Ledger
    requests: deque[DueRequest] = field(default_factory=deque)
    polls: deque[Poll] = field(default_factory=deque)
    answers: list[Event] = field(default_factory=list)

    def hear(self, answer: Event, *, paused: bool) -> None:
        """Record an answer, unless the conductor is paused before it does."""
        if paused:
            self.answers.append(answer)
        else:
            self.advance([answer])

    def advance(self, events: Sequence[Event] = ()) -> None:
        decided = self.ledger.advance(events, CAPACITY, CAPACITY)
        self.requests += decided.requests
        self.polls += decided.polls


@dataclass(frozen=True)
class Announcement:
    """What the sdb, or an instrument, announces."""

    product: str
    obs_id: str
    processing_id: str | None = None

    def archived_by(self, processing_id: str) -> Archived:
        return Archived(
            processing_id=processing_id,
            product=self.product,
            obs_id=self.obs_id,
            provider="maker",
            version=1,
        )


def _one_of(among: Sequence[T], number: int) -> T:
    return among[number % len(among)]


def _asked(processing_id: str, attempt: int) -> dict[str, Any]:
    return {"processing_id": processing_id, "asked_attempt": attempt}


class ClaimProtocol(RuleBasedStateMachine):
    """Two conductors, one pipeline and one stream of announcements."""

    def __init__(self, harness: Harness) -> None:
        super().__init__()
        self.clock = FakeClock()
        self.harness = harness
        self.conductors = [Conductor(self._open()), Conductor(self._open())]
        self.pipeline = Pipeline()
        self.stream: list[Announcement] = []
        self.delivered = 0
        self.observations = 0

    def _open(self) -> Ledger:
        return Ledger(self.harness.engine, self.harness.current, WaitConfig(), self.clock)

    # ------------------------------------------------------------------ what arrives

    @precondition(lambda self: self.observations < MOST_OBSERVATIONS)
    @rule(which=WHICH)
    def data_arrive(self, which: int) -> None:
        self.observations += 1
        self.stream.append(Announcement("A", f"o{self.observations}"))
        self._deliver_next(self.conductors[which])

    @precondition(lambda self: self.delivered < len(self.stream))
    @rule(which=WHICH)
    def the_next_announcement_is_delivered(self, which: int) -> None:
        self._deliver_next(self.conductors[which])

    @precondition(lambda self: self.delivered)
    @rule(which=WHICH, number=NUMBER)
    def an_announcement_is_delivered_again(self, which: int, number: int) -> None:
        self._deliver(self.conductors[which], self.stream[number % self.delivered])

    def _deliver_next(self, conductor: Conductor) -> None:
        self._deliver(conductor, self.stream[self.delivered])
        self.delivered += 1

    def _deliver(self, conductor: Conductor, announced: Announcement) -> None:
        id_ = announced.processing_id
        arrival = Arrival(announced.product, announced.obs_id, 1, archived=id_ is not None)
        made = [] if id_ is None else [announced.archived_by(id_)]
        conductor.requests += conductor.ledger.on_data([arrival], made, CAPACITY)[0]

    # ------------------------------------------------------------------ what a conductor does

    @rule(which=WHICH, after_s=st.sampled_from([0.0, 3.0, 30.0, 400.0]))
    def a_conductor_looks_for_what_is_due(self, which: int, after_s: float) -> None:
        self.clock.advance(after_s)
        self.conductors[which].advance()

    @precondition(lambda self: self._with("requests"))
    @rule(number=NUMBER, fate=st.sampled_from(Fate), paused=st.booleans())
    def a_request_is_sent(self, number: int, fate: Fate, paused: bool) -> None:
        conductor = _one_of(self._with("requests"), number)
        conductor.hear(self._fate_of(conductor.requests.popleft(), fate), paused=paused)

    def _fate_of(self, request: DueRequest, fate: Fate) -> Event:
        asked = _asked(request.processing_id, request.attempt)
        if fate is Fate.NOT_CONNECTED:
            return PipelineUnreachable(**asked, error="refused", connected=False)
        answer = self.pipeline.post(request)
        return answer if fate is Fate.ANSWERED else NoStateTold(**asked, error="no answer")

    @precondition(lambda self: self._with("polls"))
    @rule(number=NUMBER, fate=st.sampled_from(Fate), paused=st.booleans())
    def a_poll_is_sent(self, number: int, fate: Fate, paused: bool) -> None:
        conductor = _one_of(self._with("polls"), number)
        poll = conductor.polls.popleft()
        asked = _asked(poll.record.id, poll.record.attempt)
        if fate is Fate.ANSWERED:
            answer = self.pipeline.get(poll)
        else:
            connected = fate is Fate.ANSWER_LOST
            answer = PipelineUnreachable(**asked, error="no", polled=True, connected=connected)
        conductor.hear(answer, paused=paused)

    @precondition(lambda self: self._with("answers"))
    @rule(number=NUMBER, position=NUMBER)
    def an_answer_is_recorded_late(self, number: int, position: int) -> None:
        conductor = _one_of(self._with("answers"), number)
        conductor.advance([conductor.answers.pop(position % len(conductor.answers))])

    def _with(self, what: str) -> list[Conductor]:
        return [each for each in self.conductors if getattr(each, what)]

    @rule(which=WHICH)
    def a_conductor_is_killed_and_started(self, which: int) -> None:
        self.conductors[which] = Conductor(self._open())

    # ------------------------------------------------------------------ what the pipeline does

    @precondition(lambda self: self.pipeline.running())
    @rule(number=NUMBER, well=st.booleans())
    def a_processing_ends(self, number: int, well: bool) -> None:
        self._end(_one_of(self.pipeline.running(), number), well=well)

    def _end(self, work: Work, *, well: bool) -> None:
        self.pipeline.end(work, well=well)
        if well:
            request = work.request
            self.stream.append(Announcement(request.product, request.obs_id, request.processing_id))

    @precondition(lambda self: self.pipeline.works)
    @rule(which=WHICH, number=NUMBER)
    def the_pipeline_reports(self, which: int, number: int) -> None:
        work = _one_of(list(self.pipeline.works.values()), number)
        self.conductors[which].hear(work.told(None, reported_by="maker"), paused=False)

    @precondition(lambda self: self.pipeline.running())
    @rule(which=WHICH, number=NUMBER)
    def somebody_reports_a_product_that_is_not_archived(self, which: int, number: int) -> None:
        work = _one_of(self.pipeline.running(), number)
        told = replace(work.told(None, reported_by="maker"), state=State.SUCCEEDED, archived=False)
        self.conductors[which].hear(told, paused=False)

    # ------------------------------------------------------------------ what holds at any moment

    @invariant()
    def no_product_is_claimed_or_made_twice(self) -> None:
        claimed = Counter((row.obs_id, row.product) for row in self._rows())
        assert not [each for each, count in claimed.items() if count > 1]
        assert not [each for each, count in self.pipeline.archived.items() if count > 1]
        assert not [each for each, count in self.pipeline.begun.items() if count > 1]

    @invariant()
    def the_slots_of_the_provider_are_never_exceeded(self) -> None:
        assert sum(row.state in TAKING_SLOTS for row in self._rows()) <= SLOTS
        assert len(self.pipeline.running()) <= SLOTS

    @invariant()
    def only_what_is_archived_has_succeeded(self) -> None:
        succeeded = [row for row in self._rows() if row.state == State.SUCCEEDED]
        assert all(self.pipeline.archived[row.obs_id, row.product] == 1 for row in succeeded)

    def _rows(self) -> Sequence[Any]:
        columns = processings.c
        with self.harness.engine.connect() as connection:
            return connection.execute(
                sa.select(columns.obs_id, columns.product, columns.state)
            ).all()

    # ------------------------------------------------------------------ the end

    def teardown(self) -> None:
        """Let one conductor go on alone, the other being dead: every product must be made."""
        alone = Conductor(self._open())
        for _ in range(60 * (self.observations + 1)):
            if len(self.pipeline.archived) == 3 * self.observations and self._all_succeeded():
                break
            self._go_on(alone)
        made = {(f"o{number + 1}", name) for number in range(self.observations) for name in "BCD"}
        assert self.pipeline.archived == Counter(made)
        assert self._all_succeeded()

    def _go_on(self, conductor: Conductor) -> None:
        while self.delivered < len(self.stream):
            self._deliver_next(conductor)
        for work in self.pipeline.running():
            self._end(work, well=True)
        conductor.advance()
        answers: list[Event] = [self.pipeline.post(each) for each in conductor.requests]
        answers += [self.pipeline.get(each) for each in conductor.polls]
        conductor.requests.clear()
        conductor.polls.clear()
        conductor.advance(answers)
        self.clock.advance(60.0)

    def _all_succeeded(self) -> bool:
        rows = self._rows()
        return len(rows) == 3 * self.observations and all(
            row.state == State.SUCCEEDED for row in rows
        )


def emptied(harness: Harness) -> Harness:
    """The harness, of whose database all that earlier schedules recorded is removed."""
    metadata = processings.metadata
    with harness.engine.begin() as connection:
        for table in reversed(metadata.sorted_tables):
            if table.name not in {"about", "graph_versions"}:
                connection.execute(table.delete())
    return harness


@pytest.mark.timeout(600)  # what fails is made shorter before it is shown
def test_conductors_that_share_a_database_make_each_product_once_whatever_is_late_lost_or_dies(
    open_ledger: OpenLedger,
) -> None:
    harness = open_ledger(GRAPH)

    class OnThisDatabase(ClaimProtocol):
        def __init__(self) -> None:
            super().__init__(emptied(harness))

    run_state_machine_as_test(
        OnThisDatabase,
        settings=settings(
            max_examples=25,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
