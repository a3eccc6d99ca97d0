"""What differs between two versions of a graph."""

from typing import Any

import pytest
from hypothesis import given

from batuta.graph import Graph, compare
from batuta.graph.comparison import ChangeKind, GraphChange
from tests.graph.documents import documents, product, small


@given(documents())
def test_a_graph_does_not_differ_from_itself_with_its_defaults_stated(
    document: dict[str, Any],
) -> None:
    graph = Graph.parse(document)
    comparison = compare(graph, Graph.parse(graph.as_document()))
    assert not any([comparison.changes, comparison.startable, comparison.stale, comparison.orphans])


@pytest.mark.parametrize(
    ("key", "value", "old", "stale"),
    [
        ("o_input", [], ["EclTmVhfAlert"], ("QLC_ECL", "QSP_ECL")),
        ("m_input", ["QPO_ECL"], ["EclTmVhfHPLcurve"], ("QLC_ECL", "QSP_ECL")),
        ("priority", 3, 0, ()),
        ("timeout", 5.0, 3600.0, ()),
        ("class", "alert", None, ()),
    ],
)
def test_a_changed_key_is_told_and_makes_stale_only_if_it_says_from_what(
    key: str, value: object, old: object, stale: tuple[str, ...]
) -> None:
    document = small()
    document["products"]["QLC_ECL"][key] = value
    comparison = compare(Graph.parse(small()), Graph.parse(document))
    assert comparison.changes == (
        GraphChange("product", "QLC_ECL", ChangeKind.CHANGED, key, old, value),
    )
    assert comparison.stale == stale


def test_products_of_one_graph_only_can_be_started_or_are_orphans() -> None:
    document = small()
    document["products"]["NEW"] = product("QSP_ECL")
    larger = Graph.parse(document)
    assert compare(Graph.parse(small()), larger).startable == ("NEW",)
    assert compare(larger, Graph.parse(small())).orphans == ("NEW",)
    assert compare(larger, Graph.parse(small())).stale == ()
