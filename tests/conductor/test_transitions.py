"""What events change of a processing: a table of decisions."""

from dataclasses import replace
from typing import Any

import pytest

from batuta.conductor.decisions.circuits import AttemptFailed, may_tell_failure, outcome_of
from batuta.conductor.decisions.events import (
    Event,
    Interface,
    PollPostponed,
    StatusUpdate,
)
from batuta.conductor.decisions.processing_record import (
    AFTER_DEADLINE_S,
    ProcessingRecord,
)
from batuta.conductor.decisions.transitions import transition
from batuta.messaging import ProcessingState as State
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
from tests.conductor.transition_events import (
    AGAIN,
    ASKED_BEFORE,
    BUSY,
    COUNTING,
    LOST_INSTANCE,
    NOT_ASKED,
    NOT_STOPPED,
    NOT_STOPPING,
    REFUSED,
    RETRYING,
    SINCE_REQUEST,
    TIMEOUT,
    UNREACHABLE,
    archived,
    silent,
    stopped,
    unknown,
    update,
)

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
    "queued again after the deadline, by a pipeline that is being told to stop": (
        OVERDUE,
        update(State.QUEUED),
        {"state": State.QUEUED, "done": 0, "total": 0, "ask_at": NOW + AFTER_DEADLINE_S},
    ),
    "begun anew after the deadline, by a pipeline that is being told to stop": (
        OVERDUE,
        update(State.RUNNING, started=NOW - 1),
        {"ask_at": NOW + AFTER_DEADLINE_S},
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
    "a stop at the deadline is reported to a conductor whose clock is behind that of who stops": (
        replace(RUNNING, overdue_since=NOW + 30),
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


@pytest.mark.parametrize("case", TABLE)
def test_what_speaks_against_an_instance_is_foreseen_from_the_event_alone(case: str) -> None:
    """What may change a circuit is locked before processings: see `CircuitStore.lock`."""
    record, event, _ = TABLE[case]
    after = transition(record, event, CONDITIONS) or record
    if isinstance(outcome_of(("maker", ""), event, record, after), AttemptFailed):
        assert may_tell_failure(event)


def test_an_answer_without_progress_leaves_what_was_told_of_it() -> None:
    running = replace(REQUESTED, state=State.RUNNING, started=NOW - 5, done=40, total=100)
    answer = StatusUpdate(processing_id="p1", state=State.RUNNING, attempt=2)
    after = transition(running, answer, CONDITIONS) or running
    assert (after.done, after.total) == (40, 100)
    queued_again = transition(running, replace(answer, state=State.QUEUED), CONDITIONS)
    assert queued_again is not None
    assert (queued_again.done, queued_again.total) == (0, 0)


@pytest.mark.parametrize(
    "answer",
    [
        silent(pipeline_id="7", interface=Interface.REQUEST),
        update(State.RUNNING, asked_attempt=2, pipeline_id="7", interface=Interface.REQUEST),
    ],
)
def test_what_a_pipeline_has_shown_is_recorded_though_its_product_is_there_already(
    answer: Event,
) -> None:
    made = transition(REQUESTED, archived(), CONDITIONS)
    assert made is not None
    after = transition(made, answer, CONDITIONS)
    assert after == replace(made, pipeline_id="7", interface=Interface.REQUEST)
    # It says nothing of another attempt.
    assert transition(replace(made, attempt=3), answer, CONDITIONS) is None
