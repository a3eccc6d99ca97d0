"""What `why` tells of a processing: each of its attempts, with its times."""

from batuta.conductor.database.views.event_views import EventViews
from batuta.conductor.database.views.late_views import LateViews
from batuta.conductor.database.views.why_views import WhyViews
from batuta.messaging import ProcessingState as State
from batuta.service.operators import Operator
from tests.conductor.graphs import graph_of
from tests.conductor.harness import Harness, OpenLedger

GRAPH = graph_of(["A"], {"B": {"m_input": ["A"], "max_attempts": 3}})


def _told(harness: Harness) -> list[tuple[float, str]]:
    """What happened at the provider: when, after the start of the test, and what."""
    events = EventViews(harness.engine, harness.graph, harness.views)
    why = WhyViews(events, LateViews(harness.engine)).why("B", "o1")
    kinds = ("requested from", "attempt", "succeeded", "failed")
    return [
        (each.time.timestamp(), each.what) for each in why.history if each.what.startswith(kinds)
    ]


def _fail(harness: Harness) -> tuple[float, float, float]:
    """Request what is due, start it and let it fail; return the times of the three."""
    start = harness.clock()
    (request,) = harness.take_due()
    harness.clock.advance(10)
    harness.report(request, State.RUNNING, started=harness.clock())
    harness.clock.advance(20)
    harness.report(request, State.FAILED, error="no luck")
    harness.clock.advance(1000)
    return start, start + 10, start + 30


def test_each_attempt_is_told_with_its_times(open_ledger: OpenLedger) -> None:
    harness = open_ledger(GRAPH)
    harness.hold("maker")
    harness.on_data(("A", "o1", 1))
    harness.release("maker")
    first, second = _fail(harness), _fail(harness)
    (request,) = harness.take_due()
    harness.report(request, State.SUCCEEDED)
    told = _told(harness)
    of_first = [
        (first[0], "requested from maker, attempt 1 of 3"),
        (first[1], "attempt 1 of 3 started"),
        (first[2], "attempt 1 failed: retrying: no luck"),
    ]
    assert told[:3] == of_first
    assert [when for when, _ in told[3:6]] == [*second]
    assert told[3][1].startswith("requested from maker, attempt 2 of 3")
    assert told[6][1].startswith("requested from maker, attempt 3 of 3")
    assert len([what for _, what in told if what.startswith("requested")]) == 3


def test_the_times_of_attempts_are_kept_when_it_is_retried(
    open_ledger: OpenLedger,
) -> None:
    harness = open_ledger(GRAPH)
    harness.hold("maker")
    harness.on_data(("A", "o1", 1))
    harness.release("maker")
    failed = [_fail(harness) for _ in range(3)]
    (row,) = harness.views.why("B", "o1").processings
    harness.ledger.operations.retry(row.id, None, Operator("ana"))
    requested = [(when, what) for when, what in _told(harness) if what.startswith("requested")]
    assert [when for when, _ in requested] == [times[0] for times in failed]
    for number, (_, what) in enumerate(requested, 1):
        assert what.startswith(f"requested from maker, attempt {number} of 6")
    harness.take_due()
    assert len([what for _, what in _told(harness) if what.startswith("requested")]) == 4
