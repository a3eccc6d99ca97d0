"""Gates: what waits for a person, what an answer does, and what becomes of late results."""

from typing import Any

import pytest

from batuta.approval_gates import Gate
from batuta.conductor.database.requests.due_requests import DueRequest
from batuta.conductor.database.views.approval_views import ApprovalView, ApprovalViews
from batuta.conductor.database.views.event_views import EventViews
from batuta.conductor.database.views.late_views import LateViews
from batuta.conductor.database.views.why_views import WhyDetail, WhyViews
from batuta.conductor.decisions.approvals import (
    Maker,
    Question,
    Verdict,
    choose,
    first_state,
    problem_of,
    question_of,
)
from batuta.conductor.decisions.events import Archived
from batuta.conductor.decisions.outcomes import HeardEvent
from batuta.conductor.decisions.rules import Arrival
from batuta.graph import Graph
from batuta.messaging import ProcessingState as State
from batuta.service.operators import Operator
from tests.conductor.graphs import graph_of
from tests.conductor.harness import UNLIMITED, Harness, OpenLedger

ALICE, BOB = Operator("alice", proved=True), Operator("bob@lab")
APPROVE, REFUSE = Verdict.APPROVED, Verdict.REFUSED


def gated(**keys: object) -> Graph:
    """B is made from A and has `keys`; C is made from B."""
    return graph_of(
        ["A"],
        {
            "B": {"m_input": ["A"], "on_update": "reprocess", "max_attempts": 1, **keys},
            "C": {"m_input": ["B"], "on_update": "reprocess"},
        },
    )


BEFORE, AFTER = gated(approval="before"), gated(approval="after")


def waiting(harness: Harness, **filters: str) -> list[tuple[str, str, str]]:
    return [(each.product, each.gate, each.version) for each in listed(harness, **filters)]


def listed(harness: Harness, **filters: str) -> list[ApprovalView]:
    return ApprovalViews(harness.engine).page(filters, 100, None).items


def answer(
    harness: Harness,
    verdict: Verdict,
    version: str | None = None,
    reason: str | None = None,
    obs_id: str = "o1",
) -> str | None:
    return harness.ledger.approvals.answer("B", obs_id, version, verdict, reason, ALICE).problem


def why(harness: Harness, product: str) -> WhyDetail:
    views = WhyViews(
        EventViews(harness.engine, harness.graph, harness.views), LateViews(harness.engine)
    )
    return views.why(product, "o1")


def due(harness: Harness) -> list[DueRequest]:
    return harness.ledger.take_due(UNLIMITED)


# ------------------------------------------------------------------------ before it is made


def test_a_product_is_not_requested_before_a_person_approves_it(open_ledger: OpenLedger) -> None:
    harness = open_ledger(BEFORE)
    assert harness.on_data(("A", "o1", 1)) == []
    assert waiting(harness) == [("B", "before", "A=1")]
    told = why(harness, "B")
    assert told.cause.situation == "waits for approval"
    assert told.needs == ["batuta approve B o1: batuta approvals shows what is asked"]
    assert answer(harness, APPROVE, reason="looks good") is None
    assert harness.due() == ["B"]
    assert waiting(harness) == []
    assert ("operator alice", "approved: looks good") in [
        (each.by, each.what) for each in why(harness, "B").history
    ]


def test_what_waits_is_made_from_the_newest_and_approved_once_for_it(
    open_ledger: OpenLedger,
) -> None:
    harness = open_ledger(BEFORE)
    harness.on_data(("A", "o1", 1))
    harness.clock.advance(1)
    harness.on_data(("A", "o1", 2))
    assert waiting(harness) == [("B", "before", "A=2")]
    assert answer(harness, APPROVE, "A=1") == (
        "B of o1: version A=1 does not wait for approval (A=2 does)"
    )
    assert harness.due() == []
    assert answer(harness, APPROVE, "A=2") is None
    (request,) = due(harness)
    assert harness.views.why("B", "o1").processings[0].inputs == {"A": 2}
    harness.make(request, "B", 1)
    harness.clock.advance(1)
    # A new version asks again.
    harness.on_data(("A", "o1", 3))
    assert waiting(harness) == [("B", "before", "A=3")]


