"""What a request costs that an address which is left alone does not answer."""

from dataclasses import replace

import pytest

from batuta.conductor.decisions.events import (
    Event,
    Interface,
)
from batuta.conductor.decisions.processing_record import (
    Conditions,
    ProcessingRecord,
)
from batuta.conductor.decisions.requests import request
from batuta.conductor.decisions.transitions import transition
from batuta.messaging import ProcessingState as State
from tests.conductor.processing_records import (
    CONDITIONS,
    NOW,
    REQUESTED,
)
from tests.conductor.transition_events import (
    BUSY,
    LAST_REQUEST,
    LOST_INSTANCE,
    NOT_ASKED,
    NOT_STOPPED,
    UNREACHABLE,
    silent,
    unknown,
    update,
)

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
        (LAST_REQUEST, NO_ANSWER, OPEN_CIRCUIT, State.REQUESTED),
        (UNANSWERED, NOT_ASKED, OPEN_CIRCUIT, State.REQUESTED),
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


@pytest.mark.parametrize("overdue", [False, True])
def test_a_trial_that_a_pipeline_never_heard_of_before_does_not_know_costs_no_attempt(
    overdue: bool,
) -> None:
    tried = transition(LAST_REQUEST, NO_ANSWER, OPEN_CIRCUIT)
    assert tried is not None
    # Its answer has closed the circuit by then.
    event = unknown(tried.state, overdue=overdue)
    after = transition(tried, event, CONDITIONS)
    assert after is not None
    assert (after.state, after.attempt, after.not_before) == (State.WAITING, 1, NOW)


@pytest.mark.parametrize("counts", [False, True])
def test_what_an_address_that_is_well_left_unanswered_costs_an_attempt_or_is_followed(
    counts: bool,
) -> None:
    asked = transition(LAST_REQUEST, NO_ANSWER, CONDITIONS)
    assert asked is not None
    after = transition(asked, unknown(asked.state, counts_attempts=counts), CONDITIONS) or asked
    assert after.state is (State.FAILED if counts else State.RUNNING)


def test_a_trial_that_a_pipeline_of_few_words_does_not_know_ends_by_its_timeout() -> None:
    tried = transition(LAST_REQUEST, NO_ANSWER, OPEN_CIRCUIT)
    assert tried is not None
    after = transition(tried, unknown(tried.state, counts_attempts=False), CONDITIONS)
    assert after is not None
    assert (after.state, after.attempt) == (State.RUNNING, 2)
    assert after.started == LAST_REQUEST.requested
