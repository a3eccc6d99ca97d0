"""What can be claimed from what is available."""

from batuta.conductor.decisions.rules import claims_for, pending_optional_inputs
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
