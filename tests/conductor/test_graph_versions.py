"""Versions of the graph: which is in force, from a start on, after a change, and after a kill."""

import pytest
import sqlalchemy as sa

from batuta.conductor.database.graphs.graph_versions import open_current_graph
from batuta.conductor.decisions.graph_versions import AtStart, graph_at_start
from batuta.graph import Graph
from batuta.service.operators import Operator
from tests.conductor.graphs import graph_of
from tests.conductor.harness import Harness, OpenLedger

ANA, BEN = Operator("ana", proved=True), Operator("ben", proved=True)
ONE = graph_of(["A"], {"B": {"m_input": ["A"]}})
TWO = graph_of(["A"], {"B": {"m_input": ["A"]}, "C": {"m_input": ["A"]}})
THREE = graph_of(["A"], {"C": {"m_input": ["A"]}})


@pytest.mark.parametrize(
    ("file", "last_file", "in_force", "decision"),
    [
        (ONE, None, None, AtStart.FIRST),
        (ONE, ONE, ONE, AtStart.KEPT),
        (ONE, ONE, TWO, AtStart.KEPT),
        (TWO, ONE, TWO, AtStart.KEPT),
        (TWO, ONE, ONE, AtStart.REPLACED),
        (THREE, ONE, TWO, AtStart.REPLACED),
        (THREE, None, TWO, AtStart.REPLACED),
    ],
)
def test_what_was_put_in_force_stays_unless_the_file_was_changed_since_the_last_start(
    file: Graph, last_file: Graph | None, in_force: Graph | None, decision: AtStart
) -> None:
    assert graph_at_start(file, last_file, in_force) is decision


def start(harness: Harness, file: Graph) -> tuple[Graph, int, AtStart]:
    current, decision = open_current_graph(harness.engine, file, "graph.json", harness.clock)
    return current.graph, current.number, decision


def test_a_conductor_starts_with_the_version_that_is_in_force(open_ledger: OpenLedger) -> None:
    harness = open_ledger(ONE)
    assert (harness.current.graph, harness.current.number) == (ONE, 1)
    harness.versions.apply(TWO, ANA, "adds C")
    assert start(harness, ONE) == (TWO, 2, AtStart.KEPT)
    assert start(harness, THREE) == (THREE, 3, AtStart.REPLACED)
    assert start(harness, THREE) == (THREE, 3, AtStart.KEPT)


def test_versions_are_kept_with_who_when_and_why(open_ledger: OpenLedger) -> None:
    harness = open_ledger(ONE)
    assert harness.versions.apply(TWO, ANA, "adds C").version.number == 2
    assert harness.current.graph == TWO
    # What is in force already is no new version.
    assert harness.versions.apply(TWO, BEN).version.by == "operator ana"
    assert harness.versions.apply(ONE, BEN, "back to version 1").version.number == 3
    page = harness.versions.page(2, None)
    assert [(each.number, each.by, each.note, each.in_force) for each in page.items] == [
        (3, "operator ben", "back to version 1", True),
        (2, "operator ana", "adds C", False),
    ]
    assert [each.number for each in harness.versions.page(2, int(page.next or 0)).items] == [1]
    assert [each.settled is None for each in page.items] == [True, True]
    found = harness.versions.find(2)
    assert found is not None
    assert Graph.parse(found.graph) == TWO
    assert harness.versions.find(9) is None


def test_each_processing_names_the_version_that_decided_it(open_ledger: OpenLedger) -> None:
    harness = open_ledger(ONE)
    (first,) = harness.on_data(("A", "o1", 1))
    harness.versions.apply(TWO, ANA)
    second = [each for each in harness.on_data(("A", "o2", 1)) if each.product == "C"]
    by_hand = harness.ledger.operations.make("B", "o1")
    found = harness.views.processings({}, 100, None).items
    versions = {each.id: each.graph_version for each in found}
    assert versions[first.processing_id] == 1
    assert [versions[each.processing_id] for each in second] == [2]
    assert versions[by_hand.id] == 2
    harness.ledger.operations.cancel(first.processing_id, "not now")
    harness.ledger.operations.retry(first.processing_id)
    retried = harness.views.processing(first.processing_id)
    assert retried is not None
    assert retried.graph_version == 2


def test_a_graph_that_is_put_in_force_decides_for_all_conductors_of_a_database(
    open_ledger: OpenLedger,
) -> None:
    first, second = open_ledger(ONE), open_ledger(ONE)
    if first.engine.dialect.name == "sqlite":
        pytest.skip("one conductor has an SQLite database")
    first.versions.apply(TWO, ANA)
    assert [each.product for each in second.on_data(("A", "o1", 1))] == ["B", "C"]
    assert second.current.number == 2


def test_a_graph_that_another_conductor_has_put_in_force_is_not_told_again(
    open_ledger: OpenLedger,
) -> None:
    first, second = open_ledger(ONE), open_ledger(ONE)
    assert first.versions.apply(TWO, ANA).is_new
    # It knows version 1 until it decides something.
    assert second.current.number == 1
    again = second.versions.apply(TWO, BEN)
    assert (again.version.number, again.is_new) == (2, False)


def test_a_provider_that_is_gone_is_known_to_those_that_follow_what_it_was_asked_for(
    open_ledger: OpenLedger,
) -> None:
    other = {"provider": "other", "url": "http://127.0.0.1:2/pipeline"}
    harness = open_ledger(ONE)
    harness.versions.apply(graph_of(["A"], {"B": {"m_input": ["A"], **other}}), ANA)
    again, _ = open_current_graph(harness.engine, ONE, "graph.json", harness.clock)
    for current in (harness.current, again):
        assert current.urls_of("maker") == ONE.providers["maker"].urls
        assert current.urls_of("other") == (other["url"],)
        assert current.urls_of("nobody") == ()


def test_a_change_that_is_not_committed_changes_nothing(open_ledger: OpenLedger) -> None:
    harness = open_ledger(ONE)

    def fail(*_: object) -> None:
        raise RuntimeError("killed")

    sa.event.listen(harness.engine, "commit", fail)
    with pytest.raises(RuntimeError):
        harness.versions.apply(TWO, ANA)
    sa.event.remove(harness.engine, "commit", fail)
    assert harness.current.number == 1
    assert start(harness, ONE) == (ONE, 1, AtStart.KEPT)
