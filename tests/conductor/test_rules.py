"""What can be claimed from what is available."""

import pytest

from batuta.conductor.decisions.rules import (
    InputTimes,
    claims_for,
    pending_optional_inputs,
    wait_ends_at,
)
from batuta.graph import Graph
from tests.conductor.graphs import diamond, graph_of


def test_a_product_is_claimed_once_all_its_mandatory_inputs_are_there() -> None:
    graph = diamond()
    none_yet = list(claims_for(graph, "o1", ["B"], {"A": 1, "B": 1}))
    now = list(claims_for(graph, "o1", ["C"], {"A": 1, "B": 1, "C": 1}))
    assert none_yet == []
    assert [claim.product.name for claim in now] == ["D"]
    assert now[0].inputs == {"B": 1, "C": 1}


def test_a_product_that_is_there_already_is_not_claimed() -> None:
    assert list(claims_for(diamond(), "o1", ["A"], {"A": 1, "B": 1, "C": 1})) == []


def test_ignoring_updates_gives_one_claim_whatever_the_versions() -> None:
    graph = diamond()
    keys = {
        claim.key
        for version in (1, 2)
        for claim in claims_for(graph, "o1", ["B"], {"B": version, "C": 1})
    }
    assert len(keys) == 1


def test_reprocessing_gives_a_claim_for_each_version_of_an_input() -> None:
    graph = diamond(on_update="reprocess")
    ids = {
        claim.processing_id
        for version in (1, 2)
        for claim in claims_for(graph, "o1", ["B"], {"B": version, "C": 1, "D": 1})
    }
    assert len(ids) == 2


def test_the_same_claim_has_the_same_processing_id_in_every_conductor() -> None:
    first, second = (
        next(iter(claims_for(diamond(), "o1", ["C"], {"B": 1, "C": 1}))).processing_id
        for _ in range(2)
    )
    other = next(iter(claims_for(diamond(), "o2", ["C"], {"B": 1, "C": 1}))).processing_id
    assert first == second != other


def test_only_optional_inputs_that_will_be_made_are_pending() -> None:
    graph = graph_of(
        ["A", "X"],
        {
            "B": {"m_input": ["A"]},
            "N": {"m_input": ["X"]},
            "R": {"m_input": ["A"], "o_input": ["B", "N", "X"]},
        },
    )
    report = graph.products["R"]
    assert pending_optional_inputs(graph, report, {"A": 1}, frozenset()) == ("B",)
    assert pending_optional_inputs(graph, report, {"A": 1, "X": 1}, frozenset()) == ("B", "N")
    assert pending_optional_inputs(graph, report, {"A": 1}, frozenset({"B"})) == ()
    assert pending_optional_inputs(graph, report, {"A": 1, "B": 1}, frozenset()) == ()


def test_what_depends_on_a_failed_product_is_not_pending() -> None:
    graph = graph_of(
        ["A"],
        {
            "B": {"m_input": ["A"]},
            "C": {"m_input": ["B"]},
            "R": {"m_input": ["A"], "o_input": ["C"]},
        },
    )
    assert pending_optional_inputs(graph, graph.products["R"], {"A": 1}, frozenset({"B"})) == ()


IMPROVED = graph_of(
    ["A", "O", "P"], {"R": {"m_input": ["A"], "o_input": ["O", "P"], "on_late": "improve"}}
)


def _keys(graph: Graph, arrived: list[str], available: dict[str, int]) -> list[str]:
    return [claim.key for claim in claims_for(graph, "o1", arrived, available)]


def test_a_late_input_that_improves_a_product_makes_another_claim_for_each_set_of_them() -> None:
    assert _keys(IMPROVED, ["A"], {"A": 1}) == ["once"]
    assert _keys(IMPROVED, ["O"], {"A": 1, "O": 1, "R": 1}) == ["once,O"]
    assert _keys(IMPROVED, ["P"], {"A": 1, "O": 1, "P": 2, "R": 2}) == ["once,O,P"]


def test_what_may_be_improved_is_not_made_again_from_a_newer_mandatory_input() -> None:
    assert _keys(IMPROVED, ["A"], {"A": 2, "O": 1, "R": 1}) == []


def test_late_inputs_that_are_ignored_do_not_make_a_product_again_though_updates_do() -> None:
    graph = graph_of(
        ["A", "O"],
        {
            "R": {
                "m_input": ["A"],
                "o_input": ["O"],
                "on_update": "reprocess",
                "on_late": "ignore",
            }
        },
    )
    (without,) = claims_for(graph, "o1", ["A"], {"A": 1})
    (with_late,) = claims_for(graph, "o1", ["O"], {"A": 1, "O": 1, "R": 1})
    (newer,) = claims_for(graph, "o1", ["A"], {"A": 2, "O": 1, "R": 1})
    assert with_late.processing_id == without.processing_id != newer.processing_id
    assert newer.inputs == {"A": 2, "O": 1}


def test_a_product_is_not_claimed_from_fewer_optional_inputs_than_it_needs() -> None:
    graph = graph_of(
        ["A", "O", "P", "Q"],
        {"R": {"m_input": ["A"], "o_input": ["O", "P", "Q"], "o_min": 2}},
    )
    assert _keys(graph, ["A"], {"A": 1, "Q": 1}) == []
    assert _keys(graph, ["O"], {"A": 1, "Q": 1, "O": 1}) == ["once"]
    assert _keys(graph, ["O"], {"Q": 1, "O": 1}) == []


def test_an_expected_input_is_pending_until_it_arrives_and_so_is_what_is_made_of_it() -> None:
    products: dict[str, dict[str, object]] = {
        "B": {"m_input": ["X"]},
        "R": {"m_input": ["A"], "o_input": ["X", "B"], "o_wait": 60},
    }
    document = graph_of(["A", "X"], products).as_document()
    graph = Graph.parse({**document, "expected": ["X"]})
    report = graph.products["R"]
    assert pending_optional_inputs(graph, report, {"A": 1}, frozenset()) == ("X", "B")
    assert pending_optional_inputs(graph, report, {"A": 1, "X": 1}, frozenset()) == ("B",)
    assert pending_optional_inputs(graph, report, {"A": 1, "X": 1}, frozenset({"B"})) == ()


@pytest.mark.parametrize(
    ("start", "end"), [("complete", 160.0), ("first_input", 100.0), ("last_input", 150.0)]
)
def test_the_wait_for_optional_inputs_counts_from_where_the_graph_says(
    start: str, end: float
) -> None:
    graph = graph_of(
        ["A", "O"],
        {"R": {"m_input": ["A"], "o_input": ["O"], "o_wait": 60, "o_wait_from": start}},
    )
    times = InputTimes(first=30.0, last=90.0)
    assert wait_ends_at(graph.products["R"], times, now=100.0) == end


def test_a_clock_that_was_set_back_does_not_make_the_wait_longer() -> None:
    graph = graph_of(
        ["A", "O"],
        {"R": {"m_input": ["A"], "o_input": ["O"], "o_wait": 60, "o_wait_from": "last_input"}},
    )
    times = InputTimes(first=30.0, last=5000.0)
    assert wait_ends_at(graph.products["R"], times, now=100.0) == 160.0
