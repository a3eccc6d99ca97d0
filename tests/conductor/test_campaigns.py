"""Campaigns: what is planned is made, each once, in order, whatever happens meanwhile."""

from collections import Counter
from pathlib import Path

import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st

from batuta.conductor.database.campaign_schema import items, parts
from batuta.conductor.database.campaigns.campaign_parts import contents_of
from batuta.conductor.database.campaigns.campaign_store import (
    PLANNING_TIMEOUT_S,
    CampaignError,
)
from batuta.conductor.database.requests.due_requests import DueRequest
from batuta.conductor.database.requests.slots import Capacity
from batuta.conductor.database.schema import processings
from batuta.conductor.database.views.campaign_views import Campaign, CampaignReport
from batuta.conductor.decisions.campaigns import CampaignOrder, CampaignScope, CampaignState
from batuta.conductor.decisions.differences import Difference, DifferenceKind
from batuta.conductor.decisions.rules import Arrival
from batuta.graph import Graph, OnUpdate
from tests.conductor.campaign_player import CampaignPlayer, target_of
from tests.conductor.graphs import diamond, graph_of
from tests.conductor.harness import NOTHING, UNLIMITED, Harness, OpenLedger

REPROCESS = {"on_update": "reprocess"}


@pytest.fixture
def player(open_ledger: OpenLedger) -> CampaignPlayer:
    return CampaignPlayer(open_ledger(diamond(**REPROCESS)))


def _pairs(requests: list[DueRequest]) -> list[tuple[str, str]]:
    return [(each.product, each.obs_id) for each in requests]


def test_what_is_planned_is_made_once_in_order_though_the_graph_would_remake_it_twice(
    player: CampaignPlayer,
) -> None:
    player.make_all(player.arrive(("A", "o1"), ("A", "o2")))
    number = player.plan(target_of("B", "C"))
    player.order(number, CampaignOrder.START)
    made = _pairs(player.run(number))
    assert sorted(made) == sorted((product, obs) for product in "BCD" for obs in ("o1", "o2"))
    for obs_id in ("o1", "o2"):
        assert made.index(("D", obs_id)) > made.index(("C", obs_id))
        assert made.index(("D", obs_id)) > made.index(("B", obs_id))


@pytest.mark.parametrize("gate", ["before", "after"])
def test_what_waits_for_a_person_takes_no_place_of_what_is_made_at_a_time(
    open_ledger: OpenLedger, gate: str
) -> None:
    graph = graph_of(["A"], {"B": {"m_input": ["A"], "approval": gate, **REPROCESS}})
    player = CampaignPlayer(open_ledger(graph))
    for name in ("o1", "o2", "o3"):
        player.make_all(player.arrive(("A", name)))
    number = player.plan(target_of("B"), max_concurrent=1)
    player.order(number, CampaignOrder.START)
    for _ in range(6):
        player.rest(number)
        for request in player.harness.ledger.take_due(UNLIMITED):
            player.answer(request)
    found = player.views.find(number)
    assert found is not None
    assert (found.progress.open, found.progress.unapproved) == (3, 3)
    assert found.estimated_end is None


def test_a_paused_campaign_begins_nothing_until_it_is_resumed_and_a_cancelled_one_ends(
    player: CampaignPlayer,
) -> None:
    player.make_all(player.arrive(("A", "o1"), ("A", "o2"), ("A", "o3")))
    number = player.plan(target_of("C"), max_concurrent=1)
    graph = player.harness.graph.digest
    player.order(number, CampaignOrder.START)
    player.rest(number)
    (first,) = player.harness.ledger.take_due(UNLIMITED)
    player.store.order(number, CampaignOrder.PAUSE, graph, "the disk is full")
    player.make_all([first])
    player.restart()
    assert player.rest(number) is CampaignState.PAUSED
    assert player.harness.ledger.take_due(UNLIMITED) == []
    assert _campaign(player, number).reason == "the disk is full"

    player.order(number, CampaignOrder.RESUME)
    assert _campaign(player, number).reason is None
    player.rest(number)
    (second,) = player.harness.ledger.take_due(UNLIMITED)
    player.store.order(number, CampaignOrder.CANCEL, graph, "not needed")
    player.make_all([second])
    assert player.rest(number) is CampaignState.CANCELLED
    assert player.harness.ledger.take_due(UNLIMITED) == []
    assert _campaign(player, number).reason == "not needed"
    progress = _campaign(player, number).progress
    # D follows from C: of three observations both were planned.
    assert (progress.total, progress.made, progress.failed) == (6, 2, 0)
    with pytest.raises(CampaignError, match="it has ended"):
        player.order(number, CampaignOrder.RESUME)


