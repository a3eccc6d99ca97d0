"""What holds keep back, as it is listed and previewed, where something else does too."""

from batuta.conductor.database.views.event_views import EventViews
from batuta.conductor.database.views.hold_views import HoldView, HoldViews
from batuta.conductor.database.views.late_views import LateViews
from batuta.conductor.database.views.why_views import WhyDetail, WhyViews
from batuta.conductor.decisions.approvals import Verdict
from batuta.conductor.decisions.rules import Arrival
from batuta.service.operators import Operator
from tests.conductor.graphs import graph_of
from tests.conductor.harness import UNLIMITED, Harness, OpenLedger

GRAPH = graph_of(["A"], {"B": {"m_input": ["A"], "approval": "before"}, "C": {"m_input": ["A"]}})
ANA = Operator("ana")


def _why(harness: Harness, product: str) -> WhyDetail:
    events = EventViews(harness.engine, harness.graph, harness.views)
    return WhyViews(events, LateViews(harness.engine)).why(product, "o1")


def _counts(held: HoldView) -> tuple[int, int, int]:
    return held.keeps, held.alone, held.unapproved


def test_what_is_not_approved_yet_is_kept_back_and_not_started_by_a_release(
    open_ledger: OpenLedger,
) -> None:
    harness = open_ledger(GRAPH)
    harness.take([Arrival("A", name, 1) for name in ("o1", "o2")], UNLIMITED)
    first, second = harness.hold(product="B"), harness.hold(obs_id="o1")
    views = HoldViews(harness.engine, harness.ledger.holds)
    assert [_counts(each) for each in views.all()] == [(2, 0, 2), (1, 0, 1)]

    preview = views.preview(first.number)
    assert preview is not None
    assert (preview.starts, preview.unapproved, preview.remains) == (0, 2, 0)
    assert (
        harness.ledger.approvals.answer("B", "o2", None, Verdict.APPROVED, None, ANA).problem
        is None
    )
    assert [_counts(each) for each in views.all()] == [(2, 1, 1), (1, 0, 1)]

    harness.release(product="B")
    assert harness.due() == ["B"]
    assert [_counts(each) for each in views.all()] == [(1, 0, 1)]
    assert second.number == views.all()[0].number


def test_why_of_what_is_not_approved_names_the_hold_that_would_keep_it_back_then(
    open_ledger: OpenLedger,
) -> None:
    harness = open_ledger(GRAPH)
    harness.take([Arrival("A", "o1", 1)], UNLIMITED)
    harness.hold(product="B")
    told = _why(harness, "B")
    assert "once approved, held by hold 1 of product B since" in told.answer
    assert "before it is made; then held by hold 1 of product B" in "\n".join(told.words)
    assert told.needs[0].startswith("batuta approve B o1")
    assert told.needs[1] == "then the release of hold 1 of product B: batuta release --hold 1"
    harness.release(product="B")
    assert len(_why(harness, "B").needs) == 1
