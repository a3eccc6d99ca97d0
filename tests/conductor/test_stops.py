"""Providers are told to stop what a withdrawal or an operator stops, until they answer."""

from dataclasses import replace

import httpx
import pytest
from fastapi.responses import JSONResponse

from batuta.cli.app import run
from batuta.conductor.database.requests.due_requests import DueRequest
from batuta.conductor.database.views.event_views import EventViews
from batuta.conductor.database.views.late_views import LateViews
from batuta.conductor.database.views.why_views import WhyViews
from batuta.conductor.decisions.differences import Difference, DifferenceKind
from batuta.conductor.decisions.processing_record import WaitConfig
from batuta.conductor.decisions.stops import (
    ARRIVES_WITHIN_S,
    GIVEN_UP_AFTER_S,
    UNANSWERED_S,
    Stop,
    StopAnswer,
    after_answer,
    being_told,
    history_of,
    stop_of,
)
from batuta.conductor.service import open_conductor
from batuta.messaging import ProcessingState as State
from tests.conductor.graphs import graph_of
from tests.conductor.harness import UNLIMITED, Harness, OpenLedger
from tests.conductor.processing_records import RUNNING
from tests.conductor.stage import Stage, eventually_in, get
from tests.conductor.test_withdrawal import withdraw
from tests.support.services import ServiceProcess, serving
from tests.support.waiting import eventually_sync

GRAPH = graph_of(["A"], {"B": {"m_input": ["A"]}})
STOPPED, NOT_THERE = StopAnswer(), StopAnswer(failure="not there")
NOT_KNOWN = StopAnswer(is_known=False)
WAITS = WaitConfig(retry_wait_s=1.0, retry_wait_max_s=300.0)
STOP = Stop(
    id="p1",
    product="B",
    obs_id="o1",
    provider="maker",
    attempt=1,
    instance=None,
    pipeline_id=None,
    since=100.0,
    next_at=100.0,
)


@pytest.mark.parametrize(
    ("state", "told"),
    [
        (State.WAITING, False),
        (State.HELD, False),
        (State.RETRYING, False),
        (State.REQUESTED, True),
        (State.RUNNING, True),
    ],
)
def test_what_is_at_its_provider_is_to_be_stopped_there(state: State, told: bool) -> None:
    assert (stop_of(replace(RUNNING, state=state), 5.0) is not None) is told


def test_a_provider_that_cannot_be_told_is_told_again_ever_later_and_given_up_at_last() -> None:
    after: Stop | None = STOP
    waits = []
    for _ in range(10):
        assert after is not None
        now = after.next_at
        after = after_answer(after, NOT_THERE, now, WAITS)
        assert after is not None
        waits.append(after.next_at - now)
    assert waits == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300]
    assert after is not None
    assert (after.tries, after.problem) == (10, "not there")
    assert after_answer(after, NOT_THERE, STOP.since + GIVEN_UP_AFTER_S, WAITS) is None
    assert being_told(STOP, 200.0).next_at > 200.0


def test_one_that_a_provider_does_not_know_may_arrive_yet_and_is_told_again_for_a_while() -> None:
    after = after_answer(STOP, NOT_KNOWN, STOP.since + 1, WAITS)
    assert after is not None
    assert history_of(STOP, after, NOT_KNOWN) is None
    assert after.next_at > STOP.since + 1
    assert after_answer(after, NOT_KNOWN, STOP.since + ARRIVES_WITHIN_S, WAITS) is None
    assert history_of(after, None, NOT_KNOWN) is None
    assert history_of(after, None, STOPPED) == "stopped at its provider"


def test_of_many_tries_the_first_and_the_end_are_told() -> None:
    once = after_answer(STOP, NOT_THERE, 100.0, WAITS)
    assert once is not None
    assert history_of(STOP, None, STOPPED) is None
    assert history_of(STOP, once, NOT_THERE) == "not stopped at its provider yet, tried again"
    assert history_of(once, once, NOT_THERE) is None
    assert history_of(once, None, STOPPED) == "stopped at its provider"
    assert history_of(once, None, NOT_THERE) == "not stopped at its provider, given up"


# ---------------------------------------------------------------------- recorded


def withdraw_input(harness: Harness) -> DueRequest:
    """Withdraw the input of B while its provider makes it."""
    (request,) = harness.on_data(("A", "o1", 1))
    harness.report(request, State.RUNNING)
    lost = Difference(
        kind=DifferenceKind.WITHDRAWN, product="A", obs_id="o1", recorded=1, reason="noise"
    )
    harness.ledger.operations.correct([lost])
    return request


def test_a_stop_is_recorded_with_what_stops_it_and_survives_a_kill(
    open_ledger: OpenLedger,
) -> None:
    harness = open_ledger(GRAPH)
    request = withdraw_input(harness)
    (stop,) = harness.ledger.stops.take_due()
    assert (stop.id, stop.provider) == (request.processing_id, "maker")
    assert harness.ledger.stops.take_due() == [], "it is being told"
    # Killed while its provider was told: it is told again.
    again = open_ledger(GRAPH)
    again.clock.now = harness.clock.now + 61
    (stop,) = again.ledger.stops.take_due()
    again.ledger.stops.record(stop, StopAnswer(failure="connection refused"))
    (waiting,) = again.ledger.stops.all()
    assert (waiting.tries, waiting.problem) == (1, "connection refused")
    again.clock.advance(300)
    (stop,) = again.ledger.stops.take_due()
    again.ledger.stops.record(stop, STOPPED)
    assert again.ledger.stops.all() == []
    views = EventViews(again.engine, again.current, again.views)
    why = WhyViews(views, LateViews(again.engine)).why("B", "o1")
    told = [each.what for each in why.history]
    assert "not stopped at its provider yet, tried again: connection refused" in told
    assert told[-1] == "stopped at its provider"


