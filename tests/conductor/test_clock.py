"""A clock that is hours ahead for a moment delays nothing once it is right again."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

import pytest
import sqlalchemy as sa

from batuta.conductor.clock_watch import ClockWatch
from batuta.conductor.database.schema import deadlines
from batuta.conductor.database.schema import processings as table
from batuta.conductor.decisions.circuits import Full, Unanswered
from batuta.conductor.decisions.events import Busy
from batuta.conductor.decisions.processing_record import AHEAD_S
from batuta.conductor.decisions.remaking import ANNOUNCED_WITHIN_S, ProcessingEnd, is_under_way
from batuta.conductor.decisions.requests import PollAction, poll
from batuta.conductor.decisions.stops import StopAnswer
from batuta.graph import Graph
from batuta.messaging import ProcessingState as State
from tests.conductor.graphs import graph_of
from tests.conductor.harness import NOTHING, UNLIMITED, Harness, OpenLedger
from tests.conductor.processing_records import CONDITIONS, NOW, RUNNING

T = TypeVar("T")

AHEAD: float = 18 * 3600.0
SINGLE = graph_of(["A"], {"B": {"m_input": ["A"], "timeout": 60}})
WITH_OPTIONAL = graph_of(
    ["A"],
    {
        "B": {"m_input": ["A"]},
        "C": {"m_input": ["A"], "o_input": ["B"], "o_wait": 600},
    },
)


def right_again(harness: Harness) -> int:
    """Set a clock right that was ahead, and look after what it has planned."""
    harness.clock.advance(-AHEAD)
    found = harness.ledger.planned_times.any_ahead()
    moved = harness.ledger.planned_times.bring_back()
    assert found == (moved > 0)
    assert not harness.ledger.planned_times.any_ahead()
    return moved


def opened_ahead(open_ledger: OpenLedger, graph: Graph) -> Harness:
    harness = open_ledger(graph)
    harness.clock.advance(AHEAD)
    return harness


def not_before(harness: Harness, product: str) -> float:
    with harness.engine.connect() as connection:
        query = sa.select(table.c.not_before).where(table.c.product == product)
        return float(connection.scalar(query) or 0.0) - harness.clock.now


def test_a_retry_that_was_planned_ahead_is_requested_now(open_ledger: OpenLedger) -> None:
    harness = opened_ahead(open_ledger, SINGLE)
    (request,) = harness.on_data(("A", "o1", 1))
    harness.report(request, State.FAILED, error="no luck")
    assert harness.due() == []
    assert right_again(harness) == 1
    assert harness.due() == ["B"]


def test_what_waits_for_a_full_provider_since_then_is_requested_now(
    open_ledger: OpenLedger,
) -> None:
    harness = opened_ahead(open_ledger, SINGLE)
    (request,) = harness.on_data(("A", "o1", 1))
    full = Full(
        provider="maker",
        instance=harness.ledger.circuits.instance_of("maker"),
        processing_id=request.processing_id,
        wait_s=30,
    )
    busy = Busy(processing_id=request.processing_id, asked_attempt=1, error="full", wait_s=30)
    harness.ledger.advance([busy], NOTHING, NOTHING, [full])
    assert right_again(harness) >= 1
    harness.clock.advance(2)  # circuits are read again after a moment
    assert harness.due() == ["B"]


def test_an_address_that_was_left_alone_since_then_is_tried_now(open_ledger: OpenLedger) -> None:
    harness = opened_ahead(open_ledger, SINGLE)
    (request,) = harness.on_data(("A", "o1", 1))
    lost = Unanswered(
        provider="maker",
        instance=harness.ledger.circuits.instance_of("maker"),
        processing_id=request.processing_id,
        reason="connection refused",
    )
    harness.ledger.advance([], NOTHING, NOTHING, [lost] * 5)
    assert [each.open for each in harness.ledger.circuits.known] == [True]
    harness.on_data(("A", "o2", 1))
    assert harness.due() == []
    assert right_again(harness) >= 1
    harness.clock.advance(2)
    assert harness.due() == ["B"]


def test_a_wait_for_optional_inputs_begins_once_more(open_ledger: OpenLedger) -> None:
    harness = opened_ahead(open_ledger, WITH_OPTIONAL)
    assert [each.product for each in harness.on_data(("A", "o1", 1))] == ["B"]
    assert not_before(harness, "C") == 600
    assert right_again(harness) >= 1
    assert not_before(harness, "C") == 600
    assert harness.due() == []
    harness.clock.advance(601)
    assert harness.due() == ["C"]


def test_what_runs_since_then_is_polled_and_timed_from_now(open_ledger: OpenLedger) -> None:
    harness = opened_ahead(open_ledger, SINGLE)
    (request,) = harness.on_data(("A", "o1", 1))
    harness.report(request, State.RUNNING, started=harness.clock.now)
    assert right_again(harness) == 1
    (first,) = harness.due_for_polling(UNLIMITED)
    assert first.action is PollAction.QUERY
    harness.clock.advance(61)
    (second,) = harness.due_for_polling(UNLIMITED)
    assert second.action is PollAction.STOP


def test_what_failed_by_a_clock_that_is_ahead_of_ours_is_retried(open_ledger: OpenLedger) -> None:
    """As with two conductors of one database, on machines whose clocks differ a little."""
    harness = open_ledger(SINGLE)
    (request,) = harness.on_data(("A", "o1", 1))
    harness.clock.advance(5)
    harness.report(request, State.FAILED, error="x")
    harness.ledger.operations.cancel(request.processing_id, None)
    harness.clock.advance(-5)
    assert harness.ledger.operations.retry(request.processing_id).changed


def test_deadlines_that_were_set_then_count_from_now(open_ledger: OpenLedger) -> None:
    graph = graph_of(["A"], {"B": {"m_input": ["A"], "due": 100, "expires": 200}})
    harness = opened_ahead(open_ledger, graph)
    harness.on_data(("A", "o1", 1))
    assert right_again(harness) >= 2
    with harness.engine.connect() as connection:
        row = connection.execute(sa.select(deadlines)).one()
    assert (row.due - harness.clock.now, row.expires - harness.clock.now) == (100, 200)


def test_a_stop_that_was_to_be_told_then_is_told_now(open_ledger: OpenLedger) -> None:
    harness = opened_ahead(open_ledger, SINGLE)
    (request,) = harness.on_data(("A", "o1", 1))
    harness.report(request, State.RUNNING)
    cancelled = harness.ledger.operations.cancel(request.processing_id, None)
    assert cancelled is not None
    harness.ledger.stops.record_told([(cancelled, StopAnswer(failure="connection refused"))])
    assert harness.ledger.stops.take_due() == []
    assert right_again(harness) == 1
    assert [each.id for each in harness.ledger.stops.take_due()] == [request.processing_id]


def test_what_a_clock_planned_that_is_right_stays(open_ledger: OpenLedger) -> None:
    harness = open_ledger(WITH_OPTIONAL)
    (request,) = harness.on_data(("A", "o1", 1))
    harness.report(request, State.FAILED, error="no luck")
    planned = [not_before(harness, name) for name in "BC"]
    harness.clock.advance(-AHEAD_S)  # another conductor, which is behind
    assert harness.ledger.planned_times.bring_back() == 0
    assert [not_before(harness, name) - AHEAD_S for name in "BC"] == planned


def test_many_are_brought_back_in_several_transactions(
    open_ledger: OpenLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("batuta.conductor.database.planned_times._TOGETHER", 3)
    harness = opened_ahead(open_ledger, SINGLE)
    for number in range(7):
        (request,) = harness.on_data(("A", f"o{number}", 1))
        harness.report(request, State.FAILED, error="no luck")
    assert right_again(harness) == 7


@pytest.mark.parametrize("ahead_s", [AHEAD_S, AHEAD])
def test_a_request_of_the_future_is_one_of_now(ahead_s: float) -> None:
    since = NOW + ahead_s
    _, after = poll(replace(RUNNING, requested=since, started=since), CONDITIONS)
    found = NOW if ahead_s > AHEAD_S else since
    assert (after.requested, after.started) == (found, found)


def test_the_announcement_of_what_ended_in_the_future_is_not_waited_for() -> None:
    ended = ProcessingEnd(state=State.SUCCEEDED, ended=NOW)
    assert is_under_way(ended, NOW + ANNOUNCED_WITHIN_S - 1)
    assert not is_under_way(ended, NOW + ANNOUNCED_WITHIN_S)
    assert is_under_way(ended, NOW - AHEAD_S)
    assert not is_under_way(ended, NOW - AHEAD)


async def test_a_clock_that_is_behind_for_a_moment_moves_nothing(
    open_ledger: OpenLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    harness = open_ledger(WITH_OPTIONAL)
    harness.on_data(("A", "o1", 1))
    looks: list[float] = []

    async def write(work: Callable[..., T], *args: Any) -> T:
        return work(*args)

    async def sleep(_seconds: float) -> None:
        looks.append(not_before(harness, "C"))
        if len(looks) == 6:
            raise asyncio.CancelledError
        # It is behind at the second look alone, then from the fourth on.
        harness.clock.now += {1: -AHEAD, 2: AHEAD, 3: -AHEAD}.get(len(looks), 0.0)

    monkeypatch.setattr("batuta.conductor.clock_watch.asyncio.sleep", sleep)
    with pytest.raises(asyncio.CancelledError):
        await ClockWatch(harness.ledger.planned_times, write).run()
    assert looks == [600, 600 + AHEAD, 600, 600 + AHEAD, 600, 600]
