"""Circuits and instances in the database: recorded before anything is sent, kept by a restart."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from batuta.conductor.database.ledger import Round
from batuta.conductor.database.orders import OrderViews
from batuta.conductor.database.requests.due_requests import DueRequest
from batuta.conductor.database.views.event_views import EventViews
from batuta.conductor.database.views.late_views import LateViews
from batuta.conductor.database.views.provider_views import ProviderViews
from batuta.conductor.database.views.why_views import WhyViews
from batuta.conductor.decisions.circuits import Answered, Circuit, Full, Signal, Unanswered
from batuta.conductor.decisions.events import (
    Archived,
    Event,
    Interface,
    NoStateTold,
    StatusUpdate,
    UnknownToPipeline,
)
from batuta.conductor.decisions.events import PipelineUnreachable as Unreachable
from batuta.conductor.decisions.rules import Arrival
from batuta.graph import Graph
from batuta.messaging import ProcessingState as State
from batuta.messaging.processings import instant_of
from batuta.service.operators import Operator
from tests.conductor.graphs import URL, graph_of
from tests.conductor.harness import NOTHING, UNLIMITED, Harness, OpenLedger

A, B = "http://a", "http://b"


def one_address(**provider: object) -> Graph:
    return graph_of(["A"], {"B": {"m_input": ["A"]}}, {"maker": provider} if provider else None)


def two_addresses(**provider: object) -> Graph:
    products: dict[str, dict[str, object]] = {"B": {"m_input": ["A"], "url": [A, B]}}
    return graph_of(["A"], products, {"maker": provider} if provider else None)


def arrive(harness: Harness, *numbers: int) -> list[DueRequest]:
    return harness.take([Arrival("A", f"o{number}", 1) for number in numbers], UNLIMITED)


def advance(
    harness: Harness, signals: Sequence[Signal] = (), events: Sequence[Event] = ()
) -> Round:
    return harness.ledger.advance(events, UNLIMITED, UNLIMITED, signals)


def refused(request: DueRequest) -> tuple[Signal, Event]:
    """What the dispatcher tells of a request that found nobody."""
    signal = Unanswered(
        provider="maker",
        instance=request.instance or URL,
        processing_id=request.processing_id,
        reason="maker cannot be reached: Connection refused",
    )
    event = Unreachable(
        processing_id=request.processing_id,
        asked_attempt=request.attempt,
        error=signal.reason,
        connected=False,
    )
    return signal, event


def fail(harness: Harness, requests: Sequence[DueRequest]) -> Round:
    told = [refused(each) for each in requests]
    return advance(harness, [signal for signal, _ in told], [event for _, event in told])


def running(request: DueRequest) -> StatusUpdate:
    """What a pipeline answers that counts attempts."""
    return StatusUpdate(
        processing_id=request.processing_id,
        asked_attempt=request.attempt,
        attempt=request.attempt,
        state=State.RUNNING,
        interface=Interface.ATTEMPTS,
    )


def attempts(harness: Harness) -> set[tuple[State, int]]:
    items = harness.views.processings({}, 100, None).items
    return {(each.state, each.attempt) for each in items}


def test_while_a_circuit_is_open_nothing_is_sent_and_no_attempt_is_used(
    open_ledger: OpenLedger,
) -> None:
    harness = open_ledger(one_address())
    requests = arrive(harness, *range(7))
    assert fail(harness, requests).requests == []
    # All seven were under way when the fifth opened it: they are as if they had not been sent.
    assert attempts(harness) == {(State.WAITING, 0)}
    assert arrive(harness, 7, 8) == []
    for _ in range(3):
        harness.clock.advance(400)
        (trial,) = advance(harness).requests
        assert fail(harness, [trial]).requests == []
        assert advance(harness).requests == []
    assert attempts(harness) == {(State.WAITING, 0)}
    # Another conductor, or this one after a restart, knows it from the database.
    assert arrive(open_ledger(one_address()), 9) == []
    harness.clock.advance(400)
    (trial,) = advance(harness).requests
    assert advance(harness).requests == []
    answer = Answered(provider="maker", instance=URL, processing_id=trial.processing_id)
    assert len(advance(harness, [answer], [running(trial)]).requests) == 9


@pytest.mark.parametrize("stated", [None, 30.0])
def test_trials_whose_answers_are_lost_use_no_attempt(
    open_ledger: OpenLedger, stated: float | None
) -> None:
    provider: dict[str, object] = {} if stated is None else {"lost_after": stated}
    harness = open_ledger(
        graph_of(["A"], {"B": {"m_input": ["A"], "max_attempts": 2}}, {"maker": provider})
    )
    if stated is None:
        # It is known to count attempts.
        (first,) = arrive(harness, 9)
        harness.apply(running(first))
        harness.apply(
            Archived(processing_id=first.processing_id, product="B", obs_id="o9", provider="maker")
        )
    fail(harness, arrive(harness, *range(6)))
    sent = set()
    for _ in range(8):
        harness.clock.advance(400)
        # A proxy answers 502, or nothing comes at all.
        (trial,) = advance(harness).requests
        sent.add((trial.processing_id, trial.attempt, trial.request_id))
        signal, _ = refused(trial)
        lost = NoStateTold(
            processing_id=trial.processing_id, asked_attempt=trial.attempt, error="502 Bad Gateway"
        )
        assert advance(harness, [signal], [lost]).ended == []
    assert {attempt for _, attempt, _ in sent} == {1}
    left = {each for each in attempts(harness) if each[0] is not State.SUCCEEDED}
    assert left == {(State.WAITING, 0)}
    # A restart in the middle of one: it is polled.
    harness.clock.advance(400)
    (trial,) = advance(harness).requests
    signal, event = refused(trial)
    assert isinstance(event, Unreachable)
    advance(harness, [signal], [replace(event, polled=True)])
    left = {each for each in attempts(harness) if each[0] is not State.SUCCEEDED}
    assert left == {(State.WAITING, 0)}


def test_a_trial_of_a_pipeline_that_was_never_heard_of_uses_no_attempt(
    open_ledger: OpenLedger,
) -> None:
    harness = open_ledger(graph_of(["A"], {"B": {"m_input": ["A"], "max_attempts": 1}}))
    fail(harness, arrive(harness, *range(6)))
    harness.clock.advance(10)
    (trial,) = advance(harness).requests
    signal, _ = refused(trial)
    lost = NoStateTold(
        processing_id=trial.processing_id, asked_attempt=trial.attempt, error="502 Bad Gateway"
    )
    assert advance(harness, [signal], [lost]).ended == []
    # It may have arrived: it is not sent again, another one is the next trial, which is answered.
    harness.clock.advance(10)
    (other,) = advance(harness).requests
    assert other.processing_id != trial.processing_id
    answer = Answered(provider="maker", instance=URL, processing_id=other.processing_id)
    (poll,) = advance(harness, [answer], [running(other)]).polls
    assert poll.record.id == trial.processing_id
    unknown = UnknownToPipeline(
        processing_id=trial.processing_id,
        asked_attempt=trial.attempt,
        polled_state=poll.record.state,
        counts_attempts=True,
    )
    (again,) = advance(harness, (), [unknown]).requests
    assert (again.processing_id, again.attempt, again.request_id) == (trial.processing_id, 1, None)


def test_a_trial_that_is_cancelled_is_followed_by_another(open_ledger: OpenLedger) -> None:
    harness = open_ledger(one_address())
    fail(harness, arrive(harness, *range(6)))
    harness.clock.advance(10)
    (trial,) = advance(harness).requests
    harness.ledger.operations.cancel(trial.processing_id, "not wanted")
    (other,) = advance(harness).requests
    assert other.processing_id != trial.processing_id


def test_processings_that_fail_for_one_observation_after_the_other_stop_their_provider(
    open_ledger: OpenLedger,
) -> None:
    harness = open_ledger(one_address())
    requests = arrive(harness, *range(12))
    for request in requests[:10]:
        harness.report(request, State.FAILED, error="no calibration")
    assert arrive(harness, 12) == []
    # What was under way already goes on, and shows that it is well again.
    harness.report(requests[11], State.SUCCEEDED)
    assert "B" in {each.product for each in arrive(harness, 13)}


def test_how_long_a_provider_asks_to_wait_outlives_a_restart(open_ledger: OpenLedger) -> None:
    harness = open_ledger(one_address())
    arrive(harness, 1)
    full = Full(provider="maker", instance=URL, processing_id="p", wait_s=120.0)
    done = advance(harness, [full])
    assert done.due_at is not None
    harness.clock.advance(100)
    restarted = open_ledger(one_address())
    restarted.clock.advance(100)
    assert arrive(restarted, 2) == []
    restarted.clock.advance(30)
    assert len(advance(restarted).requests) == 1


@pytest.mark.parametrize("limit", [None, 3])
def test_work_is_spread_over_instances_and_followed_where_it_runs(
    open_ledger: OpenLedger, limit: int | None
) -> None:
    given = {} if limit is None else {"max_concurrent_per_instance": limit}
    harness = open_ledger(two_addresses(**given))
    requests = arrive(harness, *range(8))
    at = [each.instance for each in requests]
    most = 4 if limit is None else limit
    assert (at.count(A), at.count(B)) == (most, most)
    harness.clock.advance(60)
    polls = harness.due_for_polling(UNLIMITED)
    asked = {poll.record.id: poll.record.instance for poll in polls}
    assert asked == {each.processing_id: each.instance for each in requests}


def test_the_limit_of_a_provider_holds_over_all_its_instances(open_ledger: OpenLedger) -> None:
    harness = open_ledger(two_addresses(max_concurrent=3, max_concurrent_per_instance=2))
    requests = arrive(harness, *range(8))
    assert sorted(str(each.instance) for each in requests) == [A, A, B]


def test_an_instance_that_does_not_answer_leaves_its_work_to_the_others(
    open_ledger: OpenLedger,
) -> None:
    harness = open_ledger(two_addresses())
    requests = arrive(harness, *range(20))
    at_a = [each for each in requests if each.instance == A]
    again = fail(harness, at_a).requests
    harness.clock.advance(0.5)
    again += advance(harness).requests
    assert {each.instance for each in again} == {B}
    assert {each.processing_id for each in again} == {each.processing_id for each in at_a}


def test_what_was_sent_to_a_lost_instance_goes_to_another_and_is_made_once(
    open_ledger: OpenLedger,
) -> None:
    harness = open_ledger(two_addresses())
    requests = arrive(harness, *range(6))
    advance(harness, (), [running(each) for each in requests])
    lost = [each for each in requests if each.instance == A]
    silent = refused(lost[0])[0]
    advance(harness, [silent] * 5)
    harness.clock.advance(59)
    (trial,) = (each for each in advance(harness).polls if each.record.instance == A)
    harness.clock.advance(1)
    advance(harness)
    # The poll that is under way may be answered yet.
    assert {harness.state(each) for each in lost} == {State.RUNNING}
    advance(harness, [replace(silent, processing_id=trial.record.id)])
    assert {harness.state(each) for each in lost} == {State.RETRYING}
    assert harness.error(lost[0]) == (
        "lost: maker at http://a has not answered since " + _time(harness.clock() - 60)
    )
    harness.clock.advance(5)
    moved = advance(harness).requests
    # One of them tries whether A is back.
    assert sorted(str(each.instance) for each in moved) == [A, B, B]
    # The lost one was only cut off: what it reports is of an attempt that is over...
    (late,) = (each for each in lost if each.processing_id == moved[0].processing_id)
    harness.report(late, State.FAILED, reported_by="maker", error="late")
    assert harness.state(late) is State.REQUESTED
    # ...but what it archives is made.
    harness.apply(
        Archived(
            processing_id=late.processing_id, product="B", obs_id=late.obs_id, provider="maker"
        )
    )
    assert harness.state(late) is State.SUCCEEDED


@pytest.mark.parametrize(("stated", "moves"), [(None, False), (30.0, True)])
def test_what_might_be_made_twice_is_moved_only_if_the_graph_says_so(
    open_ledger: OpenLedger, stated: float | None, moves: bool
) -> None:
    harness = open_ledger(two_addresses(**({} if stated is None else {"lost_after": stated})))
    first, second = arrive(harness, 1, 2)
    accepted = [replace(running(each), interface=Interface.REQUEST) for each in (first, second)]
    advance(harness, (), accepted)
    advance(harness, [refused(first)[0]] * 5)
    harness.clock.advance(61)
    advance(harness)
    assert harness.state(first) is (State.RETRYING if moves else State.RUNNING)
    assert harness.state(second) is State.RUNNING


def test_an_instance_that_is_back_is_found_by_a_poll_and_takes_work_again(
    open_ledger: OpenLedger,
) -> None:
    harness = open_ledger(two_addresses())
    first, _second = arrive(harness, 1, 2)
    assert first.instance == A
    advance(harness, (), [running(first)])
    advance(harness, [refused(first)[0]] * 5)
    assert {each.instance for each in arrive(harness, 3, 4)} == {B}
    harness.clock.advance(5)
    (poll,) = harness.due_for_polling(NOTHING)
    assert poll.record.id == first.processing_id
    answer = Answered(provider="maker", instance=A, processing_id=first.processing_id)
    advance(harness, [answer], [running(first)])
    assert {each.instance for each in arrive(harness, 5, 6)} == {A}


def test_an_operator_closes_the_circuits_of_a_provider(open_ledger: OpenLedger) -> None:
    harness = open_ledger(one_address())
    fail(harness, arrive(harness, *range(6)))
    closed = harness.ledger.close_circuits("maker")
    assert [each.instance for each in closed] == [URL]
    assert len(advance(harness).requests) == 6
    assert harness.ledger.close_circuits("maker") == []


def _time(seconds: float) -> str:
    return f"{instant_of(seconds):%Y-%m-%d %H:%M:%S}"


def test_nothing_is_kept_in_transactions_that_failed(open_ledger: OpenLedger) -> None:
    harness = open_ledger(one_address())
    requests = arrive(harness, *range(6))
    signals = [refused(each)[0] for each in requests]
    with pytest.raises(AttributeError):
        advance(harness, signals, ["no event"])  # type: ignore[list-item]
    assert len(arrive(harness, 7)) == 1


def provider_views(harness: Harness) -> ProviderViews:
    return ProviderViews(harness.engine, harness.graph, harness.ledger.circuits.instances_of)


def test_an_open_circuit_is_told_once_listed_and_told_by_why(open_ledger: OpenLedger) -> None:
    harness = open_ledger(two_addresses())
    requests = arrive(harness, *range(12))
    at_a = [each for each in requests if each.instance == A]
    news = [each for each in fail(harness, at_a).ended if isinstance(each, Circuit)]
    assert [(each.instance, each.open) for each in news] == [(A, True)]
    assert not any(isinstance(each, Circuit) for each in advance(harness).ended)
    (provider,) = provider_views(harness).all()
    found = {each.address: (each.circuit.value, each.processings) for each in provider.instances}
    assert found == {A: ("open", 0), B: ("closed", 12)}
    late, events = (
        LateViews(harness.engine),
        EventViews(harness.engine, harness.graph, harness.views),
    )
    why = WhyViews(events, late, provider_views(harness)).why("B", "o1")
    opened, tried = _time(harness.clock()), _time(harness.clock() + 1)
    line = (
        f"provider maker at {A}: circuit open since {opened}, tried again at {tried}: "
        "maker cannot be reached: Connection refused"
    )
    assert why.circuits == [line]
    assert f"  {line}" in why.words
    harness.ledger.close_circuits("maker", Operator("ana"))
    (told,) = (each for each in advance(harness).ended if isinstance(each, Circuit))
    assert not told.open
    (order,) = OrderViews(harness.engine).page({}, None, None, 10, None).items
    assert (order.command, order.about) == ("providers --close", {"provider": "maker"})
    assert provider_views(harness).open() == []
