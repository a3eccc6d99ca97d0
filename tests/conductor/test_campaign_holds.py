"""Holds and pauses of campaigns: neither lets go what the other keeps back."""

from collections.abc import Callable
from typing import Any

import pytest

from batuta.conductor.database.holds.hold_store import PauseError
from batuta.conductor.database.views.hold_views import HoldViews
from batuta.conductor.decisions.campaigns import CampaignOrder, CampaignState
from batuta.conductor.decisions.rules import Arrival
from batuta.messaging import ProcessingState as State
from batuta.service.operators import Operator
from tests.conductor.campaign_player import CampaignPlayer, target_of
from tests.conductor.graphs import TWO_PROVIDERS
from tests.conductor.harness import NOTHING, UNLIMITED, OpenLedger


@pytest.fixture
def player(open_ledger: OpenLedger) -> CampaignPlayer:
    """A campaign that has two processings waiting, beside one that is not its own."""
    player = CampaignPlayer(open_ledger(TWO_PROVIDERS))
    player.make_all(player.arrive(("A", "o1"), ("A", "o2")))
    number = player.plan(target_of("C"))
    player.order(number, CampaignOrder.START)
    player.rest(number)
    player.harness.take([Arrival("A", "o3", 1)], NOTHING)
    return player


def held_by(player: CampaignPlayer) -> dict[str, int | None]:
    found = player.harness.views.processings({"state": "held"}, 100, None).items
    return {f"{each.product}/{each.obs_id}": each.held_by for each in found}


def test_a_campaign_is_held_and_released_and_nothing_else_is(player: CampaignPlayer) -> None:
    held = player.harness.hold(campaign=1)
    assert held_by(player) == {"C/o1": held.number, "C/o2": held.number}
    # What it begins after that is held too, and the rest goes on.
    assert sorted(player.harness.due()) == ["B", "C"]
    views = HoldViews(player.harness.engine, player.harness.ledger.holds)
    preview = views.preview(held.number)
    assert preview is not None
    assert (preview.starts, preview.products, preview.hold.what) == (2, {"C": 2}, "campaign 1")
    player.harness.release(campaign=1)
    assert player.harness.due() == ["C", "C"]


@pytest.mark.parametrize("first", ["pause", "hold"])
@pytest.mark.parametrize("ends_first", ["pause", "hold"])
@pytest.mark.parametrize("scope", [{"campaign": 1}, {"product": "C", "work_class": "reprocess"}])
def test_neither_the_end_of_a_pause_nor_of_a_hold_lets_go_what_the_other_keeps_back(
    player: CampaignPlayer, first: str, ends_first: str, scope: dict[str, Any]
) -> None:
    harness = player.harness
    views = HoldViews(harness.engine, harness.ledger.holds)
    begin: dict[str, Callable[[], object]] = {
        "pause": lambda: player.order(1, CampaignOrder.PAUSE),
        "hold": lambda: harness.hold(**scope),
    }
    end: dict[str, Callable[[], object]] = {
        "pause": lambda: player.order(1, CampaignOrder.RESUME),
        "hold": lambda: harness.release(**scope),
    }
    begin[first]()
    begin[{"pause": "hold", "hold": "pause"}[first]]()
    player.rest(1)
    assert [(each.keeps, each.alone) for each in views.all()] == [(2, 0), (2, 0)]
    end[ends_first]()
    player.rest(1)
    assert sorted(harness.due()) == ["B", "C"]  # of o3 alone
    (left,) = views.all()
    assert (left.keeps, left.alone, left.pause) == (2, 2, ends_first == "hold")
    assert set(held_by(player)) == {"C/o1", "C/o2"}
    end[{"pause": "hold", "hold": "pause"}[ends_first]]()
    player.rest(1)
    assert harness.due() == ["C", "C"]
    assert views.all() == []


def test_what_a_hold_had_kept_back_before_is_requested_once_its_campaign_is_resumed(
    player: CampaignPlayer,
) -> None:
    player.harness.hold("other")
    player.harness.release("other")
    player.order(1, CampaignOrder.PAUSE)
    player.rest(1)
    assert sorted(player.harness.due()) == ["B", "C"]
    player.order(1, CampaignOrder.RESUME)
    assert player.harness.due() == ["C", "C"]


def test_what_is_to_be_tried_again_of_a_paused_campaign_is_not(player: CampaignPlayer) -> None:
    requests = [each for each in player.harness.ledger.take_due(UNLIMITED) if each.obs_id != "o3"]
    player.order(1, CampaignOrder.PAUSE)
    player.harness.report(requests[0], State.FAILED, error="no luck")
    assert player.harness.state(requests[0]) is State.HELD
    player.harness.clock.advance(1000)
    assert player.harness.due() == []
    player.order(1, CampaignOrder.RESUME)
    assert player.harness.due() == ["C"]


def test_the_pause_of_a_campaign_ends_with_it_and_not_by_a_release(player: CampaignPlayer) -> None:
    player.order(1, CampaignOrder.PAUSE)
    (pause,) = player.harness.ledger.holds.open_holds()
    with pytest.raises(PauseError, match=r"campaign 1 \(paused\): batuta campaign resume 1"):
        player.harness.ledger.holds.release(pause.number, Operator("bob"))
    player.order(1, CampaignOrder.CANCEL)
    assert player.rest(1) is CampaignState.CANCELLED
    player.harness.carry_out_holds()
    assert player.harness.ledger.holds.open_holds() == []
    assert sorted(player.harness.due()) == ["B", "C"]