def test_what_waits_is_told_once_however_many_inputs_arrive(open_ledger: OpenLedger) -> None:
    harness = open_ledger(
        graph_of(
            ["A", "X", "Y"],
            {"B": {"m_input": ["A"], "o_input": ["X", "Y"], "approval": "before"}},
        )
    )

    def told(name: str, version: int = 1) -> list[str]:
        arrival = Arrival(name, "o1", version)
        asked = harness.ledger.on_data([arrival], [], UNLIMITED)[1]
        return [each.version for each in asked if isinstance(each, Question)]

    assert told("A") == ["A=1"]
    assert [told("X"), told("A"), told("Y")] == [[], [], []]
    assert waiting(harness) == [("B", "before", "A=1,X=1,Y=1")]
    # What a person may have looked at is not what is asked about any more.
    harness.clock.advance(1)
    assert told("A", 2) == ["A=2,X=1,Y=1"]
    # What was approved, and is asked about again, is told again.
    harness.hold("maker")
    assert answer(harness, APPROVE) is None
    harness.clock.advance(1)
    assert told("X", 2) == ["A=2,X=2,Y=1"]


def test_what_was_approved_and_changes_before_it_is_requested_asks_again(
    open_ledger: OpenLedger,
) -> None:
    harness = open_ledger(BEFORE)
    harness.hold("maker")
    harness.on_data(("A", "o1", 1))
    assert answer(harness, APPROVE) is None
    assert [each.state for each in harness.views.why("B", "o1").processings] == ["held"]
    harness.on_data(("A", "o1", 2))
    harness.release("maker")
    assert harness.due() == []
    assert waiting(harness) == [("B", "before", "A=2")]


def test_a_refused_product_is_not_made_and_asks_again_when_it_is_retried(
    open_ledger: OpenLedger,
) -> None:
    harness = open_ledger(BEFORE)
    harness.on_data(("A", "o1", 1))
    assert answer(harness, REFUSE, reason="bad seeing") is None
    assert harness.due() == []
    told = why(harness, "B")
    assert "B is cancelled" in told.answer
    assert "refused by operator alice: bad seeing" in told.answer
    assert answer(harness, APPROVE, "A=1") == (
        "B of o1: version A=1 was refused by operator alice: bad seeing (batuta retry asks again)"
    )
    harness.ledger.operations.retry(told.processings[0].id)
    assert waiting(harness) == [("B", "before", "A=1")]
    assert answer(harness, APPROVE) is None
    assert harness.due() == ["B"]


def test_what_was_approved_and_failed_is_retried_without_asking(open_ledger: OpenLedger) -> None:
    harness = open_ledger(BEFORE)
    harness.on_data(("A", "o1", 1))
    answer(harness, APPROVE)
    (request,) = due(harness)
    harness.report(request, State.FAILED, error="no")
    harness.ledger.operations.retry(request.processing_id)
    assert harness.due() == ["B"]
    harness.report(due(harness)[0] if harness.due() else request, State.FAILED, attempt=2)
    # Made from another version, it is not what was approved.
    harness.clock.advance(1)
    harness.on_data(("A", "o1", 2))
    assert waiting(harness) == [("B", "before", "A=2")]


def test_an_order_by_hand_is_approved_too(open_ledger: OpenLedger) -> None:
    harness = open_ledger(BEFORE)
    harness.on_data(("A", "o1", 1))
    answer(harness, APPROVE)
    (request,) = due(harness)
    harness.make(request, "B", 1)
    harness.ledger.operations.make("B", "o1")
    assert waiting(harness) == [("B", "before", "A=1")]


def test_what_waits_too_long_expires(open_ledger: OpenLedger) -> None:
    harness = open_ledger(gated(approval="before", expires=60))
    harness.on_data(("A", "o1", 1))
    harness.clock.advance(61)
    assert len(harness.ledger.pass_deadlines().cancelled) == 1
    assert waiting(harness) == []


# ------------------------------------------------------------------------ before its consequences


def make_b(harness: Harness, version: int = 1, source: int = 1) -> list[DueRequest]:
    """Deliver A, and have B made from it."""
    (request,) = harness.on_data(("A", "o1", source))
    heard = HeardEvent(
        id=f"e{version}",
        source="sdb",
        received=float(version),
        sequence=version,
        product="B",
        obs_id="o1",
        version=version,
    )
    made = Archived(
        processing_id=request.processing_id,
        product="B",
        obs_id="o1",
        provider="maker",
        version=version,
    )
    arrival = Arrival("B", "o1", version, archived=True)
    requests, _ = harness.ledger.on_data([arrival], [made], UNLIMITED, [heard])
    return requests


