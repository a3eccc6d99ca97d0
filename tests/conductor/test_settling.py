"""What a graph that is put in force does to what waits, runs and was never asked for."""

import pytest

from batuta.conductor.database.graphs import settling
from batuta.conductor.database.graphs.graph_preview import GraphPreview, PreviewCounter
from batuta.conductor.database.requests.due_requests import DueRequest
from batuta.conductor.database.views.event_views import EventViews
from batuta.conductor.database.views.late_views import LateViews
from batuta.conductor.database.views.why_views import WhyViews
from batuta.conductor.decisions.causes import Situation
from batuta.conductor.decisions.rules import Arrival
from batuta.graph import Graph
from batuta.messaging import ProcessingState as State
from batuta.service.operators import Operator
from tests.conductor.graphs import graph_of
from tests.conductor.harness import NOTHING, Harness, OpenLedger

ANA = Operator("ana", proved=True)
ONE = graph_of(["A", "X"], {"B": {"m_input": ["A"]}, "C": {"m_input": ["B"]}})
WITHOUT_B = graph_of(["A", "X"], {"D": {"m_input": ["X"]}})
B_OF_TWO = graph_of(["A", "X"], {"B": {"m_input": ["A", "X"]}, "C": {"m_input": ["B"]}})
MORE = graph_of(
    ["A", "X"], {"B": {"m_input": ["A"]}, "C": {"m_input": ["B"]}, "E": {"m_input": ["A"]}}
)


def apply(harness: Harness, graph: Graph, *, settled: bool = True) -> int:
    number = harness.versions.apply(graph, ANA).version.number
    if settled:
        settle(harness)
    return number


def settle(harness: Harness) -> None:
    """Settle the version in force, as the conductor does in the background."""
    found = harness.versions.unsettled()
    after = None if found is None else found.after
    while found is not None and after is not None:
        after = harness.ledger.settle(found.number, after, found.work_class)


def states(harness: Harness) -> dict[str, str]:
    items = harness.views.processings({}, 1000, None).items
    return {f"{each.product}/{each.obs_id}": each.state.value for each in items}


def wait(harness: Harness, *observations: str) -> None:
    """Let B be claimed for observations without being requested."""
    harness.take([Arrival("A", obs_id, 1) for obs_id in observations], NOTHING)


def requested(harness: Harness) -> list[DueRequest]:
    return harness.on_data()


def test_what_waits_and_is_not_in_the_graph_any_more_is_set_aside_and_goes_on_with_the_way_back(
    open_ledger: OpenLedger,
) -> None:
    harness = open_ledger(ONE)
    wait(harness, "o1")
    harness.clock.advance(1)
    assert apply(harness, WITHOUT_B) == 2
    assert states(harness) == {"B/o1": "cancelled"}
    (found,) = harness.views.processings({}, 10, None).items
    assert found.error == "B is not in version 2 of the graph"
    assert found.graph_version == 2
    why = WhyViews(
        EventViews(harness.engine, harness.current, harness.views), LateViews(harness.engine)
    ).why("B", "o1")
    assert [each.what for each in why.history] == [
        "claimed without an event, from A v1",
        f"set aside: {found.error}",
    ]
    assert why.cause.situation is Situation.SET_ASIDE
    assert "a version of the graph that makes it" in why.needs[0]
    assert apply(harness, ONE) == 3
    (request,) = requested(harness)
    assert (request.processing_id, request.product) == (found.id, "B")
    assert harness.error(request) is None


def test_what_runs_is_followed_to_its_end_by_whatever_graph(open_ledger: OpenLedger) -> None:
    harness = open_ledger(ONE)
    (request,) = harness.on_data(("A", "o1", 1))
    apply(harness, WITHOUT_B)
    harness.report(request, State.RUNNING)
    assert harness.state(request) is State.RUNNING
    assert harness.make(request, "B", 1) == []
    assert harness.state(request) is State.SUCCEEDED
    # And what follows from it is made, with the way back.
    apply(harness, ONE)
    assert [each.product for each in requested(harness)] == ["C"]


@pytest.mark.parametrize(
    ("graph", "asked_for"),
    [
        (WITHOUT_B, []),
        (B_OF_TWO, []),
        (graph_of(["A"], {"B": {"m_input": ["A"], "provider": "other"}}), ["other", "other"]),
    ],
)
def test_nothing_is_requested_by_a_graph_that_is_not_in_force_any_more(
    open_ledger: OpenLedger, graph: Graph, asked_for: list[str]
) -> None:
    harness = open_ledger(ONE)
    wait(harness, "o1", "o2")
    apply(harness, graph, settled=False)
    assert [each.provider for each in requested(harness)] == asked_for


def test_what_lacks_an_input_of_the_new_graph_goes_on_when_it_arrives(
    open_ledger: OpenLedger,
) -> None:
    harness = open_ledger(ONE)
    wait(harness, "o1")
    apply(harness, B_OF_TWO)
    (found,) = harness.views.processings({}, 10, None).items
    assert found.error == "version 2 of the graph makes B from what is not available: X"
    (request,) = harness.on_data(("X", "o1", 3))
    assert request.processing_id == found.id
    after = harness.views.processing(found.id)
    assert after is not None
    assert (after.inputs, after.error, after.graph_version) == ({"A": 1, "X": 3}, None, 2)


