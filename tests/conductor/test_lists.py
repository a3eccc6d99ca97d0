"""The filters of lists and of sets: by class, by stage, by campaign, and with what each is read."""

from collections import Counter
from typing import Any

import pytest

from batuta.conductor.database.lists import list_processings
from batuta.conductor.database.operations.order_sets import SetFilters
from batuta.conductor.database.summaries import Counts
from batuta.conductor.decisions.campaigns import CampaignOrder
from batuta.conductor.decisions.rules import Arrival
from batuta.messaging import ProcessingState as State
from batuta.stages import rank_of
from batuta.work_classes import WorkClass
from tests.conductor.campaign_player import CampaignPlayer, target_of
from tests.conductor.graphs import graph_of
from tests.conductor.harness import NOTHING, Harness, OpenLedger

GRAPH = graph_of(["A"], {"B": {"m_input": ["A"]}, "C": {"m_input": ["A"], "class": "backfill"}})


@pytest.fixture
def harness(open_ledger: OpenLedger) -> Harness:
    """Observations of three stages, one of which is an alert; and a campaign of one of them."""
    player = CampaignPlayer(open_ledger(GRAPH))
    player.make_all(player.arrive(("A", "made")))
    number = player.plan(target_of("B"))
    player.order(number, CampaignOrder.START)
    player.rest(number)
    player.harness.take(
        [
            Arrival("A", "early", 1, stage=rank_of("preliminary"), told_class=WorkClass.ALERT),
            Arrival("A", "later", 1, stage=3),
            Arrival("A", "final", 1, stage=rank_of("final")),
        ],
        NOTHING,
    )
    return player.harness


LISTED: list[tuple[dict[str, Any], str]] = [
    ({"work_class": "alert"}, "B/early C/early"),
    ({"work_class": "backfill"}, "C/final C/later C/made"),
    ({"work_class": "reprocess"}, "B/made"),
    ({"work_class": "backfill", "state": "waiting"}, "C/final C/later"),
    ({"work_class": "alert", "product": "B*"}, "B/early"),
    ({"stage": "preliminary"}, "B/early C/early"),
    ({"stage": 3}, "B/later C/later"),
    ({"stage": 4}, ""),
    # What tells no stage is not told to be final.
    ({"stage": "final"}, "B/final C/final"),
    ({"stage": "preliminary", "obs_id": "later"}, ""),
    ({"campaign": 1}, "B/made"),
    ({"campaign": 2}, ""),
    ({"campaign": 1, "state": "waiting", "work_class": "reprocess"}, "B/made"),
    ({"campaign": 1, "obs_id": "m*"}, "B/made"),
]


@pytest.mark.parametrize(("filters", "expected"), LISTED)
def test_processings_are_listed_and_selected_by_class_stage_and_campaign(
    harness: Harness, filters: dict[str, Any], expected: str
) -> None:
    listed = harness.views.processings(filters, 100, None).items
    assert sorted(f"{each.product}/{each.obs_id}" for each in listed) == expected.split()
    columns = {name: value for name, value in filters.items() if name != "state"}
    selected = harness.ledger.order_sets.select(SetFilters(columns=columns, states=list(State)))
    found = sorted(f"{each.product}/{each.obs_id}" for each in selected.first)
    assert set(found) >= set(expected.split())
    if "state" not in filters:
        assert found == expected.split()


@pytest.mark.parametrize(
    ("stage", "expected"),
    [
        (None, "early final later made"),
        ("preliminary", "early"),
        (3, "later"),
        ("final", "final"),
        (7, ""),
    ],
)
def test_observations_are_listed_by_the_stage_of_what_they_have(
    harness: Harness, stage: Any, expected: str
) -> None:
    found = harness.views.observations(100, None, stage=stage).items
    assert [each.obs_id for each in found] == expected.split()


def test_a_page_of_what_a_filter_selects_continues(harness: Harness) -> None:
    first = harness.views.processings({"work_class": "backfill"}, 2, None)
    rest = harness.views.processings({"work_class": "backfill"}, 2, first.next)
    assert len(first.items) == 2
    assert (len(rest.items), rest.next) == (1, None)


@pytest.mark.parametrize(
    ("filters", "number", "selects"),
    [
        ({"work_class": "alert"}, 0, "work_class"),
        ({"work_class": "alert", "product": "B"}, 99_999, "product"),
        ({"work_class": "alert", "product": "B"}, 100_000, "work_class"),
        ({"campaign": 1, "product": "B"}, 4_999, "product"),
        ({"campaign": 1, "product": "B"}, 5_000, "campaign"),
        ({"stage": 3, "work_class": "live", "state": "failed"}, 10**6, "stage"),
        ({"campaign": 1, "obs_id": "o1"}, 10**6, "obs_id"),
        ({"campaign": 1, "product": "B*"}, 10**6, "campaign"),
    ],
)
def test_the_filter_that_few_pass_selects_and_the_others_check(
    filters: dict[str, Any], number: int, selects: str
) -> None:
    counts = Counts(processings=Counter({("B", "maker", "failed"): number}))
    listing = list_processings(filters, counts)
    assert f"{selects} = " in str(listing.selected[-1])
    assert len(listing.checked) == len(filters) - 1
