"""What is asked of a pipeline, and when."""

from dataclasses import replace

import pytest

from batuta.conductor.decisions.events import (
    Interface,
)
from batuta.conductor.decisions.processing_record import (
    MAX_POLL_WAIT_S,
    REPORTING_POLL_S,
)
from batuta.conductor.decisions.requests import PollAction, poll, request
from batuta.messaging import ProcessingState as State
from tests.conductor.processing_records import (
    CONDITIONS,
    NOW,
    OVERDUE,
    REQUESTED,
    RUNNING,
)


def test_polls_follow_each_other_ever_more_slowly() -> None:
    record = replace(RUNNING, requested=NOW, started=None)
    waits = []
    now = NOW
    for _ in range(12):
        _, record = poll(record, replace(CONDITIONS, now=now))
        waits.append(record.ask_at - now)
        now = record.ask_at
    assert waits == sorted(waits)
    assert (waits[0], waits[-1]) == (2.0, MAX_POLL_WAIT_S)


def test_a_poll_past_the_deadline_stops_the_processing() -> None:
    assert poll(RUNNING, CONDITIONS)[0].action is PollAction.QUERY
    assert poll(OVERDUE, CONDITIONS)[0].action is PollAction.STOP
    # Its timeout counts from its start, not from its request.
    assert poll(replace(OVERDUE, started=None), CONDITIONS)[0].action is PollAction.QUERY


def test_an_attempt_that_one_conductor_stops_is_overdue_for_one_whose_clock_is_behind() -> None:
    _, stopped = poll(OVERDUE, CONDITIONS)
    assert stopped.overdue_since == NOW
    behind = replace(CONDITIONS, now=NOW - 30)
    assert poll(OVERDUE, behind)[0].action is PollAction.QUERY
    again, after = poll(stopped, behind)
    assert (again.action, after.overdue_since) == (PollAction.STOP, NOW)
    assert request(after, CONDITIONS).overdue_since is None


def test_a_provider_that_reports_its_activity_is_polled_later() -> None:
    reporting = replace(CONDITIONS, reports_activity=True)
    assert request(REQUESTED, CONDITIONS).ask_at == NOW + 2
    assert request(REQUESTED, reporting).ask_at == NOW + REPORTING_POLL_S


def test_a_request_leaves_nothing_of_the_attempt_before() -> None:
    retrying = replace(RUNNING, state=State.RETRYING, profiled=True)
    after = request(retrying, CONDITIONS)
    assert (after.state, after.attempt, after.pipeline_attempt) == (State.REQUESTED, 3, 3)
    assert (after.started, after.done, after.total, after.profiled) == (None, 0, 0, False)


@pytest.mark.parametrize(
    ("interface", "sent_before", "sent"),
    [
        pytest.param(None, None, None, id="not answered: the same request again"),
        pytest.param(None, "p1.2", "p1.2", id="not answered, a later attempt"),
        pytest.param(Interface.ATTEMPTS, None, None, id="counts attempts"),
        pytest.param(Interface.REQUEST, None, "p1.3", id="may take the id for a key"),
        pytest.param(Interface.QUERY, "17", "p1.3", id="has ids of its own"),
    ],
)
def test_an_id_is_sent_again_only_to_who_counts_attempts_or_has_not_answered(
    interface: Interface | None, sent_before: str | None, sent: str | None
) -> None:
    retrying = replace(RUNNING, state=State.RETRYING, interface=interface, pipeline_id=sent_before)
    after = request(retrying, CONDITIONS)
    assert (after.pipeline_id, after.interface) == (sent, None)
