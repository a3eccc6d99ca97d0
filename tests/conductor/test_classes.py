"""Classes of work: where they come from, what inherits them, and what they change."""

import pytest

from batuta.conductor.database.requests.slots import Capacity
from batuta.conductor.decisions.rules import Arrival
from batuta.graph import Graph
from batuta.messaging import ProcessingState as State
from batuta.work_classes import WorkClass
from tests.conductor.graphs import diamond, graph_of
from tests.conductor.harness import UNLIMITED, Harness, OpenLedger

ALERT, LIVE, REPROCESS, BACKFILL = WorkClass


def classes(harness: Harness) -> dict[str, str]:
    """The class of each product's newest processing, as REST shows it."""
    items = harness.views.processings({}, 1000, None).items
    return {item.product: item.model_dump(by_alias=True)["class"] for item in reversed(items)}


def backlog(number: int, **provider: object) -> Graph:
    return graph_of(
        ["A"], {"B": {"m_input": ["A"]}}, {"maker": {"max_concurrent": number, **provider}}
    )


def of_class(work_class: WorkClass | None, first: int, number: int) -> list[Arrival]:
    return [
        Arrival("A", f"o{each}", 1, told_class=work_class) for each in range(first, first + number)
    ]


def test_what_follows_from_an_alert_is_alert(open_ledger: OpenLedger) -> None:
    harness = open_ledger(diamond())
    for request in harness.take(of_class(ALERT, 0, 1), UNLIMITED):
        harness.make(request, request.product, 1)
    assert classes(harness) == {"B": ALERT, "C": ALERT, "D": ALERT}


def test_a_class_of_the_graph_is_inherited_until_another_is_stated() -> None:
    graph = graph_of(
        ["A"],
        {
            "B": {"m_input": ["A"], "class": "alert"},
            "C": {"m_input": ["B"]},
            "D": {"m_input": ["C"], "class": "backfill"},
            "E": {"m_input": ["C", "D"]},
            "F": {"m_input": ["A"]},
        },
    )
    found = {name: product.work_class for name, product in graph.products.items()}
    assert found == {"B": ALERT, "C": ALERT, "D": BACKFILL, "E": ALERT, "F": LIVE}
    assert Graph.parse(graph.as_document()) == graph


def test_what_an_event_tells_overrides_the_graph(open_ledger: OpenLedger) -> None:
    harness = open_ledger(graph_of(["A"], {"B": {"m_input": ["A"], "class": "alert"}}))
    harness.take(of_class(BACKFILL, 0, 1), UNLIMITED)
    assert classes(harness) == {"B": BACKFILL}


def test_an_order_of_a_class_makes_what_follows_of_that_class(open_ledger: OpenLedger) -> None:
    harness = open_ledger(diamond(on_update="reprocess"))
    for request in harness.take(of_class(ALERT, 0, 1), UNLIMITED):
        harness.make(request, request.product, 1)
    harness.clock.advance(1)
    harness.ledger.operations.make("B", "o0", BACKFILL)
    (request,) = [each for each in harness.ledger.take_due(UNLIMITED) if each.product == "B"]
    harness.make(request, "B", 2)
    assert classes(harness) == {"B": BACKFILL, "C": ALERT, "D": BACKFILL}


def test_an_alert_overtakes_a_backlog_that_is_shared_out_by_weight(
    open_ledger: OpenLedger,
) -> None:
    harness = open_ledger(backlog(1))
    (running,) = harness.take(of_class(BACKFILL, 0, 200), UNLIMITED)
    harness.take(of_class(ALERT, 1000, 200), UNLIMITED)
    order = []
    for _ in range(130):
        harness.report(running, State.SUCCEEDED)
        (running,) = harness.ledger.take_due(UNLIMITED)
        order.append(len(running.obs_id) == len("o1000"))
    assert order[0]
    # 64 to 1, as documented: the backfill never stops.
    assert order.count(False) == 2


@pytest.mark.parametrize("waiting", [ALERT, LIVE])
def test_a_backfill_leaves_slots_of_a_provider_free(
    open_ledger: OpenLedger, waiting: WorkClass
) -> None:
    harness = open_ledger(backlog(4, max_concurrent_by_class={"backfill": 3}))
    assert len(harness.take(of_class(BACKFILL, 0, 10), UNLIMITED)) == 3
    assert len(harness.take(of_class(waiting, 100, 10), UNLIMITED)) == 1


def test_what_one_provider_has_too_much_of_hides_nothing_of_another(
    open_ledger: OpenLedger,
) -> None:
    graph = graph_of(
        ["A", "Z"],
        {"B": {"m_input": ["A"]}, "Y": {"m_input": ["Z"], "provider": "other"}},
        {"maker": {"max_concurrent": 2}, "other": {"max_concurrent": 1}},
    )
    harness = open_ledger(graph)
    harness.hold(None)
    harness.take(of_class(BACKFILL, 0, 50), UNLIMITED)
    harness.take([Arrival("Z", "o1", 1, told_class=BACKFILL)], UNLIMITED)
    harness.release(None)
    taken = harness.ledger.take_due(Capacity(total=256))
    assert sorted(each.product for each in taken) == ["B", "B", "Y"]
