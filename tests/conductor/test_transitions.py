"""What events change of a processing: tables of decisions, and properties of all of them."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from batuta.conductor.decisions.events import (
    Archived,
    Busy,
    DeadlinePassed,
    Event,
    InstanceLost,
    Interface,
    NoStateTold,
    PipelineUnreachable,
    PollPostponed,
    Refused,
    StatusUpdate,
    UnknownToPipeline,
)
from batuta.conductor.decisions.processing_record import (
    AFTER_DEADLINE_S,
    AT_PROVIDER,
    MAX_POLL_WAIT_S,
    Conditions,
    ProcessingRecord,
)
from batuta.conductor.decisions.requests import request
from batuta.conductor.decisions.transitions import transition
from batuta.messaging import ProcessingState as State
from batuta.messaging.processings import AT_PIPELINE
from tests.conductor.processing_records import (
    CANCELLED,
    CONDITIONS,
    FAILED,
    LAST,
    NOW,
    OVERDUE,
    REQUESTED,
    RUNNING,
    SUCCEEDED,
)


def values_of(state: State, values: dict[str, Any]) -> dict[str, Any]:
    """Values of a status update; a success is archived."""
    archived = True if state is State.SUCCEEDED else None
    return {"processing_id": "p1", "state": state, "attempt": 2, "archived": archived, **values}


def update(state: State, **values: Any) -> StatusUpdate:
    return StatusUpdate(**values_of(state, values))


def stopped(state: State, **values: Any) -> DeadlinePassed:
    return DeadlinePassed(**values_of(state, values))


def unknown(polled_state: State, **values: Any) -> UnknownToPipeline:
    given = {"counts_attempts": True, **values}
    return UnknownToPipeline(
        processing_id="p1", asked_attempt=2, polled_state=polled_state, **given
    )


def silent(**values: Any) -> NoStateTold:
    return NoStateTold(processing_id="p1", asked_attempt=2, **values)


def archived(
    product: str = RUNNING.product, obs_id: str = RUNNING.obs_id, provider: str | None = "maker"
) -> Archived:
    return Archived(processing_id="p1", product=product, obs_id=obs_id, provider=provider)


BUSY = Busy(processing_id="p1", asked_attempt=2, error="full", wait_s=5.0)
LAST_REQUEST = replace(REQUESTED, max_attempts=2)
REFUSED = Refused(processing_id="p1", asked_attempt=2, error="no such product")
UNREACHABLE = PipelineUnreachable(processing_id="p1", asked_attempt=2, error="no answer")
NOT_STOPPED = replace(UNREACHABLE, overdue=True)
NOT_ASKED = replace(UNREACHABLE, polled=True)
LOST_INSTANCE = InstanceLost(
    processing_id="p1", asked_attempt=2, error="lost: maker", recognised=False
)
COUNTING = replace(RUNNING, interface=Interface.ATTEMPTS)
ASKED_BEFORE = replace(RUNNING, interface=Interface.QUERY)
SINCE_REQUEST: dict[str, Any] = {"state": State.RUNNING, "started": NOW - 10, "ask_at": NOW + 5}
NOT_STOPPING = "no end after 60 s (timeout), and maker does not stop it"

RETRYING: dict[str, Any] = {"state": State.RETRYING, "not_before": NOW + 2}
AGAIN: dict[str, Any] = {"state": State.WAITING, "attempt": 1}
TIMEOUT = "no end after 60 s (timeout), stopped at maker"

TABLE: dict[str, tuple[ProcessingRecord, Event, dict[str, Any] | None]] = {
    "queued": (REQUESTED, update(State.QUEUED), {"state": State.QUEUED, "ask_at": NOW + 5}),
    "running": (
        REQUESTED,
        update(State.RUNNING, done=1, total=4, started=NOW - 1),
        {"state": State.RUNNING, "done": 1, "total": 4, "started": NOW - 1, "ask_at": NOW + 5},
    ),
    "running, not said since when": (
        REQUESTED,
        update(State.RUNNING),
        {"state": State.RUNNING, "started": NOW, "ask_at": NOW + 5},
    ),
    "running, by a clock that is behind": (
        REQUESTED,
        update(State.RUNNING, started=NOW - 1200),
        {"state": State.RUNNING, "started": NOW - 10, "ask_at": NOW + 5},
    ),
    "running, by a clock that is ahead": (
        REQUESTED,
        update(State.RUNNING, started=NOW + 1200),
        {"state": State.RUNNING, "started": NOW, "ask_at": NOW + 5},
    ),
    "reported by its provider": (
        RUNNING,
        update(State.SUCCEEDED, done=4, total=4, reported_by="maker"),
        {"state": State.SUCCEEDED, "done": 4, "error": None, "ended": NOW},
    ),
    "reported by another service": (
        RUNNING,
        update(State.SUCCEEDED, done=4, total=4, reported_by="other"),
        None,
    ),
    "progress": (RUNNING, update(State.RUNNING, done=2, total=4), {"done": 2, "ask_at": NOW + 5}),
    "queued again after a restart of the pipeline": (
        RUNNING,
        update(State.QUEUED),
        {"state": State.QUEUED, "done": 0, "total": 0, "started": None, "ask_at": NOW + 5},
    ),
    "succeeded": (
        RUNNING,
        update(State.SUCCEEDED, done=4, total=4, profiled=True),
        {"state": State.SUCCEEDED, "done": 4, "error": None, "ended": NOW, "profiled": True},
    ),
    "succeeded, by a pipeline that told no progress at its end": (
        replace(RUNNING, done=3),
        update(State.SUCCEEDED),
        {"state": State.SUCCEEDED, "done": 4, "error": None, "ended": NOW},
    ),
    "failed": (
        RUNNING,
        update(State.FAILED, error="E", profiled=True),
        {**RETRYING, "error": "E", "profiled": True},
    ),
    "failed, and not said why": (
        RUNNING,
        update(State.FAILED),
        {**RETRYING, "error": "maker does not say why"},
    ),
    "failed in its last attempt": (
        LAST,
        update(State.FAILED, attempt=3, error="E"),
        {"state": State.FAILED, "error": "E", "ended": NOW},
    ),
    "cancelled at its pipeline": (
        RUNNING,
        update(State.CANCELLED, done=1, total=4, error="by a person"),
        {"state": State.CANCELLED, "error": "by a person", "ended": NOW},
    ),
    "the stop at the deadline is reported before it is answered": (
        OVERDUE,
        update(State.CANCELLED),
        {**RETRYING, "error": TIMEOUT},
    ),
    "the stop at the deadline is answered": (
        OVERDUE,
        stopped(State.CANCELLED, asked_attempt=2, profiled=True),
        {**RETRYING, "error": TIMEOUT, "profiled": True},
    ),
    "the stop at the deadline is answered before it has been stopped": (
        OVERDUE,
        stopped(State.RUNNING, asked_attempt=2),
        {**RETRYING, "error": TIMEOUT},
    ),
    "it succeeded while it was being stopped": (
        OVERDUE,
        stopped(State.SUCCEEDED, asked_attempt=2, done=4, total=4),
        {"state": State.SUCCEEDED, "done": 4, "error": None, "ended": NOW},
    ),
    "it failed while it was being stopped": (
        OVERDUE,
        stopped(State.FAILED, asked_attempt=2, error="E"),
        {**RETRYING, "error": "E"},
    ),
    "it could not be stopped": (
        OVERDUE,
        NOT_STOPPED,
        {**RETRYING, "error": "no answer (no end after 60 s)"},
    ),
    "no room at the pipeline": (REQUESTED, BUSY, {**AGAIN, "not_before": NOW + 5, "error": "full"}),
    "refused": (
        REQUESTED,
        REFUSED,
        {"state": State.FAILED, "error": "no such product", "ended": NOW},
    ),
    "unreachable": (REQUESTED, UNREACHABLE, {**RETRYING, "error": "no answer"}),
    "the request never arrived": (
        REQUESTED,
        unknown(State.REQUESTED),
        {**AGAIN, "not_before": NOW, "error": None},
    ),
    "the request arrived after the poll that missed it": (
        RUNNING,
        unknown(State.REQUESTED),
        {**AGAIN, "not_before": NOW, "error": None},
    ),
    "lost by its pipeline": (
        RUNNING,
        unknown(State.RUNNING),
        {**RETRYING, "error": "lost: maker no longer knows this processing"},
    ),
    "accepted, and no state told": (
        REQUESTED,
        silent(interface=Interface.REQUEST, pipeline_id="17"),
        {**SINCE_REQUEST, "interface": Interface.REQUEST, "pipeline_id": "17"},
    ),
    "the answer to the request is lost": (
        REQUESTED,
        silent(error="no answer"),
        {**SINCE_REQUEST, "error": "no answer"},
    ),
    "queued, under an id of its own": (
        REQUESTED,
        update(State.QUEUED, asked_attempt=2, interface=Interface.REQUEST, pipeline_id="17"),
        {
            "state": State.QUEUED,
            "ask_at": NOW + 5,
            "interface": Interface.REQUEST,
            "pipeline_id": "17",
        },
    ),
    '"ok" as the answer to a request': (
        REQUESTED,
        update(State.SUCCEEDED, archived=False, asked_attempt=2, interface=Interface.REQUEST),
        {**SINCE_REQUEST, "interface": Interface.REQUEST},
    ),
    "not found, by who never told a state": (
        replace(REQUESTED, interface=Interface.REQUEST),
        unknown(State.REQUESTED, counts_attempts=False),
        SINCE_REQUEST,
    ),
    "not found, by who may never have been asked": (
        REQUESTED,
        unknown(State.REQUESTED, counts_attempts=False),
        SINCE_REQUEST,
    ),
    "not found, by who told the state before": (
        ASKED_BEFORE,
        unknown(State.RUNNING, counts_attempts=False),
        {**RETRYING, "error": "lost: maker no longer knows this processing"},
    ),
    "not found, by who counts attempts": (
        COUNTING,
        unknown(State.RUNNING, counts_attempts=False),
        {**RETRYING, "error": "lost: maker no longer knows this processing"},
    ),
    "a poll finds no pipeline, of those that count attempts": (
        COUNTING,
        NOT_ASKED,
        {"ask_at": NOW + 5},
    ),
    "a poll finds nobody there at all": (
        COUNTING,
        replace(NOT_ASKED, connected=False),
        {"ask_at": NOW + 2},
    ),
    "a poll finds nobody there, of those that would make it twice": (
        RUNNING,
        replace(NOT_ASKED, connected=False),
        {"error": "no answer", "ask_at": NOW + 2},
    ),
    "asked not to be polled": (
        RUNNING,
        PollPostponed(processing_id="p1", asked_attempt=2, wait_s=90.0),
        {"ask_at": NOW + 90},
    ),
    "its instance is lost, and counts attempts": (
        COUNTING,
        LOST_INSTANCE,
        {**RETRYING, "error": "lost: maker"},
    ),
    "its instance is lost, and a second request is recognised": (
        REQUESTED,
        replace(LOST_INSTANCE, recognised=True),
        {**RETRYING, "error": "lost: maker"},
    ),
    "its instance is lost, and might make it twice": (RUNNING, LOST_INSTANCE, None),
    "its instance is lost during the last attempt": (
        replace(COUNTING, attempt=3, pipeline_attempt=3),
        replace(LOST_INSTANCE, asked_attempt=3),
        {"state": State.FAILED, "ended": NOW, "error": "lost: maker"},
    ),
    "a poll finds no pipeline, of those that would make it twice": (
        RUNNING,
        NOT_ASKED,
        {"error": "no answer", "ask_at": NOW + 5},
    ),
    "no state told until the deadline": (
        OVERDUE,
        silent(overdue=True),
        {**RETRYING, "error": NOT_STOPPING},
    ),
    "not found when it is to be stopped": (
        OVERDUE,
        unknown(State.RUNNING, counts_attempts=False, overdue=True),
        {**RETRYING, "error": NOT_STOPPING},
    ),
    "a report of an earlier attempt": (RUNNING, update(State.FAILED, attempt=1), None),
    "an answer about an earlier attempt": (
        RUNNING,
        replace(UNREACHABLE, asked_attempt=1),
        None,
    ),
    "the pipeline answers that it is still at an earlier attempt": (
        REQUESTED,
        update(State.RUNNING, attempt=1, asked_attempt=2),
        {"state": State.RUNNING, "pipeline_attempt": 1, "started": NOW, "ask_at": NOW + 5},
    ),
    "success after being believed failed": (
        FAILED,
        update(State.SUCCEEDED, attempt=3, done=4, total=4),
        {"state": State.SUCCEEDED, "done": 4, "error": None, "ended": NOW},
    ),
    "success of an earlier attempt": (
        RUNNING,
        update(State.SUCCEEDED, attempt=1, done=4, total=4),
        {"state": State.SUCCEEDED, "done": 4, "error": None, "ended": NOW},
    ),
    "archived": (
        RUNNING,
        archived(),
        {"state": State.SUCCEEDED, "done": 4, "error": None, "ended": NOW},
    ),
    "archived, imported by another service": (
        RUNNING,
        archived(provider="other"),
        None,
    ),
    "archived, another product than the one asked for": (RUNNING, archived(product="A"), None),
    "archived, for another observation": (RUNNING, archived(obs_id="o2"), None),
    "archived after being believed failed": (
        FAILED,
        archived(),
        {"state": State.SUCCEEDED, "done": 4, "error": None, "ended": NOW},
    ),
    "success that is not archived": (
        RUNNING,
        update(State.SUCCEEDED, archived=False, asked_attempt=2),
        {
            **RETRYING,
            "error": "maker reports success, but the sdb has no B made by it",
            "remake": True,
        },
    ),
    "success that is not archived, of the last attempt": (
        LAST,
        update(State.SUCCEEDED, archived=False, asked_attempt=3, attempt=3),
        {
            "state": State.FAILED,
            "ended": NOW,
            "error": "maker reports success, but the sdb has no B made by it",
            "remake": True,
        },
    ),
    "success that is not archived, as anyone could report it": (
        RUNNING,
        update(State.SUCCEEDED, archived=False, reported_by="maker"),
        None,
    ),
    "success while the sdb does not answer": (
        RUNNING,
        update(State.SUCCEEDED, archived=None, asked_attempt=2),
        {"ask_at": NOW + 2},
    ),
    "success that is not archived, after being believed failed": (
        FAILED,
        update(State.SUCCEEDED, archived=False, attempt=3),
        None,
    ),
    "details of a success that the sdb announced first": (
        replace(SUCCEEDED, started=None, done=0, total=0),
        update(State.SUCCEEDED, done=4, total=4, started=NOW - 8, profiled=True),
        {"done": 4, "total": 4, "started": NOW - 8, "profiled": True},
    ),
    "failure after success": (SUCCEEDED, update(State.FAILED, error="E"), None),
    "the profile of a cancelled processing": (
        CANCELLED,
        update(State.CANCELLED, profiled=True),
        {"profiled": True},
    ),
    "the profile of an attempt that is over": (
        FAILED,
        update(State.FAILED, attempt=2, profiled=True),
        None,
    ),
}


@pytest.mark.parametrize("case", TABLE)
def test_an_event_changes_what_the_table_says_and_nothing_else(case: str) -> None:
    record, event, changes = TABLE[case]
    expected = None if changes is None else replace(record, **changes)
    assert transition(record, event, CONDITIONS) == expected


times = st.floats(NOW - 1e5, NOW + 1e5)
attempts = st.integers(1, 5)
errors = st.sampled_from(["E", "F"])


@st.composite
def records(draw: st.DrawFn) -> ProcessingRecord:
    state = draw(st.sampled_from(State))
    attempt = draw(attempts)
    return replace(
        RUNNING,
        state=state,
        attempt=attempt,
        pipeline_attempt=draw(st.integers(1, attempt)),
        max_attempts=draw(st.integers(attempt, 6)),
        timeout_s=draw(st.floats(0.1, 1e4)),
        requested=draw(st.none() | times),
        started=draw(st.none() | times),
        ended=NOW - 1 if state.ended else None,
        profiled=draw(st.booleans()),
        interface=draw(st.none() | st.sampled_from(Interface)),
    )


shown: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {"interface": st.none() | st.sampled_from(Interface), "pipeline_id": st.none() | st.just("17")}
)


@st.composite
def unanswered(draw: st.DrawFn, kind: type[Event], about: dict[str, Any]) -> Event:
    """A pipeline that told no state, or was not reached."""
    about = {**about, "overdue": draw(st.booleans())}
    if kind is UnknownToPipeline:
        polled_state = draw(st.sampled_from(sorted(AT_PROVIDER)))
        return UnknownToPipeline(
            **about, polled_state=polled_state, counts_attempts=draw(st.booleans())
        )
    if kind is NoStateTold:
        return NoStateTold(**about, **draw(shown), error=draw(st.none() | errors))
    return PipelineUnreachable(**about, error=draw(errors), polled=draw(st.booleans()))


@st.composite
def events(draw: st.DrawFn) -> Event:
    about: dict[str, Any] = {"processing_id": "p1", "asked_attempt": draw(st.none() | attempts)}
    kind = draw(
        st.sampled_from(
            [
                Archived,
                Busy,
                DeadlinePassed,
                InstanceLost,
                NoStateTold,
                PipelineUnreachable,
                PollPostponed,
                Refused,
                StatusUpdate,
                UnknownToPipeline,
            ]
        )
    )
    if kind is Archived:
        return archived(provider=draw(st.sampled_from([None, "maker"])))
    if kind in (NoStateTold, PipelineUnreachable, UnknownToPipeline):
        return draw(unanswered(kind, about))
    if kind is Busy:
        return Busy(**about, error="full", wait_s=draw(st.floats(0, 300)))
    of_kind: dict[type[Event], dict[str, st.SearchStrategy[Any]]] = {
        InstanceLost: {"error": errors, "recognised": st.booleans()},
        PollPostponed: {"wait_s": st.floats(0.5, 50)},
        Refused: {"error": errors},
    }
    if kind in of_kind:
        return kind(**about, **{name: draw(values) for name, values in of_kind[kind].items()})
    status = StatusUpdate if kind is StatusUpdate else DeadlinePassed
    return status(
        **about,
        state=draw(st.sampled_from(AT_PIPELINE)),
        attempt=draw(attempts),
        done=draw(st.integers(0, 4)),
        total=4,
        error=draw(st.none() | errors),
        started=draw(st.none() | times),
        profiled=draw(st.booleans()),
        archived=draw(st.none() | st.booleans()),
        **draw(shown),
    )


def is_success(event: Event) -> bool:
    """Whether the event says that the product is archived."""
    if isinstance(event, StatusUpdate):
        return event.state is State.SUCCEEDED and event.archived is True
    return isinstance(event, Archived)


OPEN_CIRCUIT = replace(CONDITIONS, circuit_open=True, asked_at=NOW + 30)
ELSEWHERE = replace(CONDITIONS, circuit_open=True, asked_at=NOW)


@pytest.mark.parametrize(
    ("event", "conditions", "due_at"),
    [
        (BUSY, OPEN_CIRCUIT, NOW + 30),
        (BUSY, ELSEWHERE, NOW),
        (UNREACHABLE, OPEN_CIRCUIT, NOW),
        (replace(UNREACHABLE, connected=False), ELSEWHERE, NOW),
    ],
)
def test_a_request_to_an_instance_that_is_left_alone_costs_no_attempt(
    event: Event, conditions: Conditions, due_at: float
) -> None:
    after = transition(LAST_REQUEST, event, conditions)
    assert after is not None
    assert (after.state, after.attempt) == (State.WAITING, LAST_REQUEST.attempt - 1)
    assert after.not_before == due_at


UNANSWERED = replace(REQUESTED, state=State.RUNNING, started=REQUESTED.requested, max_attempts=2)
RECOGNISING = replace(OPEN_CIRCUIT, recognises=True)
NO_ANSWER = silent(error="maker: no answer within 15 s")


@pytest.mark.parametrize(
    ("record", "event", "conditions"),
    [
        (LAST_REQUEST, NO_ANSWER, RECOGNISING),
        (LAST_REQUEST, NOT_ASKED, RECOGNISING),
        (UNANSWERED, NOT_ASKED, RECOGNISING),
        (UNANSWERED, replace(LOST_INSTANCE, recognised=True), RECOGNISING),
        # Once its time is over, it would be requested again in any case.
        (replace(UNANSWERED, max_attempts=3), NOT_STOPPED, OPEN_CIRCUIT),
    ],
)
def test_a_request_that_was_never_answered_is_repeated_as_the_same_attempt_under_the_same_id(
    record: ProcessingRecord, event: Event, conditions: Conditions
) -> None:
    record = replace(record, pipeline_id="p1-2")
    after = transition(record, event, conditions)
    assert after is not None
    assert (after.state, after.attempt, after.not_before) == (State.WAITING, 1, NOW)
    again = request(after, conditions)
    assert (again.attempt, again.pipeline_id) == (record.attempt, "p1-2")


@pytest.mark.parametrize(
    ("record", "event", "conditions", "state"),
    [
        # It may have arrived at a pipeline that would make it twice.
        (LAST_REQUEST, NO_ANSWER, OPEN_CIRCUIT, State.RUNNING),
        (UNANSWERED, NOT_ASKED, OPEN_CIRCUIT, State.RUNNING),
        (UNANSWERED, LOST_INSTANCE, OPEN_CIRCUIT, State.RUNNING),
        # The same, and it would not be requested again by itself.
        (UNANSWERED, NOT_STOPPED, OPEN_CIRCUIT, State.FAILED),
        # Its address is not known to fail: the observation may be what makes it stumble.
        (LAST_REQUEST, NO_ANSWER, replace(CONDITIONS, recognises=True), State.RUNNING),
        (UNANSWERED, NOT_STOPPED, CONDITIONS, State.FAILED),
        # The pipeline had begun it.
        (
            replace(UNANSWERED, interface=Interface.ATTEMPTS),
            replace(LOST_INSTANCE, recognised=True),
            RECOGNISING,
            State.FAILED,
        ),
        (
            replace(UNANSWERED, started=NOW - 8),
            replace(LOST_INSTANCE, recognised=True),
            RECOGNISING,
            State.FAILED,
        ),
        (LAST_REQUEST, update(State.FAILED), RECOGNISING, State.FAILED),
    ],
)
def test_an_attempt_that_may_have_begun_or_has_failed_itself_counts(
    record: ProcessingRecord, event: Event, conditions: Conditions, state: State
) -> None:
    after = transition(record, event, conditions) or record
    assert (after.state, after.attempt) == (state, 2)


@given(record=records(), event=events())
def test_only_a_success_moves_a_processing_that_is_not_at_its_provider(
    record: ProcessingRecord, event: Event
) -> None:
    after = transition(record, event, CONDITIONS) or record
    if record.state not in AT_PROVIDER and after.state is not record.state:
        assert is_success(event)
        assert after.state is State.SUCCEEDED


def test_an_answer_without_progress_leaves_what_was_told_of_it() -> None:
    running = replace(REQUESTED, state=State.RUNNING, started=NOW - 5, done=40, total=100)
    answer = StatusUpdate(processing_id="p1", state=State.RUNNING, attempt=2)
    after = transition(running, answer, CONDITIONS) or running
    assert (after.done, after.total) == (40, 100)
    queued_again = transition(running, replace(answer, state=State.QUEUED), CONDITIONS)
    assert queued_again is not None
    assert (queued_again.done, queued_again.total) == (0, 0)


@given(record=records(), event=events())
def test_nothing_moves_a_success(record: ProcessingRecord, event: Event) -> None:
    succeeded = replace(record, state=State.SUCCEEDED, ended=NOW - 1)
    after = transition(succeeded, event, CONDITIONS)
    if after is not None:
        details = ("done", "total", "started", "profiled")
        assert replace(after, **{name: getattr(succeeded, name) for name in details}) == succeeded


@given(record=records(), event=events())
def test_an_event_about_an_attempt_that_is_over_changes_nothing_but_for_a_success(
    record: ProcessingRecord, event: Event
) -> None:
    late_answer = replace(event, asked_attempt=record.attempt - 1)
    assert is_success(event) or transition(record, late_answer, CONDITIONS) is None
    if isinstance(event, StatusUpdate) and not is_success(event):
        late_report = replace(event, asked_attempt=None, attempt=record.pipeline_attempt - 1)
        assert transition(record, late_report, CONDITIONS) is None


@example(
    record=replace(REQUESTED, timeout_s=1.0),
    event=DeadlinePassed(processing_id="p1", state=State.SUCCEEDED, attempt=2),
)
@example(
    record=REQUESTED,
    event=DeadlinePassed(processing_id="p1", state=State.SUCCEEDED, attempt=2, archived=False),
)
@given(record=records(), event=events())
def test_the_same_event_applied_twice_changes_nothing_more(
    record: ProcessingRecord, event: Event
) -> None:
    after = transition(record, event, CONDITIONS)
    assert after is None or transition(after, event, CONDITIONS) is None


@given(record=records(), event=events())
def test_an_event_changes_neither_what_was_claimed_nor_when_it_was_requested(
    record: ProcessingRecord, event: Event
) -> None:
    after = transition(record, event, CONDITIONS) or record
    for name in ("id", "product", "obs_id", "provider", "priority", "max_attempts", "timeout_s"):
        assert getattr(after, name) == getattr(record, name)
    assert after.requested == record.requested


@given(st.lists(events(), max_size=30), st.integers(1, 4))
def test_attempts_never_exceed_the_most_allowed(happened: list[Event], max_attempts: int) -> None:
    record = replace(
        REQUESTED, state=State.WAITING, attempt=0, pipeline_attempt=0, max_attempts=max_attempts
    )
    for event in happened:
        if record.state in (State.WAITING, State.RETRYING):
            assert record.attempt < max_attempts
            record = request(record, CONDITIONS)
        assert 0 < record.attempt <= max_attempts
        # As if every event were about the current attempt.
        current = replace(event, asked_attempt=record.attempt)
        record = transition(record, current, CONDITIONS) or record
        assert (record.ended is not None) == record.state.ended


@given(record=records(), event=events(), reports=st.booleans())
def test_the_next_poll_comes_in_bounded_time_and_soon_after_the_deadline(
    record: ProcessingRecord, event: Event, reports: bool
) -> None:
    conditions = replace(CONDITIONS, reports_activity=reports)
    after = transition(record, event, conditions)
    if after is None or after.state not in (State.QUEUED, State.RUNNING):
        return
    if isinstance(event, PollPostponed):
        # As its pipeline asks, even at its deadline.
        return
    if isinstance(event, StatusUpdate) and event.state is State.SUCCEEDED:
        # It is over, by what is said: only whether its product is archived is not known yet.
        assert NOW <= after.ask_at <= NOW + conditions.first_poll_wait_s
        return
    assert NOW < after.ask_at <= NOW + MAX_POLL_WAIT_S
    if after.started is not None:
        deadline = after.started + after.timeout_s
        assert after.ask_at <= max(NOW, deadline) + AFTER_DEADLINE_S
