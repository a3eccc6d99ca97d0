import json
import re
from itertools import combinations
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given

from batuta.graph import Graph, read_graph
from batuta.graph.show import as_json, as_mermaid, as_svg, as_text
from tests.graph.documents import document, documents, product, small

SVG = "{http://www.w3.org/2000/svg}"


def boxes(picture: str) -> dict[str, ET.Element]:
    """Return the group of each name in a picture."""
    root = ET.fromstring(picture)  # noqa: S314 - made by the code under test
    groups = [group for group in root.iter(f"{SVG}g") if "box" in group.get("class", "")]
    return {group.findtext(f"{SVG}text", ""): group for group in groups}


def edges(picture: str) -> list[ET.Element]:
    root = ET.fromstring(picture)  # noqa: S314 - made by the code under test
    return [path for path in root.findall(f"{SVG}path") if "edge" in path.get("class", "")]


def rectangle(group: ET.Element) -> tuple[float, float, float, float]:
    rect = group.find(f"{SVG}rect")
    assert rect is not None
    left, top, width, height = (float(rect.get(key, "")) for key in ("x", "y", "width", "height"))
    return left, top, left + width, top + height


def test_the_text_tells_levels_sources_providers_and_counts() -> None:
    lines = as_text(Graph.parse(small())).splitlines()
    assert lines[0] == "2 inputs, 3 products, 2 levels, 1 provider"
    assert "  EclTmVhfAlert     feeds QPO_ECL, QLC_ECL" in lines
    assert "  QLC_ECL  pipeline  from EclTmVhfHPLcurve, [EclTmVhfAlert]" in lines
    assert lines.index("level 1") < lines.index("level 2") < lines.index("providers")
    assert "  pipeline  http://pipeline:5000/pipeline  3 products" in lines


def test_the_text_tells_options_only_where_they_are_not_the_default() -> None:
    options = {"timeout": 60, "max_attempts": 3, "priority": 5, "o_wait": 1.5}
    whole = document(["A"], P=product("A", **options, on_update="reprocess"), Q=product("A"))
    told = as_text(Graph.parse({**whole, "providers": {"pipeline": {"max_concurrent": 4}}}))
    assert (
        "(timeout 60 s, at most 3 attempts, priority 5, waits 1.5 s for optional inputs, "
        "on update: reprocess)"
    ) in told
    assert "  Q  pipeline  from A\n" in told
    assert "2 products, at most 4 at a time" in told


def test_the_text_tells_remarks() -> None:
    told = as_text(Graph.parse(document(["A", "Idle"], P=product("A"))))
    assert "Idle  feeds nothing" in told
    assert told.endswith("remarks\n  inputs: 'Idle' feeds no product\n")


def test_the_mermaid_links_mandatory_inputs_solid_and_optional_ones_dotted() -> None:
    chart = as_mermaid(Graph.parse(document(["A:b", "C"], P=product("A:b", o_input=["C"]))))
    ids = {name: key for key, name in re.findall(r'(n\d+)\(?\["([^"]+)"\]', chart)}
    assert chart.startswith("flowchart LR\n")
    assert f"{ids['A:b']} --> {ids['P']}" in chart
    assert f"{ids['C']} -.-> {ids['P']}" in chart
    assert 'lp0["pipeline"]:::p0' in chart


def test_the_json_reads_back_to_the_same_graph() -> None:
    graph = Graph.parse(small())
    assert Graph.parse(as_json(graph)) == graph
    assert json.loads(as_json(graph)) == graph.as_document()


def test_the_svg_has_a_box_per_name_and_a_line_per_source() -> None:
    picture = as_svg(Graph.parse(small()), title="A <small> graph & its levels")
    assert boxes(picture).keys() == {
        "EclTmVhfAlert", "EclTmVhfHPLcurve", "QPO_ECL", "QLC_ECL", "QSP_ECL",
    }  # fmt: skip
    kinds = sorted(edge.get("class", "") for edge in edges(picture))
    assert kinds == ["edge", "edge", "edge", "edge optional", "edge optional"]
    assert "A &lt;small&gt; graph &amp; its levels" in picture


def test_the_svg_stands_alone_in_light_and_in_dark() -> None:
    picture = as_svg(Graph.parse(small()))
    assert "prefers-color-scheme: dark" in picture
    assert not re.findall(r"(?:href|src|url)\s*[=(]", picture)


def test_each_provider_has_its_own_colour_in_the_svg_and_its_legend() -> None:
    products = {f"P{rank}": product("A", provider=f"provider_{rank}") for rank in range(20)}
    picture = as_svg(Graph.parse(document(["A"], **products)))
    fills = {name: group.find(f"{SVG}rect") for name, group in boxes(picture).items()}
    colours = {name: rect.get("fill") for name, rect in fills.items() if rect is not None}
    assert len({colours[name] for name in products}) == 20
    for rank in range(20):
        assert f">provider_{rank}</text>" in picture
        assert picture.count(f'fill="{colours[f"P{rank}"]}"') == 2


@pytest.mark.parametrize("show", [as_text, as_mermaid, as_svg, as_json])
def test_an_empty_graph_is_shown(show: Any) -> None:
    assert show(Graph.parse(document([])))


@given(documents())
def test_no_two_boxes_overlap_and_every_line_goes_right(written: dict[str, Any]) -> None:
    graph = Graph.parse(written)
    picture = as_svg(graph)
    shapes = {name: rectangle(group) for name, group in boxes(picture).items()}
    assert shapes.keys() == {*graph.inputs, *graph.products}
    for (_, first), (_, second) in combinations(shapes.items(), 2):
        apart_across = first[2] <= second[0] or second[2] <= first[0]
        assert apart_across or first[3] <= second[1] or second[3] <= first[1]
    for made in graph.products.values():
        assert all(shapes[source][2] < shapes[made.name][0] for source in made.sources)
    assert len(edges(picture)) == sum(len(made.sources) for made in graph.products.values())


def test_the_missions_graph_is_as_large_and_as_deep_as_its_page_says() -> None:
    graph = read_graph(Path(__file__).parents[2] / "examples/mission/graph.json")
    page = (Path(__file__).parents[2] / "examples/mission/README.md").read_text(encoding="utf-8")
    assert f"{len(graph.products)} products" in page
    assert f"{len(graph.inputs)} inputs" in page
    assert f"{len(graph.providers)} providers" in page
    assert f"{len(graph.levels()) - 1} levels" in page
    assert all(f"`{name}`" in page for name in (*graph.inputs, *graph.products, *graph.providers))


def test_all_of_the_missions_products_can_be_made_from_its_inputs() -> None:
    graph = read_graph(Path(__file__).parents[2] / "examples/mission/graph.json")
    assert graph.reachable(graph.inputs) == graph.products.keys()
    assert graph.remarks == ()
    assert {made.url for made in graph.products.values()} == {"http://127.0.0.1:5000/pipeline"}
    assert "QPO_ECL" in graph.reachable(["EclTmVhfAlert"])
