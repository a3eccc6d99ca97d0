"""Two conductors that share one PostgreSQL, whichever is given an order: nothing is done twice."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest

from batuta.cli.app import run
from tests.conductor.graphs import diamond
from tests.conductor.stage import Stage, get
from tests.support.databases import new_postgresql_database
from tests.support.services import ServiceProcess
from tests.support.waiting import eventually_sync

OBSERVATIONS = [f"o{number:02}" for number in range(12)]
SOME = [each for each in OBSERVATIONS if each.startswith("o0")]
PATIENCE_S = 60.0
"""For several services beside other tests on a small machine."""
GRAPH = diamond(on_update="reprocess")


@dataclass
class Pair:
    """Two conductors of one database, and the commands that they are given."""

    stage: Stage
    urls: tuple[str, str]

    def command(self, conductor: int, *words: str) -> None:
        """Run a command against one of them."""
        assert run([*words, "--conductor-url", self.urls[conductor]]) == 0

    def told_by_both(self, path: str, holds: Callable[[Any], bool]) -> None:
        """Wait until both say what is expected."""
        for url in self.urls:
            eventually_sync(partial(_says, url, path, holds), PATIENCE_S)

    def made(self) -> Counter[str]:
        """How many versions the sdb holds of each product."""
        return Counter(product for product, _, _ in self.stage.archived())


def _says(url: str, path: str, holds: Callable[[Any], bool]) -> bool:
    return holds(get(url, path))


@pytest.fixture
def pair(stage: Stage, postgresql_server: str) -> Iterator[Pair]:
    """Two conductors in processes of their own, which have made all of what arrived."""
    # A request that is under way is not known to be so by the other, which would repeat it.
    settings = stage.settings(
        GRAPH, database_url=new_postgresql_database(postgresql_server), ask_after_s=PATIENCE_S
    )
    conductors = [ServiceProcess("batuta.conductor:run", settings) for _ in range(2)]
    try:
        pair = Pair(stage, (conductors[0].start(), conductors[1].start()))
        stage.announce("A", *OBSERVATIONS)
        pair.told_by_both(
            "/summary", lambda told: told["processings"] == {"succeeded": 3 * len(OBSERVATIONS)}
        )
        yield pair
    finally:
        for each in conductors:
            each.kill()


def test_a_campaign_a_hold_and_sets_of_orders_do_nothing_twice(pair: Pair) -> None:
    assert pair.made() == dict.fromkeys("BCD", len(OBSERVATIONS))
    # C is held by one, and the campaign is planned by it and started by the other.
    pair.command(0, "hold", "--product", "C", "--reason", "new darks")
    pair.command(0, "campaign", "plan", "--product", "B", "--product", "C")
    pair.command(1, "campaign", "start", "1")
    held = {"succeeded": 4 * len(OBSERVATIONS), "held": len(OBSERVATIONS)}
    pair.told_by_both("/summary", lambda told: told["processings"] == held)
    pair.told_by_both("/campaigns/1", lambda told: told["progress"]["made"] == len(OBSERVATIONS))

    # Some of what is held is cancelled by one and retried by the other: held again.
    pair.command(1, "cancel", "--product", "C", "--obs-id", "o0*", "--state", "held", "--yes")
    cancelled = lambda told: told["processings"].get("cancelled") == len(SOME)  # noqa: E731
    pair.told_by_both("/summary", cancelled)
    pair.told_by_both("/campaigns/1", lambda told: told["progress"]["cancelled"] == len(SOME))
    pair.command(0, "retry", "--product", "C", "--obs-id", "o0*", "--state", "cancelled", "--yes")
    pair.told_by_both("/summary", lambda told: told["processings"] == held)

    # Let go at a rate, each of them looking after it.
    pair.command(1, "release", "--product", "C", "--rate", "20/s")
    pair.told_by_both("/campaigns/1", lambda told: told["state"] == "done")
    all_made = {"succeeded": 6 * len(OBSERVATIONS)}
    pair.told_by_both("/summary", lambda told: told["processings"] == all_made)
    assert pair.made() == dict.fromkeys("BCD", 2 * len(OBSERVATIONS))
    report = get(pair.urls[0], "/campaigns/1/report")["progress"]
    expected = {"made": 3 * len(OBSERVATIONS) - 2 * len(SOME), "cancelled": len(SOME)}
    assert {name: report[name] for name in expected} == expected
    assert report["skipped"] == len(SOME), "D of these was left to the graph"
    sent = Counter(each["processing_id"] for each in pair.stage.pipeline.requests)
    assert sent == dict.fromkeys(pair.stage.pipeline.processings, 1)
    orders = [each["command"] for each in get(pair.urls[0], "/orders")["items"]]
    assert Counter(orders) == Counter(
        ["hold", "campaign plan", "campaign start", "cancel", "retry", "release"]
    )
    for path in ("/holds", "/campaigns?state=running"):
        assert get(pair.urls[1], path)["items"] == []
