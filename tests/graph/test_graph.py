import copy
import json
import pickle
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batuta.graph import Graph, OnUpdate, read_graph
from tests.graph.documents import URL, document, documents, product, small


def available_of(graph: Graph) -> st.SearchStrategy[set[str]]:
    return st.sets(st.sampled_from([*graph.inputs, *graph.products]))


def naive_reachable(graph: Graph, available: set[str]) -> set[str]:
    """Try every product again and again until nothing new can be made."""
    made: set[str] = set()
    while True:
        have = available | made
        now = {
            name
            for name, each in graph.products.items()
            if have.issuperset(each.m_input) and len(have.intersection(each.o_input)) >= each.o_min
        }
        if now == made:
            return made
        made = now


def test_the_keys_of_a_product_are_read_with_their_defaults() -> None:
    graph = Graph.parse(document(["A"], P=product("A")))
    made = graph.products["P"]
    assert (made.m_input, made.o_input, made.provider, made.url) == (("A",), (), "pipeline", URL)
    assert (made.timeout_s, made.max_attempts, made.priority, made.o_wait_s) == (3600, 10, 0, 0)
    assert made.on_update is OnUpdate.IGNORE


def test_the_optional_keys_of_a_product_are_read() -> None:
    options = {"timeout": 5, "max_attempts": 2, "priority": -3, "o_wait": 1.5}
    graph = Graph.parse(document(["A"], P=product("A", **options, on_update="reprocess")))
    made = graph.products["P"]
    assert (made.timeout_s, made.max_attempts, made.priority, made.o_wait_s) == (5, 2, -3, 1.5)
    assert made.on_update is OnUpdate.REPROCESS


def test_a_provider_has_its_url_and_its_limit() -> None:
    graph = Graph.parse(
        {**document(["A"], P=product("A")), "providers": {"pipeline": {"max_concurrent": 4}}}
    )
    provider = graph.providers["pipeline"]
    assert (provider.name, provider.url, provider.max_concurrent) == ("pipeline", URL, 4)


def test_a_provider_without_an_entry_has_no_limit() -> None:
    assert Graph.parse(small()).providers["pipeline"].max_concurrent is None


def test_a_slash_at_the_end_of_a_url_is_the_same_url() -> None:
    graph = Graph.parse(document(["A"], P=product("A"), Q=product("A", url=URL + "/")))
    assert {each.url for each in graph.products.values()} == {URL}


def test_a_graph_is_read_from_json_and_from_yaml_alike(tmp_path: Path) -> None:
    as_json, as_yaml = tmp_path / "graph.json", tmp_path / "graph.yaml"
    as_json.write_text(json.dumps(small()), encoding="utf-8")
    as_yaml.write_text(
        f"""
inputs: [EclTmVhfAlert, EclTmVhfHPLcurve]
products:
  QPO_ECL: &common
    m_input: [EclTmVhfAlert]
    provider: pipeline
    url: {URL}
  QLC_ECL:
    <<: *common
    m_input: [EclTmVhfHPLcurve]
    o_input: [EclTmVhfAlert]
  QSP_ECL: {{<<: *common, m_input: [QLC_ECL], o_input: [QPO_ECL]}}
""",
        encoding="utf-8",
    )
    assert read_graph(as_json) == read_graph(str(as_yaml)) == Graph.parse(small())


def test_a_byte_order_mark_is_no_part_of_a_graph(tmp_path: Path) -> None:
    path = tmp_path / "graph.json"
    path.write_text(json.dumps(small()), encoding="utf-8-sig")
    assert read_graph(path) == Graph.parse(small())


def test_a_graph_knows_its_inputs_and_products_only() -> None:
    graph = Graph.parse(small())
    assert graph.knows("EclTmVhfAlert")
    assert graph.knows("QSP_ECL")
    assert not graph.knows("pipeline")


def test_mandatory_and_optional_inputs_both_feed_a_product() -> None:
    graph = Graph.parse(small())
    assert [each.name for each in graph.fed_by("EclTmVhfAlert")] == ["QPO_ECL", "QLC_ECL"]
    assert graph.fed_by("QSP_ECL") == ()
    assert graph.fed_by("unknown") == ()


def test_a_product_is_ready_once_all_its_mandatory_inputs_are_there() -> None:
    made = Graph.parse(document(["A", "B", "C"], P=product("A", "B", o_input=["C"]))).products["P"]
    assert not made.ready({"A", "C"})
    assert made.ready({"A", "B"})


def test_an_optional_input_that_never_comes_prevents_nothing() -> None:
    graph = Graph.parse(small())
    assert graph.reachable(["EclTmVhfHPLcurve"]) == {"QLC_ECL", "QSP_ECL"}


def test_a_product_imported_by_hand_feeds_the_next_without_being_made() -> None:
    graph = Graph.parse(small())
    assert graph.reachable(["QLC_ECL"]) == {"QSP_ECL"}


def test_what_lacks_is_told_down_to_the_inputs() -> None:
    graph = Graph.parse(
        document(["A", "B", "C"], P=product("B"), Q=product("A", "P", o_input=["C"]))
    )
    assert graph.missing_for("Q", []) == ("A", "B")
    assert graph.missing_for("Q", ["A"]) == ("B",)
    assert graph.missing_for("Q", ["A", "P"]) == ()
    assert graph.missing_for("A", []) == ("A",)
    assert graph.missing_for("A", ["A"]) == ()