def test_what_was_never_asked_for_is_started_once_and_what_ended_stays(
    open_ledger: OpenLedger,
) -> None:
    harness = open_ledger(ONE)
    first, second, third = harness.on_data(("A", "o1", 1), ("A", "o2", 1), ("A", "o3", 1))
    harness.ledger.operations.cancel(second.processing_id, "not wanted")
    harness.make(first, "B", 1)
    apply(harness, MORE)
    found = states(harness)
    assert {name for name, state in found.items() if name.startswith("E")} == {
        "E/o1",
        "E/o2",
        "E/o3",
    }
    assert found["B/o2"] == "cancelled"
    assert third.product == "B"
    before = len(harness.views.processings({}, 100, None).items)
    apply(harness, ONE)
    apply(harness, MORE)
    assert len(harness.views.processings({}, 100, None).items) == before


def test_what_is_started_has_the_class_that_was_told_and_waits_where_it_is_held(
    open_ledger: OpenLedger,
) -> None:
    harness = open_ledger(ONE)
    harness.on_data(("A", "o1", 1))
    harness.hold()
    harness.versions.apply(MORE, ANA, work_class="backfill")  # type: ignore[arg-type]  # a value
    settle(harness)
    (found,) = harness.views.processings({"product": "E"}, 10, None).items
    assert (found.state, found.work_class) == (State.HELD, "backfill")


def test_a_version_is_settled_from_where_a_kill_left_it(
    open_ledger: OpenLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    harness = open_ledger(ONE)
    names = [f"o{number:03}" for number in range(250)]
    harness.take([Arrival("X", name, 1) for name in names], NOTHING)
    apply(harness, WITHOUT_B, settled=False)
    harness.ledger.settle(2, "", None)
    assert sum(name.startswith("D") for name in states(harness)) == settling.OBSERVATIONS
    again = open_ledger(ONE)
    unsettled = again.versions.unsettled()
    assert unsettled is not None
    assert (unsettled.number, unsettled.after) == (2, names[settling.OBSERVATIONS - 1])
    settle(again)
    assert sum(name.startswith("D") for name in states(again)) == len(names)
    assert again.versions.unsettled() is None


def test_a_page_that_is_not_committed_is_settled_again(open_ledger: OpenLedger) -> None:
    harness = open_ledger(ONE)
    harness.on_data(("X", "o1", 1))
    apply(harness, WITHOUT_B, settled=False)
    # A version that came meanwhile is settled, and not the one before.
    apply(harness, MORE, settled=False)
    assert harness.ledger.settle(2, "", None) is None
    assert states(harness) == {}
    settle(harness)
    assert [each.settled is not None for each in harness.versions.page(9, None).items] == [True] * 3


def test_what_has_expired_by_the_time_of_its_inputs_is_not_started(
    open_ledger: OpenLedger,
) -> None:
    harness = open_ledger(ONE)
    harness.on_data(("X", "old", 1))
    harness.clock.advance(100)
    harness.on_data(("X", "new", 1))
    apply(harness, graph_of(["X"], {"D": {"m_input": ["X"], "expires": 60}}))
    assert states(harness) == {"D/new": "waiting"}
    harness.clock.advance(100)
    # Without the deadline, nothing expires any more.
    apply(harness, WITHOUT_B)
    assert harness.ledger.pass_deadlines().cancelled == []
    assert states(harness) == {"D/new": "waiting", "D/old": "waiting"}


def preview(harness: Harness, graph: Graph) -> GraphPreview:
    counter = PreviewCounter(harness.engine, harness.current.graph, graph, {})
    after: str | None = ""
    while after is not None:
        after = counter.count_page(after)
    return counter.result(harness.current.number, harness.current.graph)


@pytest.mark.parametrize("graph", [WITHOUT_B, B_OF_TWO, MORE, ONE])
def test_a_preview_counts_what_is_done_then(open_ledger: OpenLedger, graph: Graph) -> None:
    harness = open_ledger(ONE)
    (running,) = harness.on_data(("A", "running", 1))
    (made,) = harness.on_data(("A", "made", 1))
    harness.make(made, "B", 1)
    wait(harness, "waits", "both")
    harness.take([Arrival("X", "both", 1), Arrival("X", "alone", 1)], NOTHING)
    before = states(harness)
    expected = preview(harness, graph)
    assert states(harness) == before
    apply(harness, graph)
    after = states(harness)
    started = [name.split("/")[0] for name in after if name not in before]
    gone = [name.split("/")[0] for name in before if (before[name], after[name]) in _SET_ASIDE]
    counts = expected.counts
    assert sum(counts.starts.values()) == len(started)
    assert counts.starts == {name: started.count(name) for name in set(started)}
    orphans = {name: each.set_aside for name, each in counts.orphans.items() if each.set_aside}
    assert {**counts.set_aside, **orphans} == {name: gone.count(name) for name in set(gone)}
    assert sum(each.followed for each in counts.orphans.values()) == 2 * (graph is WITHOUT_B)
    assert harness.state(running) is State.REQUESTED
    assert counts.observations == 5
    # The way back continues what was set aside.
    assert preview(harness, ONE).counts.continues == {name: gone.count(name) for name in set(gone)}


_SET_ASIDE = {("waiting", "cancelled")}
