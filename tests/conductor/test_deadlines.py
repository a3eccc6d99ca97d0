"""Deadlines: what is late is told once, what has expired is not made."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batuta.conductor.database.claiming.deadlines import PassedDeadlines
from batuta.conductor.database.views.event_views import EventViews
from batuta.conductor.database.views.late_views import LateViews
from batuta.conductor.database.views.why_views import WhyViews
from batuta.conductor.decisions.deadlines import MAX_EVENT_AGE_S, event_time
from batuta.conductor.decisions.outcomes import HeardEvent, Outcome
from batuta.conductor.decisions.rules import Arrival
from batuta.graph import Graph
from batuta.messaging import ProcessingState as State
from tests.conductor.graphs import graph_of
from tests.conductor.harness import NOTHING, UNLIMITED, OpenLedger

DAY_S = 86_400.0
RECEIVED = 1000 * DAY_S


def _graph(**of_the_last: object) -> Graph:
    return graph_of(
        ["A", "Z"],
        {
            "B": {"m_input": ["A"]},
            "C": {"m_input": ["B"], **of_the_last},
            "D": {"m_input": ["Z"]},
        },
    )


def _late(passed: PassedDeadlines) -> list[tuple[str, str]]:
    return [(row.product, row.obs_id) for row in passed.late]


@pytest.mark.parametrize(
    ("told", "counts"),
    [
        (None, RECEIVED),
        (RECEIVED - 30, RECEIVED - 30),
        (RECEIVED + 1, RECEIVED),
        (RECEIVED - MAX_EVENT_AGE_S - 1, RECEIVED),
        (0.0, RECEIVED),
        (float("nan"), RECEIVED),
        (float("inf"), RECEIVED),
    ],
)
def test_the_time_of_an_event_counts_where_a_right_clock_may_have_told_it(
    told: float | None, counts: float
) -> None:
    assert event_time(told, RECEIVED) == counts


@given(st.floats(allow_nan=True) | st.none(), st.floats(0, 5e9))
def test_no_clock_of_a_sender_moves_a_deadline_by_more_than_a_year(
    told: float | None, received: float
) -> None:
    assert received - MAX_EVENT_AGE_S <= event_time(told, received) <= received


def test_a_product_is_late_once_after_its_first_input_though_nothing_was_claimed(
    open_ledger: OpenLedger,
) -> None:
    harness = open_ledger(_graph(due=60))
    harness.on_data(("A", "o1", 1))
    harness.clock.advance(30)
    harness.on_data(("A", "o1", 2), ("Z", "o2", 1))
    assert _late(harness.ledger.pass_deadlines()) == []
    harness.clock.advance(31)
    assert _late(harness.ledger.pass_deadlines()) == [("C", "o1")]
    assert _late(harness.ledger.pass_deadlines()) == []
    views = LateViews(harness.engine)
    assert views.count() == 1
    (listed,) = views.page(None, 10, None).items
    assert (listed.product, listed.obs_id, listed.state) == ("C", "o1", None)
    assert views.page("B", 10, None).items == []


def test_what_is_made_is_not_late_and_no_longer_so(open_ledger: OpenLedger) -> None:
    harness = open_ledger(_graph(due=60))
    for obs_id in ("early", "late"):
        (request,) = harness.on_data(("A", obs_id, 1))
        harness.report(request, State.SUCCEEDED)
        harness.on_data(("B", obs_id, 1))
    harness.on_data(("C", "early", 1))
    harness.clock.advance(61)
    assert _late(harness.ledger.pass_deadlines()) == [("C", "late")]
    harness.on_data(("C", "late", 1))
    assert LateViews(harness.engine).count() == 0
    # Its inputs again: it is available, and has no deadline any more.
    harness.on_data(("A", "late", 2))
    harness.clock.advance(61)
    assert _late(harness.ledger.pass_deadlines()) == []


def test_of_several_times_of_events_the_earliest_counts_in_any_order(
    open_ledger: OpenLedger,
) -> None:
    harness = open_ledger(_graph(due=60, due_from="event_time"))
    now = harness.clock.now
    for version, earlier_s in enumerate((10, 40, 20), start=1):
        harness.take([Arrival("A", "o1", version, event_time=now - earlier_s)], NOTHING)
    harness.clock.advance(19)
    assert _late(harness.ledger.pass_deadlines()) == []
    harness.clock.advance(2)
    assert _late(harness.ledger.pass_deadlines()) == [("C", "o1")]


def test_what_waits_is_cancelled_when_it_expires_and_what_runs_may_end(
    open_ledger: OpenLedger,
) -> None:
    products: dict[str, dict[str, object]] = {"B": {"m_input": ["A"], "expires": 60}}
    harness = open_ledger(graph_of(["A"], products, {"maker": {"max_concurrent": 1}}))
    harness.on_data(("A", "busy", 1))
    harness.on_data(("A", "o1", 1))
    harness.clock.advance(61)
    (cancelled,) = harness.ledger.pass_deadlines().cancelled
    assert (cancelled.obs_id, cancelled.state) == ("o1", State.CANCELLED)
    assert cancelled.error == "B has expired: it was not made within 60 s of its first input"
    assert harness.ledger.pass_deadlines().cancelled == []
    assert harness.due() == []
    states = {each.obs_id: each.state for each in harness.views.processings({}, 10, None).items}
    assert states == {"busy": State.REQUESTED, "o1": State.CANCELLED}


def test_what_has_expired_is_not_claimed_any_more_and_its_event_says_why(
    open_ledger: OpenLedger,
) -> None:
    graph = _graph(expires=60)
    harness = open_ledger(graph)
    (request,) = harness.on_data(("A", "o1", 1))
    harness.report(request, State.SUCCEEDED)
    # Before anybody has looked at the clock.
    harness.clock.advance(61)
    heard = HeardEvent(id="e1", source="sdb", received=1.0, sequence=1, product="B", obs_id="o1")
    assert harness.take([Arrival("B", "o1", 1)], UNLIMITED, [heard]) == []
    event = EventViews(harness.engine, graph, harness.views).find("e1")
    assert event is not None
    assert (event.outcome, event.reason) == (
        Outcome.IGNORED,
        "C has expired: it was not made within 60 s of its first input",
    )


def test_what_waited_for_a_product_that_expires_is_made_without_it(
    open_ledger: OpenLedger,
) -> None:
    products: dict[str, dict[str, object]] = {
        "B": {"m_input": ["A"], "expires": 60, "provider": "slow"},
        "R": {"m_input": ["A"], "o_input": ["B"], "o_wait": 600},
    }
    harness = open_ledger(graph_of(["A"], products, {"slow": {"max_concurrent": 1}}))
    harness.on_data(("A", "busy", 1))
    harness.on_data(("A", "o1", 1))
    harness.clock.advance(61)
    harness.ledger.pass_deadlines()
    made = {(each.product, each.obs_id) for each in harness.ledger.take_due(UNLIMITED)}
    assert made == {("R", "o1")}


def test_what_is_late_is_listed_page_by_page_that_first_which_was_due_first(
    open_ledger: OpenLedger,
) -> None:
    harness = open_ledger(_graph(due=60))
    for number in range(5):
        harness.on_data(*(("A", f"o{number}{letter}", 1) for letter in "ab"))
        harness.clock.advance(1)
    harness.clock.advance(60)
    harness.ledger.pass_deadlines()
    views, cursor = LateViews(harness.engine), None
    listed: list[str] = []
    while len(listed) < 10:
        page = views.page(None, 3, cursor)
        listed += [each.obs_id for each in page.items]
        cursor = page.next
    assert listed == [f"o{number}{letter}" for number in range(5) for letter in "ab"]
    assert cursor is None
    for wrong in ("-1", "1.0_x", "1.0_a/b/c", "x_a/b"):
        with pytest.raises(ValueError, match=r"\w"):
            views.page(None, 3, wrong)


def test_why_tells_the_deadline(open_ledger: OpenLedger) -> None:
    graph = _graph(due=60, expires=90)
    harness = open_ledger(graph)
    events = EventViews(harness.engine, graph, harness.views)
    why = WhyViews(events, LateViews(harness.engine))
    harness.on_data(("A", "o1", 1))
    told = []
    for advance_s in (0, 61, 30):
        harness.clock.advance(advance_s)
        harness.ledger.pass_deadlines()
        told.append(why.why("C", "o1").words[1].split(" at ")[0].strip())
    assert told == ["due", "late: it was due", "has expired"]
    assert why.why("B", "o1").deadline is None


def test_a_graph_without_deadlines_records_none(open_ledger: OpenLedger) -> None:
    harness = open_ledger(_graph())
    harness.on_data(("A", "o1", 1))
    harness.clock.advance(1e6)
    passed = harness.ledger.pass_deadlines()
    assert (passed.late, passed.cancelled, passed.more) == ([], [], False)