def test_an_optional_input_that_can_be_made_makes_the_others_unneeded() -> None:
    final = product("A", o_input=["B", "P"], o_min=1)
    graph = Graph.parse(document(["A", "B"], P=product("A"), Q=final))
    assert graph.reachable(["A"]) == {"P", "Q"}
    assert graph.missing_for("Q", ["A"]) == ()
    assert graph.missing_for("Q", []) == ("A", "B")


def test_what_lacks_for_an_unknown_product_is_an_error() -> None:
    with pytest.raises(KeyError, match="QPO_EC"):
        Graph.parse(small()).missing_for("QPO_EC", [])


def test_levels_start_with_the_inputs_and_keep_the_order_of_the_document() -> None:
    assert Graph.parse(small()).levels() == (
        ("EclTmVhfAlert", "EclTmVhfHPLcurve"),
        ("QPO_ECL", "QLC_ECL"),
        ("QSP_ECL",),
    )


def test_an_input_that_feeds_nothing_is_remarked_and_accepted() -> None:
    graph = Graph.parse(document(["A", "Idle"], P=product("A")))
    assert graph.remarks == ("inputs: 'Idle' feeds no product",)
    assert Graph.parse(small()).remarks == ()


def test_a_graph_without_products_is_remarked() -> None:
    assert "nothing will ever be made" in Graph.parse(document([])).remarks[0]


def test_the_digest_ignores_form_and_defaults_but_no_change_of_meaning() -> None:
    digest = Graph.parse(small()).digest
    assert len(bytes.fromhex(digest)) == 32
    written_out = Graph.parse(small()).as_document()
    assert Graph.parse(json.dumps(written_out, indent=3, sort_keys=True)).digest == digest
    changed = small()
    changed["products"]["QPO_ECL"]["timeout"] = 10
    assert Graph.parse(changed).digest != digest


def test_a_graph_cannot_be_changed() -> None:
    graph = Graph.parse(small())
    products: Any = graph.products
    with pytest.raises(TypeError, match="does not support item assignment"):
        products["QPO_ECL"] = graph.products["QLC_ECL"]
    with pytest.raises(AttributeError):
        graph.inputs = ()  # type: ignore[misc]


def test_the_document_given_is_left_as_it_was_and_not_held() -> None:
    given_document = small()
    before = copy.deepcopy(given_document)
    graph = Graph.parse(given_document)
    assert given_document == before
    given_document["products"]["QPO_ECL"]["m_input"].append("EclTmVhfHPLcurve")
    assert graph == Graph.parse(small())


def test_equal_graphs_have_equal_hashes_and_survive_pickling() -> None:
    graph = Graph.parse(small())
    other = pickle.loads(pickle.dumps(graph))  # noqa: S301 - made on this line
    assert other == graph
    assert len({graph, other}) == 1


def test_a_chain_of_any_length_is_read() -> None:
    length = 20_000
    products = {"P0": product("A")}
    products |= {f"P{rank}": product(f"P{rank - 1}") for rank in range(1, length)}
    graph = Graph.parse(document(["A"], **products))
    assert len(graph.levels()) == length + 1
    assert len(graph.reachable(["A"])) == length
    assert graph.missing_for(f"P{length - 1}", []) == ("A",)


@given(documents())
def test_any_right_document_round_trips(written: dict[str, Any]) -> None:
    graph = Graph.parse(written)
    again = Graph.parse(json.dumps(graph.as_document()))
    assert again == graph
    assert again.digest == graph.digest
    assert list(again.products) == list(graph.products)


@given(documents())
def test_levels_hold_every_name_once_each_right_above_its_highest_source(
    written: dict[str, Any],
) -> None:
    graph = Graph.parse(written)
    level_of = {name: level for level, names in enumerate(graph.levels()) for name in names}
    assert sum(map(len, graph.levels())) == len(level_of)
    assert level_of.keys() == {*graph.inputs, *graph.products}
    for name, made in graph.products.items():
        assert level_of[name] == 1 + max(level_of[source] for source in made.sources)


@given(documents())
def test_fed_by_is_the_reverse_of_the_inputs(written: dict[str, Any]) -> None:
    graph = Graph.parse(written)
    for name in [*graph.inputs, *graph.products]:
        expected = [each for each in graph.products.values() if name in each.sources]
        assert list(graph.fed_by(name)) == expected


@given(st.data())
def test_reachable_is_what_trying_again_and_again_gives(data: st.DataObject) -> None:
    graph = Graph.parse(data.draw(documents()))
    available = data.draw(available_of(graph))
    assert graph.reachable([*available, "unknown"]) == naive_reachable(graph, available)


@given(st.data())
def test_nothing_lacks_exactly_for_what_is_reachable(data: st.DataObject) -> None:
    graph = Graph.parse(data.draw(documents()))
    available = data.draw(available_of(graph))
    reachable = graph.reachable(available)
    for name in graph.products:
        missing = graph.missing_for(name, available)
        assert (missing == ()) == (name in reachable)
        assert name in graph.reachable(available.union(missing))