@pytest.mark.parametrize(
    ("scope", "planned"),
    [
        (CampaignScope.ALL, {"made", "stale", "failed", "new"}),
        (CampaignScope.MISSING, {"failed", "new"}),
        (CampaignScope.STALE, {"stale"}),
        (CampaignScope.FAILED, {"failed"}),
    ],
)
def test_a_campaign_plans_what_is_missing_stale_or_failed(
    open_ledger: OpenLedger, scope: CampaignScope, planned: set[str]
) -> None:
    player = CampaignPlayer(open_ledger(graph_of(["A"], {"B": {"m_input": ["A"]}})))
    player.make_all(player.arrive(("A", "made"), ("A", "stale")))
    player.make_all(player.arrive(("A", "stale")))
    for request in player.arrive(("A", "failed")):
        player.answer(request, failed=True)
    player.arrive(("A", "new"))
    number = player.plan(target_of("B", scope=scope))
    assert {obs_id for _, obs_id in _planned(player, number)} == planned


def test_a_campaign_of_what_is_stale_plans_what_lists_of_stale_products_have(
    open_ledger: OpenLedger,
) -> None:
    graph = graph_of(
        ["A", "X"],
        {
            "B": {"m_input": ["A"], "o_input": ["X"], "on_late": "improve"},
            "C": {"m_input": ["B"]},
        },
    )
    player = CampaignPlayer(open_ledger(graph))
    harness = player.harness
    everyone = ("newer", "late", "same bytes", "by hand", "withdrawn", "fresh")
    for obs_id in everyone[:3] + everyone[4:]:
        player.make_all(player.arrive(("A", obs_id)))
    player.arrive(("A", "newer"))
    # The conductor holds what is improved: C was made before.
    player.make_all(player.arrive(("X", "late")))
    harness.take([Arrival("A", "same bytes", 2, archived=True, sha256="a")], NOTHING)
    harness.take([Arrival("A", "same bytes", 3, archived=True, sha256="a")], NOTHING)
    harness.take([Arrival("B", "by hand", 1, archived=True)], NOTHING)
    player.arrive(("A", "by hand"))
    lost = Difference(
        kind=DifferenceKind.WITHDRAWN, product="A", obs_id="withdrawn", recorded=1, reason="noise"
    )
    harness.ledger.operations.correct([lost])

    listed = {
        (each.product, each.obs_id)
        for each in harness.views.processings({}, 100, None, stale=True).items
    }
    number = player.plan(target_of("B", "C", scope=CampaignScope.STALE))
    # What lacks its input cannot be made, whether or not it is stale.
    assert _planned(player, number).keys() == listed - {("B", "withdrawn")}
    assert {obs_id for _, obs_id in listed} == {"newer", "late", "same bytes", "withdrawn"}
    named = player.plan(target_of("B", "C", scope=CampaignScope.STALE, names=everyone))
    assert _planned(player, named) == _planned(player, number)


def test_a_plan_that_goes_on_once_it_was_found_silent_is_not_abandoned(
    player: CampaignPlayer,
) -> None:
    store, clock = player.store, player.harness.clock
    number = store.begin_plan(
        {
            "selection": {"products": ["B"], "scope": CampaignScope.ALL.value},
            "graph": player.harness.graph.digest,
            "work_class": "reprocess",
            "max_concurrent": 1000,
        }
    )
    clock.advance(PLANNING_TIMEOUT_S + 1)
    (row,) = store.open_campaigns()
    assert store.is_interrupted(row)
    # Its conductor, which was paused, goes on before another one has given it up.
    assert store.add_parts(number, [])
    store.abandon_plan(number, "interrupted")
    assert [each.state for each in store.open_campaigns()] == [CampaignState.PLANNING]
    clock.advance(PLANNING_TIMEOUT_S + 1)
    store.abandon_plan(number, "interrupted")
    assert store.open_campaigns() == []
    assert not store.add_parts(number, [])


def test_a_plan_that_makes_nothing_has_ended_with_its_report_and_cannot_be_started(
    player: CampaignPlayer,
) -> None:
    player.make_all(player.arrive(("A", "o1")))
    number = player.plan(target_of("B", scope=CampaignScope.MISSING))
    found = _campaign(player, number)
    assert (found.state, found.reason) == (CampaignState.DONE, "nothing is to be made")
    report = player.views.report(number)
    assert isinstance(report, CampaignReport)
    assert (report.started, report.progress.total) == (None, 0)
    with pytest.raises(CampaignError) as refused:
        player.order(number, CampaignOrder.START)
    assert str(refused.value) == (
        f"campaign {number} is done: cannot start it (it has ended: nothing is to be made)"
    )
    assert player.store.open_campaigns() == []


# ---------------------------------------------------------------------- random graphs and sets


@st.composite
def random_graphs(draw: st.DrawFn) -> Graph:
    """A graph of a few products, each made from inputs and products before it."""
    names = ["A", "Z"]
    products: dict[str, dict[str, object]] = {}
    for number in range(draw(st.integers(1, 6))):
        some = draw(st.lists(st.sampled_from(names), min_size=1, max_size=3, unique=True))
        optional = draw(st.integers(0, len(some) - 1))
        products[f"P{number}"] = {
            "m_input": some[optional:],
            "o_input": some[:optional],
            "on_update": draw(st.sampled_from(["ignore", "reprocess"])),
            "on_late": draw(st.sampled_from([None, "improve", "ignore"])),
        }
        names.append(f"P{number}")
    return graph_of(["A", "Z"], products)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("campaigns") / "template.db"
    Harness(f"sqlite:///{path}", diamond()).close()
    return path


