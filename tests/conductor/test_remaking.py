"""Campaigns and new graphs wait for what is being made: each product once, from what is new."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batuta.conductor.database.requests.due_requests import DueRequest
from batuta.conductor.database.views.campaign_views import CampaignReport
from batuta.conductor.decisions.campaigns import CampaignOrder, CampaignScope, CampaignState
from batuta.conductor.decisions.remaking import ProcessingEnd, coming, is_under_way
from batuta.graph import Graph
from batuta.messaging import ProcessingState as State
from tests.conductor.campaign_player import CampaignPlayer, target_of
from tests.conductor.graphs import graph_of
from tests.conductor.harness import UNLIMITED, Harness, OpenLedger
from tests.conductor.test_campaigns import random_graphs
from tests.conductor.test_settling import apply, preview

AGAIN = {"on_update": "reprocess"}


def chain(**keys: object) -> Graph:
    """Three levels: ``A`` feeds ``B``, that feeds ``C``, that feeds ``D``."""
    return graph_of(
        ["A"],
        {
            "B": {"m_input": ["A"], **keys},
            "C": {"m_input": ["B"], **keys},
            "D": {"m_input": ["C"], **keys},
        },
    )


@pytest.mark.parametrize(
    ("graph", "under_way", "available", "expected"),
    [
        (chain(), "", "ABCD", {}),
        (chain(), "B", "A", {"B": "B", "C": "B", "D": "B"}),
        # What is there, and is not made again, is not waited for.
        (chain(), "B", "ABCD", {"B": "B"}),
        (chain(), "B", "ABC", {"B": "B"}),
        (chain(**AGAIN), "B", "ABCD", {"B": "B", "C": "B", "D": "B"}),
        (chain(**AGAIN), "C", "ABCD", {"C": "C", "D": "C"}),
        (chain(**AGAIN), "BD", "ABCD", {"B": "B", "C": "B", "D": "D"}),
        (chain(), "X", "A", {}),
    ],
)
def test_what_is_under_way_and_what_follows_from_it_is_coming(
    graph: Graph, under_way: str, available: str, expected: dict[str, str]
) -> None:
    assert coming(graph, set(under_way), set(available)) == expected


@pytest.mark.parametrize(
    ("state", "heard", "expected"),
    [
        (State.UNAPPROVED, None, True),
        (State.HELD, None, True),
        (State.RUNNING, 5.0, True),
        (State.RETRYING, None, True),
        (State.FAILED, None, False),
        (State.CANCELLED, None, False),
        # Made, and its announcement is on its way; or will not come.
        (State.SUCCEEDED, 5.0, True),
        (State.SUCCEEDED, 11.0, False),
    ],
)
def test_a_version_is_to_come_until_what_has_succeeded_is_announced(
    state: State, heard: float | None, expected: bool
) -> None:
    end = ProcessingEnd(state=state, requested=10.0, ended=20.0, heard=heard)
    assert is_under_way(end, 30.0) is expected
    if state.ended:
        assert not is_under_way(end, 80.0)


# ---------------------------------------------------------------------- campaigns


@pytest.fixture(params=[{}, AGAIN], ids=["ignore", "reprocess"])
def player(request: pytest.FixtureRequest, open_ledger: OpenLedger) -> CampaignPlayer:
    """Three levels, all of them made once."""
    player = CampaignPlayer(open_ledger(chain(**request.param)))
    player.make_all(player.arrive(("A", "o1")))
    return player


def remake(player: CampaignPlayer, product: str) -> DueRequest:
    """Request a product again by hand; return the request, which is under way."""
    player.harness.ledger.operations.make(product, "o1")
    (request,) = player.harness.ledger.take_due(UNLIMITED)
    return request


def inputs(requests: list[DueRequest]) -> list[str]:
    return [f"{each.product}: {each.inputs}" for each in requests]


def start(player: CampaignPlayer, *products: str, **target: CampaignScope) -> int:
    number = player.plan(target_of(*products, **target))
    player.order(number, CampaignOrder.START)
    player.rest(number)
    return number


def test_what_is_made_from_something_that_is_being_made_waits_for_it_and_is_made_once(
    player: CampaignPlayer,
) -> None:
    again = remake(player, "B")
    number = start(player, "C", "D")
    assert player.harness.ledger.take_due(UNLIMITED) == []
    (item,) = player.views.items(number, "awaiting", 10, None).items  # type: ignore[arg-type]  # a value
    assert (item.product, item.reason) == ("C", "B is being made")
    found = player.views.find(number)
    assert found is not None
    assert (found.progress.awaiting, found.progress.open) == (1, 0)
    player.restart()
    assert player.answer(again) == []
    assert inputs(player.run(number)) == ['C: {"B": 2}', 'D: {"C": 2}']
    assert player.harness.views.processings({}, 100, None, stale=True).items == []


def test_what_ends_without_a_version_is_not_waited_for_any_more(player: CampaignPlayer) -> None:
    again = remake(player, "B")
    number = start(player, "C")
    player.answer(again, failed=True)
    assert 'C: {"B": 1}' in inputs(player.run(number))


def test_the_announcement_of_what_has_succeeded_is_waited_for(player: CampaignPlayer) -> None:
    again = remake(player, "B")
    player.harness.clock.advance(1)
    player.harness.report(again, State.SUCCEEDED)
    number = start(player, "C")
    assert player.rest(number) is CampaignState.RUNNING
    assert player.harness.ledger.take_due(UNLIMITED) == []
    assert player.answer(again) == []
    assert inputs(player.run(number))[0] == 'C: {"B": 2}'


def test_a_level_that_will_follow_from_what_is_being_made_is_waited_for(
    open_ledger: OpenLedger,
) -> None:
    player = CampaignPlayer(open_ledger(chain(**AGAIN)))
    player.make_all(player.arrive(("A", "o1")))
    again = remake(player, "B")
    number = start(player, "D")
    # C is made by the graph, of its own; D by the campaign, after it.
    (second,) = player.answer(again)
    assert second.product == "C"
    player.rest(number)
    assert player.answer(second) == []
    assert inputs(player.run(number)) == ['D: {"C": 2}']


def test_a_cancelled_campaign_forgets_what_awaits(player: CampaignPlayer) -> None:
    again = remake(player, "B")
    number = start(player, "C")
    player.order(number, CampaignOrder.CANCEL)
    assert player.rest(number) is CampaignState.CANCELLED
    followed = player.answer(again)
    assert {each.product for each in followed} <= {"C"}, "the graph may make it, once"


def test_what_waits_in_a_campaign_takes_what_has_arrived_before_it_is_requested(
    player: CampaignPlayer,
) -> None:
    player.harness.hold(product="C")
    number = start(player, "C")
    player.harness.on_data()
    again = remake(player, "B")
    assert player.answer(again) == []
    # Announced again, it claims nothing.
    player.announce_again()
    player.harness.release(product="C")
    assert inputs(player.run(number)).count('C: {"B": 2}') == 1
    times = player.harness.views.processings({"product": "C"}, 10, None).items
    assert len(times) == 2, "once before, and once by the campaign"


@pytest.mark.parametrize("scope", [CampaignScope.MISSING, CampaignScope.STALE])
def test_a_campaign_follows_what_is_being_made_already(
    open_ledger: OpenLedger, scope: CampaignScope
) -> None:
    player = CampaignPlayer(open_ledger(chain(**AGAIN)))
    if scope is CampaignScope.STALE:
        player.make_all(player.arrive(("A", "o1")))
    (first,) = player.arrive(("A", "o1"))
    number = start(player, "B", "C", "D", scope=scope)
    assert player.harness.ledger.take_due(UNLIMITED) == [], "B is under way"
    player.restart()
    player.answer(first)
    version = player.versions["B", "o1"]
    made = inputs(player.run(number))
    if scope is CampaignScope.STALE:
        assert made == [f'C: {{"B": {version}}}', 'D: {"C": 2}']
    found = player.views.find(number)
    assert found is not None
    assert found.progress.failed == 0


# ---------------------------------------------------------------------- another graph

TWO = graph_of(["A", "X"], {"B": {"m_input": ["A"]}})
MORE = graph_of(
    ["A", "X"],
    {
        "B": {"m_input": ["A"]},
        "C": {"m_input": ["B"]},
        "D": {"m_input": ["C"]},
        "E": {"m_input": ["A"], "o_input": ["B"], "o_wait": 60},
    },
)


@pytest.fixture
def grown(open_ledger: OpenLedger) -> tuple[CampaignPlayer, DueRequest]:
    """A graph of three levels in force, while the first of them is being made again."""
    player = CampaignPlayer(open_ledger(TWO))
    player.make_all(player.arrive(("A", "o1")))
    again = remake(player, "B")
    counts = preview(player.harness, MORE).counts
    # E is claimed at once, and waits for its optional input.
    assert (counts.starts, counts.follows) == ({"E": 1}, {"C": 1, "D": 1})
    apply(player.harness, MORE)
    return player, again


def test_a_new_graph_makes_what_it_adds_once_from_what_is_being_made(
    grown: tuple[CampaignPlayer, DueRequest],
) -> None:
    player, again = grown
    assert player.harness.ledger.take_due(UNLIMITED) == []
    why = player.harness.views.why("C", "o1")
    assert why.awaits == ["B"]
    requested = player.make_all(player.answer(again))
    assert sorted(inputs(requested)) == ['C: {"B": 2}', 'D: {"C": 1}', 'E: {"A": 1, "B": 2}']
    counted = player.harness.views.processings({}, 100, None).items
    assert len(counted) == 5, "B twice, and each of the others once"


@pytest.mark.parametrize("ending", ["failed", "cancelled"])
def test_a_new_graph_makes_what_it_adds_from_what_is_there_if_that_is_not_made_again(
    grown: tuple[CampaignPlayer, DueRequest], ending: str
) -> None:
    player, again = grown
    if ending == "failed":
        player.answer(again, failed=True)
    else:
        player.harness.ledger.operations.cancel(again.processing_id, "not needed")
    requested = player.make_all(player.harness.ledger.take_due(UNLIMITED))
    assert sorted(inputs(requested)) == ['C: {"B": 1}', 'D: {"C": 1}', 'E: {"A": 1, "B": 1}']


# ---------------------------------------------------------------------- random graphs


@pytest.fixture(scope="module")
def database_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("remaking") / "empty.db"
    Harness(f"sqlite:///{path}", chain()).close()
    return path


@settings(max_examples=15)
@given(data=st.data())
def test_of_any_graph_a_campaign_makes_nothing_while_an_input_is_being_made_and_ends(
    database_file: Path, data: st.DataObject
) -> None:
    graph = data.draw(random_graphs())
    path = database_file.with_name("played.db")
    path.write_bytes(database_file.read_bytes())
    harness = Harness(f"sqlite:///{path}", graph)
    try:
        _play(CampaignPlayer(harness), data)
    finally:
        harness.close()


def _play(player: CampaignPlayer, data: st.DataObject) -> None:
    graph, harness = player.harness.graph, player.harness
    player.make_all(player.arrive(("A", "o1"), ("Z", "o1")))
    names = st.lists(st.sampled_from([*graph.products]), max_size=3, unique=True)
    waiting = [remake(player, name) for name in data.draw(names)]
    number = player.plan(target_of(*data.draw(names)), max_concurrent=data.draw(st.integers(1, 4)))
    if isinstance(player.views.report(number), CampaignReport):
        return
    player.order(number, CampaignOrder.START)
    made: list[str] = []
    state = CampaignState.RUNNING
    while not state.ended or waiting:
        state = player.round(number).state
        for each in harness.ledger.take_due(UNLIMITED):
            found = harness.views.processing(each.processing_id)
            if found is not None and found.campaign == number:
                made.append(each.product)
                under_way = {other.product for other in waiting}
                assert under_way.isdisjoint(graph.products[each.product].sources)
            waiting.append(each)
        if waiting:
            each = waiting.pop(data.draw(st.integers(0, len(waiting) - 1)))
            waiting += player.answer(each, failed=data.draw(st.integers(0, 6)) == 0)
    assert len(made) == len(set(made))