def test_nothing_is_made_from_a_product_before_a_person_approves_it(
    open_ledger: OpenLedger,
) -> None:
    harness = open_ledger(AFTER)
    assert make_b(harness) == []
    assert waiting(harness) == [("B", "after", "1")]
    assert "B is succeeded" in why(harness, "B").answer
    assert why(harness, "B").answer.endswith("version 1 waits for approval")
    of_c = why(harness, "C")
    assert of_c.answer == "C was not made: it lacks B, of which version 1 waits for approval"
    assert of_c.needs == ["batuta approve B o1: batuta approvals shows what is asked"]
    events = EventViews(harness.engine, AFTER, harness.views)
    found = events.find("e1")
    assert found is not None
    assert (found.outcome, found.waiting) == ("waiting", {"C": ["approval of B version 1"]})
    assert answer(harness, APPROVE, "1", "checked") is None
    assert harness.due() == ["C"]
    told = [(each.by, each.what) for each in why(harness, "C").history]
    assert ("operator alice", "B version 1 approved: checked") in told


def test_the_version_before_is_used_until_a_newer_one_is_approved(open_ledger: OpenLedger) -> None:
    harness = open_ledger(AFTER)
    make_b(harness)
    answer(harness, APPROVE)
    (c,) = due(harness)
    harness.make(c, "C", 1)
    make_b(harness, version=2, source=2)
    assert harness.views.why("C", "o1").available["B"] == 1
    assert answer(harness, APPROVE, "1") == "B of o1: version 1 was approved by operator alice"
    assert answer(harness, APPROVE, "2") is None
    assert harness.due() == ["C"]


def test_nothing_is_made_from_a_refused_product_until_it_is_approved_after_all(
    open_ledger: OpenLedger,
) -> None:
    harness = open_ledger(AFTER)
    make_b(harness)
    assert answer(harness, REFUSE, reason="wrong gain") is None
    assert harness.due() == []
    of_c = why(harness, "C")
    assert "of which version 1 was refused by operator alice: wrong gain" in of_c.answer
    assert of_c.cause.lacks[0].situation == "refused"
    assert answer(harness, REFUSE, "1", "again") == (
        "B of o1: version 1 was refused by operator alice: wrong gain"
    )
    assert answer(harness, APPROVE, "1") is None
    assert harness.due() == ["C"]
    assert answer(harness, REFUSE, "1", "no") == (
        "B of o1: version 1 was approved by operator alice (batuta rm withdraws it)"
    )


def test_answers_outlive_a_restart_and_what_is_announced_again(open_ledger: OpenLedger) -> None:
    harness = open_ledger(AFTER)
    make_b(harness)
    harness.close()
    harness = open_ledger(AFTER)
    again = Arrival("B", "o1", 1, archived=True)
    assert harness.take([again], UNLIMITED) == []
    assert waiting(harness) == [("B", "after", "1")]
    answer(harness, REFUSE, reason="no")
    assert harness.take([again], UNLIMITED) == []
    answer(harness, APPROVE, "1")
    assert [each.product for each in harness.take([again], UNLIMITED)] == ["C"]


def test_what_was_available_before_the_graph_asked_stays_so(open_ledger: OpenLedger) -> None:
    harness = open_ledger(gated())
    make_b(harness)
    harness.close()
    harness = open_ledger(AFTER)
    harness.take([Arrival("B", "o1", 1, archived=True)], UNLIMITED)
    assert waiting(harness) == []
    assert harness.views.why("C", "o1").available["B"] == 1


def test_what_people_had_approved_is_asked_again_when_the_database_was_lost(
    open_ledger: OpenLedger,
) -> None:
    harness = open_ledger(AFTER)
    harness.ledger.rebuild([Arrival(name, "o1", 1, archived=True) for name in "AB"])
    assert harness.views.why("C", "o1").available == {"A": 1}
    assert waiting(harness) == [("B", "after", "1")]


# ------------------------------------------------------------------------ late results


def given_up(harness: Harness, how: str) -> DueRequest:
    (request,) = harness.on_data(("A", "o1", 1))
    if how == "cancelled":
        harness.ledger.operations.cancel(request.processing_id, "wrong settings", BOB)
    else:
        harness.report(request, State.FAILED, error="no end after 60 s (timeout)")
    return request


def import_late(harness: Harness, request: DueRequest, *, named: bool = True) -> list[DueRequest]:
    made = Archived(
        processing_id=request.processing_id if named else "its-own-id",
        product="B",
        obs_id="o1",
        provider="maker",
        version=1,
    )
    return harness.take_made([Arrival("B", "o1", 1, archived=True)], [made])