def test_what_an_operator_cancels_is_told_after_a_kill(open_ledger: OpenLedger) -> None:
    """Killed between the record and the answer of its provider."""
    harness = open_ledger(GRAPH)
    (request,) = harness.on_data(("A", "o1", 1))
    harness.report(request, State.RUNNING)
    cancelled = harness.ledger.operations.cancel(request.processing_id, None)
    assert cancelled is not None
    assert harness.ledger.stops.take_due() == [], "it is being told"
    again = open_ledger(GRAPH)
    again.clock.now = harness.clock.now + UNANSWERED_S + 1
    (stop,) = again.ledger.stops.take_due()
    assert (stop.id, stop.attempt, stop.provider) == (request.processing_id, 1, "maker")
    again.ledger.stops.record_told([(replace(cancelled, attempt=2), STOPPED)])
    assert again.ledger.stops.all() != [], "that was another attempt"
    again.ledger.stops.record_told([(cancelled, STOPPED)])
    assert again.ledger.stops.all() == []


def test_what_was_retried_since_is_not_stopped(open_ledger: OpenLedger) -> None:
    harness = open_ledger(GRAPH)
    request = withdraw_input(harness)
    harness.on_data(("A", "o1", 2))
    harness.ledger.operations.retry(request.processing_id)
    harness.ledger.take_due(UNLIMITED)
    assert harness.ledger.stops.take_due() == []
    assert harness.ledger.stops.all() == []


# ---------------------------------------------------------------------- told


def withdraw_while_it_runs(stage: Stage, url: str) -> None:
    """Withdraw what B is made from while it runs, at a pipeline that is full when told so."""
    stage.pipeline.cancel_answers.extend([JSONResponse({"detail": "full"}, 503)] * 1000)
    stage.pipeline.outcomes["B"].append("running")
    stage.archive("A", "o1")
    eventually_in(url, {"B/o1": "running"})
    withdraw(stage, "A", 1)
    eventually_in(url, {"B/o1": "cancelled"})


@pytest.mark.timeout(240)
def test_a_pipeline_that_cannot_be_told_is_shown_and_told_again_after_a_kill(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = stage.settings(GRAPH, retry_wait_max_s=0.2)
    stage.conductor = ServiceProcess("batuta.conductor:run", settings)
    url = stage.conductor.start()
    withdraw_while_it_runs(stage, url)
    (stop,) = eventually_sync(lambda: [e for e in get(url, "/stops")["items"] if e["tries"]])
    assert (stop["product"], stop["obs_id"], stop["provider"]) == ("B", "o1", "maker")
    assert "full" in stop["problem"]
    assert "batuta_unstopped_processings 1.0" in httpx.get(f"{url}/metrics").text
    monkeypatch.setenv("BATUTA_CONDUCTOR_URL", url)
    capsys.readouterr()
    assert run(["status"]) == 0
    assert "o1 B stopped at " in " ".join(capsys.readouterr().out.split())
    stage.conductor.kill()
    stage.pipeline.cancel_answers.clear()
    url = stage.conductor.start()
    # If it was killed while it told the pipeline, it waits for the answer of that.
    eventually_sync(lambda: get(url, "/stops")["items"] == [], UNANSWERED_S + 40)
    assert stage.pipeline.processings[stop["processing"]]["state"] == "cancelled"


def test_what_an_operator_cancels_is_told_again_too(stage: Stage) -> None:
    with serving(open_conductor, stage.settings(GRAPH)) as url:
        stage.pipeline.cancel_answers.append(JSONResponse({"detail": "full"}, 503))
        stage.pipeline.outcomes["B"].append("running")
        stage.archive("A", "o1")
        eventually_in(url, {"B/o1": "running"})
        (found,) = get(url, "/processings")["items"]
        answer = httpx.delete(f"{url}/processings/{found['id']}")
        assert answer.status_code == 502
        assert answer.json()["detail"].endswith("; it is told again")
        eventually_sync(lambda: stage.pipeline.processings[found["id"]]["state"] == "cancelled")
        eventually_sync(lambda: get(url, "/stops")["items"] == [])


def test_a_cancellation_that_overtakes_its_request_is_told_again(stage: Stage) -> None:
    with serving(open_conductor, stage.settings(GRAPH)) as url:
        # As if the request was still on its way.
        stage.pipeline.cancel_answers.append(JSONResponse({"detail": "not found"}, 404))
        stage.pipeline.outcomes["B"].append("running")
        stage.archive("A", "o1")
        eventually_in(url, {"B/o1": "running"})
        (found,) = get(url, "/processings")["items"]
        assert httpx.delete(f"{url}/processings/{found['id']}").is_success
        eventually_sync(lambda: stage.pipeline.processings[found["id"]]["state"] == "cancelled")
        eventually_sync(lambda: get(url, "/stops")["items"] == [])
