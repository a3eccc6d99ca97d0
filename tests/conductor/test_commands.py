"""What operators' commands and corrected inputs change."""

from dataclasses import asdict, replace

import pytest

from batuta.conductor.decisions.commands import (
    Urgency,
    cancel,
    remake,
    reprioritize,
    retry,
    retry_with_newer_inputs,
    withdraw,
)
from batuta.conductor.decisions.processing_record import TO_BE_MADE, ProcessingRecord
from batuta.messaging import ProcessingState as State
from batuta.work_classes import WorkClass
from tests.conductor.graphs import diamond, graph_of
from tests.conductor.processing_records import (
    CANCELLED,
    FAILED,
    NOW,
    RUNNING,
    SUCCEEDED,
)


def test_a_success_that_was_lost_is_made_again_with_all_its_attempts() -> None:
    product = diamond().products["B"]
    after = remake(SUCCEEDED, product, NOW)
    assert after is not None
    assert (after.state, after.remake, after.not_before) == (State.WAITING, True, NOW)
    assert after.max_attempts == SUCCEEDED.attempt + product.max_attempts
    for record in (FAILED, CANCELLED, RUNNING):
        assert remake(record, product, NOW) is None


def test_a_success_whose_product_was_withdrawn_has_failed_and_may_be_made_again() -> None:
    failed = withdraw(SUCCEEDED, 3, "wrong gain", NOW)
    assert failed is not None
    assert (failed.state, failed.remake, failed.ended) == (State.FAILED, True, NOW)
    assert failed.error == "version 3 of B was withdrawn: wrong gain"
    again = retry_with_newer_inputs(failed, diamond().products["B"], {"A": 1}, {"A": 2}, NOW)
    assert again is not None
    assert (again.state, again.remake) == (State.WAITING, True)


@pytest.mark.parametrize("record", [RUNNING, FAILED, CANCELLED])
def test_a_withdrawal_changes_nothing_but_a_success(record: ProcessingRecord) -> None:
    assert withdraw(record, 1, None, NOW) is None


@pytest.mark.parametrize("record", [FAILED, CANCELLED, SUCCEEDED])
def test_what_has_ended_cannot_be_cancelled(record: ProcessingRecord) -> None:
    assert cancel(record, "by a person", NOW) is None


@pytest.mark.parametrize(
    "state", sorted(set(State) - {State.FAILED, State.CANCELLED, State.RETRYING})
)
def test_only_what_failed_or_was_cancelled_can_be_retried(state: State) -> None:
    assert retry(replace(RUNNING, state=state), None, NOW) is None


def test_what_waits_to_be_retried_is_tried_at_once() -> None:
    waiting = replace(FAILED, state=State.RETRYING, ended=None, not_before=NOW + 300)
    after = retry(waiting, diamond().products["B"], NOW)
    assert after is not None
    assert (after.state, after.not_before, after.attempt) == (State.WAITING, NOW, FAILED.attempt)


def test_a_retry_takes_its_attempts_and_its_timeout_from_the_graph_of_now() -> None:
    product = diamond().products["B"]
    after = retry(FAILED, product, NOW)
    assert after is not None
    assert (after.state, after.not_before, after.ended) == (State.WAITING, NOW, None)
    assert after.max_attempts == FAILED.attempt + product.max_attempts
    assert (after.provider, after.timeout_s) == (product.provider, product.timeout_s)


@pytest.mark.parametrize("record", [FAILED, CANCELLED, replace(FAILED, state=State.RETRYING)])
def test_what_the_graph_no_longer_has_is_not_retried(record: ProcessingRecord) -> None:
    assert retry(record, None, NOW) is None


@pytest.mark.parametrize(
    ("record", "available", "again"),
    [
        (FAILED, {"A": 2}, True),
        (FAILED, {"A": 1}, False),
        (FAILED, {}, False),
        (FAILED, {"A": 1, "other": 5}, False),
        (CANCELLED, {"A": 2}, False),
        (SUCCEEDED, {"A": 2}, False),
        (RUNNING, {"A": 2}, False),
    ],
)
def test_only_what_failed_is_made_again_from_a_newer_version_of_its_input(
    record: ProcessingRecord, available: dict[str, int], again: bool
) -> None:
    product = diamond().products["B"]
    after = retry_with_newer_inputs(record, product, {"A": 1}, available, NOW)
    assert (after is not None) == again
    if after is not None:
        assert (after.state, after.not_before, after.ended) == (State.WAITING, NOW, None)
        assert after.max_attempts == record.attempt + product.max_attempts
        assert after.error == "no luck; to be made again: A v2 has arrived since"


@pytest.mark.parametrize("state", list(State))
def test_only_what_is_to_be_made_gets_another_urgency(state: State) -> None:
    urgency = Urgency(work_class=WorkClass.ALERT, priority=5)
    after = reprioritize(replace(RUNNING, state=state), urgency)
    if state not in TO_BE_MADE:
        assert after is None
        return
    assert after is not None
    assert (after.work_class, after.told_class) == (WorkClass.ALERT, WorkClass.ALERT)
    assert (after.priority, after.told_priority, after.state) == (5, 5, state)
    # Repeated, it changes nothing.
    assert reprioritize(after, urgency) is None


@pytest.mark.parametrize(
    ("urgency", "changed"),
    [
        (Urgency(work_class=WorkClass.BACKFILL), {"work_class", "told_class"}),
        (Urgency(priority=-7), {"priority", "told_priority"}),
        # Of that class by its graph: now what follows from it is, too.
        (Urgency(work_class=WorkClass.LIVE), {"told_class"}),
    ],
)
def test_what_is_not_given_stays_as_it_is(urgency: Urgency, changed: set[str]) -> None:
    before = replace(RUNNING, state=State.WAITING)
    after = reprioritize(before, urgency)
    assert after is not None
    now, was = asdict(after), asdict(before)
    assert {name for name, value in now.items() if value != was[name]} == changed


def test_what_was_told_of_its_urgency_outlives_a_retry() -> None:
    product = graph_of(["A"], {"B": {"m_input": ["A"], "priority": 3}}).products["B"]
    failed = replace(RUNNING, product="B", state=State.FAILED, ended=1.0)
    plain = retry(failed, product, NOW)
    told = replace(failed, told_class=WorkClass.ALERT, told_priority=9)
    urgent = retry(told, product, NOW)
    assert plain is not None
    assert urgent is not None
    assert (plain.priority, plain.work_class) == (3, WorkClass.LIVE)
    assert (urgent.priority, urgent.work_class) == (9, WorkClass.ALERT)