@settings(max_examples=25)
@given(data=st.data())
def test_of_any_graph_exactly_the_planned_set_is_made_each_once_in_order(
    template: Path, data: st.DataObject
) -> None:
    graph = data.draw(random_graphs())
    path = template.with_name("played.db")
    path.write_bytes(template.read_bytes())
    harness = Harness(f"sqlite:///{path}", graph)
    try:
        _play(CampaignPlayer(harness), data)
    finally:
        harness.close()


def _play(player: CampaignPlayer, data: st.DataObject) -> None:
    graph = player.harness.graph
    observations = [f"o{number}" for number in range(data.draw(st.integers(1, 3)))]
    for obs_id in observations:
        arrived = data.draw(st.lists(st.sampled_from(["A", "Z"]), max_size=2, unique=True))
        player.make_all(player.arrive(*((product, obs_id) for product in arrived)))
    wanted = data.draw(st.lists(st.sampled_from([*graph.products]), min_size=1, unique=True))
    scope = data.draw(st.sampled_from([CampaignScope.ALL, CampaignScope.MISSING]))
    at_most = data.draw(st.integers(1, 4))
    number = player.plan(target_of(*wanted, scope=scope), max_concurrent=at_most)
    planned = _planned(player, number)
    if not planned:
        assert _campaign(player, number).state is CampaignState.DONE
        return
    player.order(number, CampaignOrder.START)
    requested: list[DueRequest] = []
    waiting: list[DueRequest] = []
    failed: set[tuple[str, str]] = set()
    made: set[tuple[str, str]] = set()
    state = CampaignState.RUNNING
    while not state.ended:
        match data.draw(st.sampled_from(["killed", "announced again", None, None])):
            case "killed":
                player.restart()
            case "announced again":
                player.announce_again()
        state = player.round(number).state
        some = player.harness.ledger.take_due(Capacity(total=1000))
        skipped = _skipped(player, number)
        for each in some:
            sources = set(graph.products[each.product].sources)
            mine = {(source, each.obs_id) for source in sources} & planned.keys()
            assert mine <= made | failed | skipped, "made before its inputs were"
        asked = [each for each in some if (each.product, each.obs_id) not in skipped]
        requested += asked
        waiting += asked
        assert len(waiting) <= at_most
        player.make_all(_by_its_own_rule(graph, some, skipped))
        if waiting:
            each = waiting.pop(data.draw(st.integers(0, len(waiting) - 1)))
            fails = data.draw(st.integers(0, 5)) == 0
            (failed if fails else made).add((each.product, each.obs_id))
            later = player.answer(each, failed=fails)
            requested += later
            waiting += later
    counted = Counter(_pairs(requested))
    assert all(times == 1 for times in counted.values())
    assert counted.keys() <= planned.keys()
    left = planned.keys() - counted.keys()
    assert left == _skipped(player, number), "what was not requested was skipped, and why is told"
    if not failed:
        assert left == set()
    _no_rest(player, number)


def _by_its_own_rule(
    graph: Graph, requests: list[DueRequest], skipped: set[tuple[str, str]]
) -> list[DueRequest]:
    """Those that the campaign has left as they are, and that an announcement starts again.

    Under ``on_update: reprocess``, they are made from the newest versions that there are.
    """
    found = [each for each in requests if (each.product, each.obs_id) in skipped]
    assert all(graph.products[each.product].on_update is OnUpdate.REPROCESS for each in found)
    return found


def _planned(player: CampaignPlayer, number: int) -> dict[tuple[str, str], None]:
    query = sa.select(parts.c.content).where(parts.c.campaign == number)
    with player.harness.engine.connect() as connection:
        found = [contents_of(content) for content in connection.scalars(query)]
    return {
        (product, obs_id): None
        for some in found
        for obs_id, products in some.items()
        for product in products
    }


def _skipped(player: CampaignPlayer, number: int) -> set[tuple[str, str]]:
    query = sa.select(items).where(items.c.campaign == number, items.c.state == "skipped")
    with player.harness.engine.connect() as connection:
        rows = connection.execute(query).all()
    assert all(row.reason for row in rows)
    return {(row.product, row.obs_id) for row in rows}


def _no_rest(player: CampaignPlayer, number: int) -> None:
    unsettled = sa.select(items).where(items.c.state.in_(["blocked", "ready", "open"]))
    unended = sa.select(processings).where(processings.c.state.not_in(["succeeded", "failed"]))
    with player.harness.engine.connect() as connection:
        assert connection.execute(unsettled).all() == []
        assert connection.execute(unended).all() == []


def _campaign(player: CampaignPlayer, number: int) -> Campaign:
    found = player.views.find(number)
    assert found is not None
    return found