@pytest.mark.parametrize("how", ["cancelled", "failed"])
@pytest.mark.parametrize("named", [True, False])
def test_a_late_result_waits_until_a_person_adopts_it(
    open_ledger: OpenLedger, how: str, named: bool
) -> None:
    harness = open_ledger(gated(late_result="ask"))
    request = given_up(harness, how)
    assert import_late(harness, request, named=named) == []
    assert harness.state(request) == how
    (asked,) = listed(harness)
    assert (asked.gate, asked.processing) == ("late", request.processing_id)
    assert f"is {how}: " in str(asked.detail)
    # What its pipeline reports of it changes nothing either.
    harness.report(request, State.SUCCEEDED)
    assert harness.state(request) == how
    assert answer(harness, APPROVE, "1") is None
    assert harness.state(request) is State.SUCCEEDED
    assert harness.due() == ["C"]


@pytest.mark.parametrize(
    "gate", [{"approval": "before"}, {"approval": "after"}, {"late_result": "ask"}]
)
def test_nothing_of_a_product_that_the_graph_dropped_is_approved_or_adopted(
    open_ledger: OpenLedger, gate: dict[str, str]
) -> None:
    harness = open_ledger(gated(**gate))
    requests = harness.on_data(("A", "o1", 1))
    if "late_result" in gate:
        harness.ledger.operations.cancel(requests[0].processing_id, None)
        import_late(harness, requests[0])
    elif gate["approval"] == "after":
        harness.make(requests[0], "B", 1)
    (asked,) = waiting(harness)
    harness.versions.apply(graph_of(["A"], {"D": {"m_input": ["A"]}}), ALICE)
    assert answer(harness, APPROVE) == (
        "B is not made by version 2 of the graph, now in force (version 2 dropped it; batuta graph "
        "apply --version 1 goes back, or apply a graph that makes it)"
    )
    assert waiting(harness) == [asked]
    assert answer(harness, REFUSE, reason="dropped") is None


def test_a_late_result_that_is_refused_is_not_used(open_ledger: OpenLedger) -> None:
    harness = open_ledger(gated(late_result="ask"))
    request = given_up(harness, "cancelled")
    import_late(harness, request)
    assert answer(harness, REFUSE, reason="wrong settings") is None
    assert harness.state(request) is State.CANCELLED
    assert harness.due() == []


@pytest.mark.parametrize(
    ("keys", "state", "follows"),
    [({}, State.SUCCEEDED, ["C"]), ({"late_result": "refuse"}, State.CANCELLED, [])],
)
def test_a_graph_adopts_late_results_by_itself_or_refuses_them(
    open_ledger: OpenLedger, keys: dict[str, Any], state: State, follows: list[str]
) -> None:
    harness = open_ledger(gated(**keys))
    request = given_up(harness, "cancelled")
    assert [each.product for each in import_late(harness, request)] == follows
    assert harness.state(request) is state
    assert waiting(harness) == []
    if keys:
        # A person may think otherwise.
        assert answer(harness, APPROVE, "1") is None
        assert harness.due() == ["C"]


# ------------------------------------------------------------------------ lists, and bad answers


def test_what_waits_is_listed_by_filters_and_in_pages(open_ledger: OpenLedger) -> None:
    graph = graph_of(
        ["A"],
        {
            "B": {"m_input": ["A"], "approval": "before"},
            "D": {"m_input": ["A"], "approval": "after"},
        },
    )
    harness = open_ledger(graph)
    for number in range(3):
        obs_id = f"o{number}"
        harness.on_data(("A", obs_id, 1))
        harness.take([Arrival("D", obs_id, 1, archived=True)], UNLIMITED)
        harness.clock.advance(1)
    views = ApprovalViews(harness.engine)
    expected = [(name, f"o{number}") for name in "BD" for number in range(3)]
    for limit in (1, 2, 3, 4, 6):
        found, cursor, pages = [], None, 0
        while pages == 0 or cursor is not None:
            page = views.page({}, limit, cursor)
            found += [(each.product, each.obs_id) for each in page.items]
            cursor, pages = page.next, pages + 1
            assert pages < 10
        assert found == expected
    assert waiting(harness, obs_id="o[1]") == []
    assert len(waiting(harness, obs_id="o1")) == 2
    assert len(waiting(harness, product="B*")) == 3
    with pytest.raises(ValueError, match="nowhere"):
        views.page({}, 10, "nowhere:1")


