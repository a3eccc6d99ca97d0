"""What holds of all transitions, whatever the processing and the event."""

from dataclasses import replace
from typing import Any

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
    ProcessingRecord,
)
from batuta.conductor.decisions.requests import request
from batuta.conductor.decisions.transitions import transition
from batuta.messaging import ProcessingState as State
from batuta.messaging.processings import AT_PIPELINE
from tests.conductor.processing_records import (
    CONDITIONS,
    NOW,
    REQUESTED,
    RUNNING,
)
from tests.conductor.transition_events import (
    archived,
)

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


@given(record=records(), event=events())
def test_only_a_success_moves_a_processing_that_is_not_at_its_provider(
    record: ProcessingRecord, event: Event
) -> None:
    after = transition(record, event, CONDITIONS) or record
    if record.state not in AT_PROVIDER and after.state is not record.state:
        assert is_success(event)
        assert after.state is State.SUCCEEDED


@given(record=records(), event=events())
def test_nothing_moves_a_success(record: ProcessingRecord, event: Event) -> None:
    succeeded = replace(record, state=State.SUCCEEDED, ended=NOW - 1)
    after = transition(succeeded, event, CONDITIONS)
    if after is not None:
        details = ("done", "total", "started", "profiled", "pipeline_id", "interface")
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