def test_what_waits_at_one_gate_is_listed_alone_however_much_waits_at_others(
    open_ledger: OpenLedger,
) -> None:
    graph = graph_of(
        ["A"],
        {
            "B": {"m_input": ["A"], "late_result": "ask", "max_attempts": 1},
            "D": {"m_input": ["A"], "approval": "after"},
            "E": {"m_input": ["A"], "approval": "before"},
        },
    )
    harness = open_ledger(graph)
    for number in range(3):
        harness.on_data(("A", f"other{number}", 1))
        harness.take([Arrival("D", f"other{number}", 1, archived=True)], UNLIMITED)
    (request,) = [each for each in harness.on_data(("A", "o1", 1)) if each.product == "B"]
    harness.report(request, State.FAILED)
    import_late(harness, request)
    views = ApprovalViews(harness.engine)
    first = views.page({}, 1, None, Gate.LATE)
    assert [(each.product, each.obs_id) for each in first.items] == [("B", "o1")]
    assert first.next is None
    for gate, expected in ((Gate.BEFORE, ["E"] * 4), (Gate.AFTER, ["D"] * 3)):
        found: list[str] = []
        cursor = None
        while not found or cursor is not None:
            page = views.page({}, 2, cursor, gate)
            found += [each.product for each in page.items]
            cursor = page.next
        assert found == expected


DONE_TEXT = "version 1 was approved by operator bob@lab (claimed)"
PENDING = Question(gate=Gate.AFTER, product="B", obs_id="o1", version="2", since=1.0)
DONE = Question(
    gate=Gate.AFTER,
    product="B",
    obs_id="o1",
    version="1",
    since=0.0,
    state=Verdict.APPROVED,
    by="operator bob@lab (claimed)",
)


@pytest.mark.parametrize(
    ("questions", "version", "problem"),
    [
        ([], None, "B: nothing waits for approval"),
        (
            [DONE],
            None,
            f"B: nothing waits for approval: {DONE_TEXT}",
        ),
        ([], "1", "B: version 1 does not wait for approval (nothing does)"),
        ([DONE, PENDING], "3", "B: version 3 does not wait for approval (2 does)"),
        (
            [PENDING, Question(gate=Gate.BEFORE, product="B", obs_id="o1", version="A=1", since=0)],
            None,
            "B: several versions wait: 2, A=1 (state one of them)",
        ),
    ],
)
def test_what_cannot_be_answered_is_told_in_one_line(
    questions: list[Question], version: str | None, problem: str
) -> None:
    assert choose(questions, version, "B") == (None, problem)


def test_the_only_version_that_waits_is_meant_where_none_is_stated() -> None:
    assert choose([DONE, PENDING], None, "B") == (PENDING, "")
    assert problem_of(PENDING, APPROVE, "B") is None
    assert problem_of(DONE, APPROVE, "B") == (
        "B: version 1 was approved by operator bob@lab (claimed)"
    )


def maker(state: State) -> Maker:
    return Maker(id="p1", state=state, error=None)


@pytest.mark.parametrize(
    ("keys", "of", "found"),
    [
        ({}, None, None),
        ({}, maker(State.CANCELLED), None),
        ({"approval": "before"}, maker(State.SUCCEEDED), None),
        ({"approval": "after"}, maker(State.SUCCEEDED), (Gate.AFTER, Verdict.PENDING)),
        ({"approval": "after"}, maker(State.FAILED), (Gate.AFTER, Verdict.PENDING)),
        ({"late_result": "ask"}, maker(State.FAILED), (Gate.LATE, Verdict.PENDING)),
        ({"late_result": "ask"}, maker(State.RETRYING), None),
        ({"late_result": "ask"}, None, None),
        ({"late_result": "refuse"}, maker(State.CANCELLED), (Gate.LATE, Verdict.REFUSED)),
    ],
)
def test_what_is_asked_of_a_new_version(
    keys: dict[str, Any], of: Maker | None, found: tuple[Gate, Verdict] | None
) -> None:
    asked = question_of(gated(**keys).products["B"], of)
    assert (asked[:2] if asked else None) == found


@pytest.mark.parametrize(
    ("graph", "approved", "state"),
    [
        (BEFORE, False, State.UNAPPROVED),
        (BEFORE, True, State.WAITING),
        (AFTER, False, State.WAITING),
    ],
)
def test_a_processing_begins_unapproved_where_its_product_asks_first(
    graph: Graph, approved: bool, state: State
) -> None:
    assert first_state(graph.products["B"], approved=approved) is state
